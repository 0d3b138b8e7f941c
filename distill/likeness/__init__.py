"""How like the recordings that a model learnt a sound is, in codes and in spectra."""
