"""Pixel-space diffusion models to restore with: bundled folders in diffusers layout, their loading and conversion."""
