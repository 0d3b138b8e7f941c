"""The sentence of a verdict, for people who make music."""

import pytest

from distill.novelty.explain import explain
from distill.novelty.verdict import Basis, Novelty, Shared, Verdict


def shared(name: str, likeness: float, percentile: float) -> Shared:
    return Shared(name, 0.0, likeness, 0.75, 0.5, percentile)


def novelty(verdict: Verdict, basis: Basis, start: float = 0.0, percentile: float = 0.986) -> Novelty:
    codes, spectra = shared("a\nb.wav", 0.712, percentile), shared("c.wav", 0.9, 0.25)
    return Novelty(verdict, codes, spectra, start, basis)


UNHEARD = "of the recordings that the model never heard"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            novelty("new", "spectra"),
            f"New: 75 % {UNHEARD} come as close to one that it learned as this sound comes to c.wav",
        ),
        (
            novelty("new", "codes", 8),
            f"New: from 8.0 s on, 1 % {UNHEARD} come as close to one that it learned as this sound comes to a b.wav",
        ),
        (
            novelty("close", "codes"),
            f"Close to a b.wav: 71 % of its codes are the same; 98 % {UNHEARD} are less like any that it learned",
        ),
        (
            novelty("close", "codes", percentile=1),
            f"Close to a b.wav: 71 % of its codes are the same; all {UNHEARD} are less like any that it learned",
        ),
        (
            novelty("close", "spectra"),
            f"Close to c.wav: its spectrum differs by 2.0 dB on average; 25 % {UNHEARD} are less like any that it learned",
        ),
        (novelty("copy", "codes", 2.5), "A copy of a b.wav: from 2.5 s on, 71 % of its codes are the same"),
        (
            novelty("copy", "run"),
            "A copy of a b.wav: 0.75 s in a row, more than half of it, are as in a recording",
        ),
        (
            novelty("copy", "spectra"),
            "A copy of c.wav: its spectrum differs by 2.0 dB on average, as little as a recording differs when it is "
            "coded again",
        ),
    ],
)
def test_the_sentence_names_recording_and_reason(given: Novelty, sentence: str) -> None:
    assert explain(given) == sentence
    assert given.nearest.nearest.replace("\n", " ") in sentence
