"""Constants of `distill.codec` that change results, for experiments to vary.

Values that depend on a corpus or on taste are in `params.yaml`; limits of memory or time stand where they are used.
"""

# Training.
BETAS = (0.8, 0.99)
WARMUP_STEPS = 50
AVERAGE = 0.995  # decay of the weights' moving average; a plain mean in the first 200 steps

# The decoder's losses.
DRAWS = 2  # outputs per sound in training, each with its own noise
REPULSION = 0.7  # weight of the distance between two outputs, which the other terms would shrink
# Weights of the errors of envelope and level, relative to the mel distance.
ENVELOPE_SHARE, LEVEL_SHARE = 3.0, 1.0
ENVELOPE_SECONDS, LEVEL_SECONDS = 0.002, 0.04  # lengths of their windows
LONG_SHARE = 3.0  # weight of the distance of long spectra
LOUD_SHARE = 0.7  # proportion of the level weights that follows the window's amplitude

# The fit to a corpus, before training.
VIEWS = 8  # pieces per recording: the original, and shifted copies with other gain and speed
# Candidate augmentation strengths: 0 only shifts, 1 uses the whole range.
STRENGTHS = (0.0, 0.3, 1.0)
GAIN_RANGE_DB = (-8.0, 2.0)  # gain range of the augmentation at strength 1

# Codes.
PLAIN_REACH = 1  # frames to each side over which decoding smooths the first spectral level
DEAD_CODE_SHARE = 0.2  # relative to the number of latents per codeword under uniform use
FIT_ROUNDS = 5  # rounds that alternate between codes and codewords
FIT_WEIGHT = 5.0  # in the joint fit, a codeword's current value counts as this number of latents
# Penalty on squared weights, relative to the codewords' energy; favours wide kernels.
KERNEL_RIDGE = 0.02
BEAM_SIZE = 8  # candidates kept from level to level in the search for codes
ROUNDS = 2  # repeated searches of each frame's codes, given its neighbours
