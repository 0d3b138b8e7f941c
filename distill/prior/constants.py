"""What a method assumes of sound in `distill.prior`: constants that change results, and that an experiment may turn.

What depends on a corpus or on taste is in `params.yaml`; what only bounds memory or time is where it is used.
"""

# Training.
BETAS = (0.9, 0.95)
MIXTURE_RATE = 10.0  # factor of the learning rate of scores and weights, which have far to go and are few
RATE_DROPS = 2  # from pretrained weights: how soon they are unlearnt depends on the recordings
PRETRAINED_MIXTURE_RATE = 3.0  # the same where they were pretrained
LABEL_RATE = 10.0  # factor of the learning rate of label embeddings: few windows train each
PRETRAINED_LABEL_RATE = 60.0  # its other rates are lower

# Counts.
TRUST = 4.0  # how often a context must have occurred to count as much as what is known without it
PRIOR_COUNT = 1.0  # of all codes together, before any was counted
CACHE_DECAYS = (0.8, 0.97)  # of a recording's own codes, each frame
CACHE_TRUST = 0.5  # as TRUST, of these

# Labels of a pretrained prior.
LABEL_GAIN = 3.0  # of labels' vectors: their recordings are less alike than those of one instrument of pre-training
