"""Reports on sets of sounds: verdicts, lengths, diversity, and what is said of these."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from distill.audio.partials import find_partials, steadiness
from distill.codec.streaming import decode
from distill.novelty.reference import COLUMNS, MAX_FRAMES, make_reference
from distill.novelty.report import diversity, report_on
from distill.novelty.scores import sound_statistics, with_scores, with_sound
from distill.novelty.verdict import NoveltyScorer
from unit.tiny import any_codes, tiny_codec

SINE_AND_NOISE = (np.sin(np.arange(8000) * 0.2), np.random.default_rng(0).standard_normal(8000))


def test_diversity_counts_different_sounds() -> None:
    rng = np.random.default_rng(0)
    kinds = rng.normal(0, 100, (4, 8))
    held_out, training = (rng.normal(0, 100, (40, 8)) for _ in range(2))
    found, baseline = diversity(np.repeat(kinds, 5, axis=0), held_out, training, 0) or (0, 0)
    assert 2 < found < 4.01 < 1.5 * found < baseline
    assert (diversity(np.repeat(kinds[:1], 20, axis=0), held_out, training, 0) or (0,))[0] == pytest.approx(1)
    assert diversity(kinds, held_out[:1], training, 0) is None


def test_statistics_see_level_variation_change_and_slope() -> None:
    steady = np.ones((9, 2), np.float32)
    falling = np.linspace(8, 0, 9, dtype=np.float32)[:, None].repeat(2, axis=1)
    one, two = sound_statistics([steady, falling])
    np.testing.assert_allclose(one, [1, 1, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(two, [4, 4, falling[:, 0].std(), falling[:, 0].std(), 1, 1, 6, 6], rtol=1e-6)
    assert sound_statistics([steady[:1]]).shape == (1, 8)


def test_held_out_recordings_sound_as_the_reference_says_unless_they_are_cut() -> None:
    """They are measured once: to decode them for each report takes longer than to make the sounds."""
    rng, codec = np.random.default_rng(0), tiny_codec()
    codes = [any_codes(frames, rng) for frames in (50, 40, 60, 30, 45, 55)]
    made = make_reference([str(number) for number in range(6)], codes, codes[::-1])
    kept = with_sound(with_scores(made, codec), codec)
    changed = replace(kept, heard=np.ones((6, COLUMNS["heard"])), held_out_statistics=1 + kept.held_out_statistics)
    judges = [NoveltyScorer(reference, codec) for reference in (kept, changed)]
    novelty = judges[0](codes)
    whole, told = (report_on(scorer, codes, [1.0] * 6, novelty, 0) for scorer in judges)
    assert whole.motion == whole.motion_held_out != {}
    assert whole.tonal_rate_held_out == whole.tonal_rate < 1.0
    assert (told.tonal_rate_held_out, told.motion_held_out["flatness"].value) == (1.0, 1.0)
    assert (told.tonal_rate, told.motion) == (whole.tonal_rate, whole.motion)
    cut, cut_again = (report_on(scorer, codes, [1.0] * 6, novelty, 0, max_frames=20) for scorer in judges)
    assert cut.motion_held_out == cut_again.motion_held_out == cut.motion != whole.motion
    assert told.diversity != whole.diversity
    assert cut.diversity == cut_again.diversity != whole.diversity


def test_the_report_counts_verdicts_and_says_what_sounds_are_like() -> None:
    rng, codec = np.random.default_rng(0), tiny_codec()
    training, held_out, new = (
        [any_codes(frames, rng) for _ in range(count)] for count, frames in ((20, 50), (30, 50), (9, 40))
    )
    reference = with_sound(with_scores(make_reference([str(n) for n in range(20)], training, held_out), codec), codec)
    scorer, queries = NoveltyScorer(reference, codec), [*training[:3], *new]
    novelty = scorer(queries)
    made = report_on(scorer, queries, [0.5] * 11 + [99.0], novelty, 0, originals=SINE_AND_NOISE)
    counts = [[one.verdict for one in novelty].count(verdict) for verdict in ("new", "close", "copy")]
    assert (made.sounds, [made.new, made.close, made.copies]) == (12, counts)
    assert counts[2] >= 3
    assert made.mean_percentile_codes == pytest.approx(np.mean([one.codes.percentile for one in novelty]))
    longest = MAX_FRAMES / codec.spectrogram.frame_rate
    assert (made.seconds, made.mean_seconds) == (pytest.approx(104.5), pytest.approx((5.5 + longest) / 12))
    some = replace(made, mean_percentile_codes=0.01, mean_percentile_spectra=0.6)
    assert (
        "; on average newer than 99% of held-out recordings in codes, 40% in spectra (50 %: as new as these)"
        in some.lines[0]
    )
    assert (made.held_out, made.json()["held_out"]) == (30, 30)
    few = replace(some, held_out=1)
    assert few.lines[0].endswith(f"{made.copies} copies; judged by 1 held-out recording, too few to tell well")
    assert "%" not in few.lines[0]
    assert made.held_out_mean_seconds == pytest.approx(50 / codec.spectrogram.frame_rate)
    assert {"diversity", "diversity_of_recordings"} <= set(made.metrics())
    decoded = [decode(codec, torch.from_numpy(codes)[None])[0].numpy() for codes in queries]
    tonal = [steadiness(find_partials(sound, codec.spectrogram.sample_rate)).is_tonal for sound in decoded]
    rates = {"tonal_rate": np.mean(tonal), "tonal_rate_originals": 0.5}
    assert rates.items() <= made.metrics().items()
    assert replace(made, tonal_rate=0.1, tonal_rate_held_out=0.25).lines[2] == (
        "tonal, with most energy in partials that last: 10% of the sounds; of held-out recordings 50% as they were, 25% decoded from their codes"
    )
    alone = report_on(scorer, queries[:1], [0.5], novelty[:1], 0)
    assert (alone.diversity, alone.tonal_rate_originals) == (None, None)
    assert not any("diversity" in line for line in alone.lines)
