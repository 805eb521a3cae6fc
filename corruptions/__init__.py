"""Damage to pictures, seeded: thirteen of any strength in `damages`, and the 47 of CODE's paper in `catalogue`."""
