"""Synthetic sounds, and the training on them that the shipped weights come from."""
