"""Assumptions on sound in `distill.codec`: constants that change results, and that experiments may turn.

Values that depend on a corpus or on taste are in `params.yaml`; bounds of memory or time are where they are used.
"""

# Training.
BETAS = (0.8, 0.99)
WARMUP_STEPS = 50
AVERAGE = 0.995  # decay of the weights' moving average; before 200 steps all weigh the same

# The decoder's losses.
DRAWS = 2  # of the decoder's noise, in training
REPULSION = 0.7  # weight of the distance between two draws, which a loss of their distance to the sound would shrink
ENVELOPE_SHARE, LEVEL_SHARE = (
    3.0,
    1.0,
)  # weights of the errors of envelope and level, relative to the mel distance
ENVELOPE_SECONDS, LEVEL_SECONDS = 0.002, 0.04  # of their windows
LONG_SHARE = 3.0  # weight of the distance of long spectra
LOUD_SHARE = 0.7  # share of the weights of levels that is proportional to the window's amplitude

# The fit to a corpus, before training.
VIEWS = 8  # of each recording: as it is, and shifted, louder or softer, faster or slower
STRENGTHS = (
    0.0,
    0.3,
    1.0,
)  # candidates for the strength of the augmentation: 0 only shifts, 1 the whole range
GAIN_RANGE_DB = (-8.0, 2.0)  # of the augmentation at its whole strength

# Codes.
PLAIN_REACH = 1  # frames to either side over which the first shape level is smoothed in decoding
DEAD_CODE_SHARE = 0.2  # of the latents that a codeword has when all are used alike
FIT_ROUNDS = 5  # of codes and codewords in turn
FIT_WEIGHT = 5.0  # latents' worth of trust in a codeword as it is when all are fitted together
KERNEL_RIDGE = 0.02  # of the codewords' energy on squared weights: in doubt a kernel is wide
BEAM_SIZE = 8  # candidates that the search for codes keeps from level to level
ROUNDS = 2  # how often each frame's codes are searched again, given its neighbours'
