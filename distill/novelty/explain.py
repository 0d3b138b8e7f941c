"""A verdict as one sentence for people who make music, the same on the terminal and on pages."""

from distill.novelty.verdict import Novelty
from distill.text import one_line

LONGEST_NAME = 200  # characters
UNHEARD = "of the recordings that the model never heard"


def explain(novelty: Novelty) -> str:
    """One sentence: how new a sound is, beside which training recording, and why it was judged so."""
    name = one_line(novelty.nearest.nearest, LONGEST_NAME)
    part = f"from {novelty.passage_seconds:.1f} s on, " if novelty.passage_seconds else ""
    share = novelty.nearest.percentile
    if novelty.verdict == "new":
        as_close = max(1, round(100 * (1 - share)))
        return f"New: {part}{as_close} % {UNHEARD} come as close to one that it learned as this sound comes to {name}"
    if novelty.verdict == "close":
        less = f"all {UNHEARD}" if share == 1 else f"{int(100 * share)} % {UNHEARD}"
        return f"Close to {name}: {part}{_likeness(novelty)}; {less} are less like any that it learned"
    return f"A copy of {name}: {part}{_copied(novelty)}"


def _likeness(novelty: Novelty) -> str:
    if novelty.judged_by == "spectra":
        return f"its spectrum differs by {novelty.spectra.difference_db:.1f} dB on average"
    return f"{100 * novelty.codes.likeness:.0f} % of its codes are the same"


def _copied(novelty: Novelty) -> str:
    if novelty.judged_by == "run":
        return f"{novelty.codes.copied_seconds:.2f} s in a row, more than half of it, are as in a recording"
    if novelty.judged_by == "spectra":
        return f"{_likeness(novelty)}, as little as a recording differs when it is coded again"
    return _likeness(novelty)
