"""How new a sound is: alignment with the recordings that a model learnt, in codes and in spectra, and the verdict."""
