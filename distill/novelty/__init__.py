"""Novelty of sounds: alignment with the training recordings in codes and in spectra, and the verdict."""
