"""Scores: timed notes, read from MIDI files or from patterns of hits."""
