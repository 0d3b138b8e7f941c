"""What a method assumes of sound in `distill.generate`: constants that change results, and that an experiment may turn.

What depends on a corpus or on taste is in `params.yaml`; what only bounds memory or time is where it is used.
"""

# Faults of a sound.
COMMON = 0.99  # share of the training recordings that are within the limits
STILL_DB = 2.0  # root mean square over bands, up to which a spectrum stands still
FLOOR_DB = 60.0  # below the loudest band or frame: what is softer is not heard beside it
RETURN_DB = 20.0  # that a sound falls and rises again to count as started again
ENDED_DB = 40.0  # below the loudest frame: a sound that is softer at its end has ended, however soft recordings end
SOFTER_DB = 12.0  # than the loudest frame of the softest recording: where a sound has not started yet
SLACK = 1.5  # limits on times and rates are exceeded by more than this factor
SLACK_FRAMES = 5  # the same for limits on frames
SLACK_DB = 6.0  # and on levels

# Sounds.
FADE_SECONDS = 0.005  # at both ends of a sound
PEAK = 0.98  # largest amplitude: louder sounds are made softer
MOST_DRAWS = 20  # attempts at a sound that is not new enough, or faulty

# Variations.
RUN_FRAMES = 8  # frames over which the choice of what is kept is smoothed
COARSE_FROM = 0.5  # strength from which the coarsest level is drawn again; the finest is drawn again in all frames
PULL = 3.0  # exponent of the pull to the recording's code at strength 0 and the mean distance of two codewords
