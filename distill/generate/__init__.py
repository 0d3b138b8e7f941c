"""Sampling from a bundle, and how new what it made is."""
