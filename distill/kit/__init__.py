"""Kits: instruments for samplers, made of generated sounds."""
