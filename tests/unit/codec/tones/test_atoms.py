"""Sets of partials: those that are shipped, and those that are found in recordings."""

import numpy as np
import pytest
import torch
from torch import Tensor

from distill.codec.model import VQVAE
from distill.codec.tones.atoms import CHORDS, PartialSet, fit_sets, set_partials, shipped_sets
from distill.codec.tones.layer import PARTIALS
from unit.codec.tonal import padded, sound_of, untrained

SHIPPED = shipped_sets()
SPARE = 3
STRANGE = PartialSet(np.array([1.0, 1.37, 2.11, 2.93, 4.3]), np.array([1.0, 0.8, 0.9, 0.5, 0.4]))


def given(codec: VQVAE, sound: Tensor) -> tuple[Tensor, Tensor]:
    """A sound as `fit_sets` takes it."""
    audio, spare = padded(codec, sound), codec.margin - codec.spectrogram.margin
    log_mel = codec.frame_features.log_mel(audio[:, spare : audio.shape[1] - spare])[0]
    return audio[0], log_mel.unflatten(0, (-1, codec.spectrogram.stack)).mean(dim=1)


@torch.no_grad()
def found_in(sounds: list[Tensor], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Ratios and amplitudes `[SPARE, K]` of the sets that are found."""
    codec = untrained(spare_sets=SPARE)
    generator = torch.Generator().manual_seed(seed)
    fit_sets(codec.tone, codec.pitch, [given(codec, sound) for sound in sounds], generator)
    expected = untrained().tone
    assert torch.equal(codec.tone.ratios[:-SPARE], expected.ratios)
    return codec.tone.ratios[-SPARE:], codec.tone.amplitudes[-SPARE:]


def test_shipped_sets_rise_and_chords_hold_their_notes() -> None:
    assert all(len(ratios) == len(loud) <= PARTIALS and (np.diff(ratios) > 0).all() for ratios, loud in SHIPPED)
    assert len({tuple(ratios) for ratios, _ in SHIPPED}) == len(SHIPPED)
    for steps, (ratios, _) in zip(CHORDS, SHIPPED[-len(CHORDS) :], strict=True):
        cents = 1200 * np.abs(np.log2(ratios[:, None] / 2 ** (np.array([0, *steps]) / 12)))
        assert cents.min(axis=0).max() <= 25, steps


def test_of_too_many_partials_the_loudest_are_kept_and_further_sets_are_empty() -> None:
    codec = untrained(spare_sets=SPARE)
    loud = np.tile([0.5, 2.0], PARTIALS)
    set_partials(codec.tone, [PartialSet(np.arange(1.0, 2 * PARTIALS + 1), loud)], len(SHIPPED))
    ratios, amplitudes = codec.tone.ratios[-SPARE:], codec.tone.amplitudes[-SPARE:]
    assert ratios[0].tolist() == list(range(2, 2 * PARTIALS + 1, 2))
    assert amplitudes[0].tolist() == [1.0] * PARTIALS
    assert not bool(ratios[1:].any() or amplitudes[1:].any())


def test_a_set_that_is_not_shipped_is_found() -> None:
    ratios, amplitudes = found_in([sound_of(STRANGE, pitch) for pitch in (50.3, 57.0, 64.2, 69.0)])
    kept = int((ratios[0] > 0).sum())
    cents = 1200 * np.log2(ratios[0, :kept].double().numpy() / STRANGE.ratios)
    assert np.abs(cents).max() < 6
    assert np.abs(amplitudes[0, :kept].numpy() - STRANGE.amplitudes).max() < 0.15


def test_partials_of_a_set_do_not_count_one_peak_twice() -> None:
    """A sine would be taken for the sound whose two partials are near to it."""
    pair = PartialSet(np.array([1.0, 2.76, 4.97, 5.03]), np.array([0.5, 0.3, 1.0, 0.9]))
    ratios, _ = found_in([sound_of(pair, pitch) for pitch in (78.0, 80.3, 83.0)])
    found = ratios[0][ratios[0] > 0].log2() * 1200
    assert len(found) >= 3
    assert float(found.diff().min()) > 37.5


@pytest.mark.parametrize(
    "sounds",
    [
        [torch.randn(9000, generator=torch.Generator().manual_seed(seed)) * 0.1 for seed in range(3)],
        [torch.zeros(9000)],
        [torch.where(torch.arange(9000) % 2500 == 0, 0.9, 0.0)],
    ],
    ids=["noise", "silence", "clicks"],
)
def test_where_nothing_is_tonal_sets_stay_empty(sounds: list[Tensor]) -> None:
    assert not bool(found_in(sounds)[0].any())


def test_equal_recordings_and_seeds_give_equal_sets() -> None:
    sounds = [sound_of(STRANGE, pitch) for pitch in (52.0, 60.0)] + [sound_of(SHIPPED[6], 64)]
    one, other = found_in(sounds), found_in(sounds)
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert bool(one[0].any())
