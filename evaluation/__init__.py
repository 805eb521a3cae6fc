"""How restorations are judged."""
