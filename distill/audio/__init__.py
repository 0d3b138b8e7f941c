"""Recordings: reading, scanning, deduplication, the corpus on disk, augmentation, writing and plots."""
