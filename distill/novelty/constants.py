"""What a method assumes of sound in `distill.novelty`: constants that change results, and that an experiment may turn.

What depends on a corpus or on taste is in `params.yaml`; what only bounds memory or time is where it is used.
"""

# The verdict.
SURELY_COPIED = 0.94  # share of equal codes that is a copy in any corpus
CLOSE_PERCENTILE = 0.975  # of held-out recordings, in each of the two spaces
REENCODED_QUANTILE = 0.5  # of re-encoded recordings' likeness to themselves
FEW_EDITS = 0.1  # share of frames
LONG_ENOUGH = 12  # frames from which spectra alone can show a copy: many short sounds are alike
SIMILAR_LENGTH = 1.5  # largest ratio of lengths in the baseline
MIN_BASELINE = 20  # pieces, of other lengths if need be

# Spectra.
UNLIKE_DB = 20.0  # spectral difference at which the similarity of two frames is 0
ALIKE_DB = 3.0  # spectral difference up to which frames match: that of a recording and its re-encoded self
MOST_GAIN_DB = 12.0  # largest gain of an alignment, up or down

# The baseline of re-encoded recordings.
SHORTEST = 6  # frames of the shortest piece in the baseline
SOFTER = 0.7  # gain before re-encoding
