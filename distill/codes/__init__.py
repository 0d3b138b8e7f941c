"""Codes on disk, their order as tokens, and the split into training and held-out recordings."""
