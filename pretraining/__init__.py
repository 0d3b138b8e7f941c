"""Pre-training on synthetic sounds, which made the shipped weights."""
