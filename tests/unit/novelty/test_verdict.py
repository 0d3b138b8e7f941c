"""Verdicts: copies, in other codes, too; new sounds; long sounds and very short ones."""

import numpy as np
import pytest

from distill.codec.layout import ATOM, NOTE
from distill.codec.model import VQVAE
from distill.novelty.reference import MAX_FRAMES, make_reference, rows
from distill.novelty.scores import Score, with_scores
from distill.novelty.search import Match
from distill.novelty.spectra import NOWHERE
from distill.novelty.verdict import (
    FEW_HELD_OUT,
    LONG_ENOUGH,
    VERDICTS,
    Basis,
    Novelty,
    NoveltyScorer,
    Shared,
    Verdict,
    comparable,
)
from unit.tiny import any_codes, tiny_codec

RNG = np.random.default_rng(0)


def sounds(count: int, frames: int = 50) -> list[np.ndarray]:
    return [any_codes(frames, RNG) for _ in range(count)]


@pytest.fixture(scope="module")
def codec() -> VQVAE:
    return tiny_codec()


@pytest.fixture(scope="module")
def training() -> list[np.ndarray]:
    return sounds(20)


@pytest.fixture(scope="module")
def scorer(codec: VQVAE, training: list[np.ndarray]) -> NoveltyScorer:
    names = [f"r{number}" for number in range(20)]
    return NoveltyScorer(with_scores(make_reference(names, training, sounds(30)), codec), codec)


def test_nearly_copied_sounds_are_called_copies(
    codec: VQVAE, scorer: NoveltyScorer, training: list[np.ndarray]
) -> None:
    queries, compared = [], codec.layout.spectral
    for codes in training:
        copy = codes.copy()
        changed = RNG.choice(len(codes) * len(compared), len(codes) * len(compared) // 20, replace=False)
        copy[changed // len(compared), np.take(compared, changed % len(compared))] = 0
        queries.append(copy)
    found = scorer(queries)
    assert {one.verdict for one in found} == {"copy"}
    assert [one.codes.nearest for one in found] == [f"r{number}" for number in range(20)]
    assert all(one.codes.likeness >= 0.95 and one.codes.percentile == 1 for one in found)


def test_new_sounds_are_not_called_copies(scorer: NoveltyScorer) -> None:
    found = scorer(sounds(60))
    assert "copy" not in {one.verdict for one in found}
    assert sum(one.verdict == "new" for one in found) >= 50
    assert 0.3 < np.mean([one.codes.percentile for one in found]) < 0.7


def test_a_copied_half_is_a_copy_and_located_in_a_long_sound(
    scorer: NoveltyScorer, training: list[np.ndarray], codec: VQVAE
) -> None:
    half, (long,) = np.concatenate([training[3][:30], *sounds(1, 20)]), sounds(1, 2 * MAX_FRAMES)
    assert [one.verdict for one in scorer([half, long])] == ["copy", "new"]
    long[MAX_FRAMES:] = np.tile(training[7], (8, 1))[:MAX_FRAMES]
    (found,) = scorer([long])
    assert found.passage_seconds == pytest.approx(MAX_FRAMES / codec.spectrogram.frame_rate)
    assert found.codes.nearest == "r7"


def test_other_notes_hide_no_copy_and_equal_notes_make_none() -> None:
    """A copy's notes are five semitones lower; another sound has the notes of a recording and all else of its own."""
    codec, rng = tiny_codec(), np.random.default_rng(3)
    sizes = [min(size, 60) for size in codec.architecture.codebook_sizes]
    recordings = [rng.integers(0, sizes, (50, len(sizes))) for _ in range(30)]
    for codes in recordings:
        codes[:, NOTE], codes[:, ATOM] = rng.integers(40, 80), 1
    scorer = NoveltyScorer(with_scores(make_reference(["a", "b"], recordings[:2], recordings[2:]), codec), codec)
    copy, other = recordings[1].copy(), rng.integers(0, sizes, (50, len(sizes)))
    copy[:, NOTE] -= 5
    other[:, NOTE : ATOM + 1] = recordings[0][:, NOTE : ATOM + 1]
    of_copy, of_other = scorer([copy, other])
    assert (of_copy.verdict, of_copy.codes.nearest, of_copy.codes.semitones) == ("copy", "b", -5)
    assert of_copy.json()["codes"]["semitones"] == -5
    assert of_other.codes.likeness < 0.3


def test_another_key_is_no_sign_where_no_held_out_recording_has_notes_near_those_of_others() -> None:
    """Sounds are a whole tone above a recording, and have nothing else of it; held-out recordings are two octaves above."""
    codec, rng = tiny_codec(), np.random.default_rng(4)
    sizes = [min(size, 60) for size in codec.architecture.codebook_sizes]

    def at(note: int) -> np.ndarray:
        codes = rng.integers(0, sizes, (50, len(sizes)))
        codes[:, NOTE], codes[:, ATOM] = note, 1
        return codes

    recordings, held_out, others = ([at(note) for _ in range(20)] for note in (40, 64, 42))
    reference = with_scores(make_reference([str(number) for number in range(20)], recordings, held_out), codec)
    assert not rows(reference.scores)["keys"]["likeness"].any()
    verdicts = [novelty.verdict for novelty in NoveltyScorer(reference, codec)(others)]
    assert verdicts.count("new") >= 15


@pytest.mark.parametrize(("frames", "verdict"), [(LONG_ENOUGH - 1, "close"), (LONG_ENOUGH, "copy")])
def test_spectra_alone_make_no_copy_of_a_short_sound(scorer: NoveltyScorer, frames: int, verdict: str) -> None:
    baseline = np.tile(np.array([frames, 0.3, 2, 0.7, 0.5, 2, 0.5, 0, 0, 1], dtype=np.float32), (30, 1))
    score = Score(frames, codes=Match(0, 0, 0.2, 1, 0.8), spectra=Match(0, 0, 1.0, frames, 0.0), keys=NOWHERE)
    assert scorer.verdict(score, rows(baseline), "codes")[0] == verdict


@pytest.mark.parametrize(("likeness", "verdict", "basis"), [(0.5, "new", "spectra"), (0.7, "close", "codes")])
def test_codes_that_are_equal_by_chance_make_nothing_close(
    scorer: NoveltyScorer, likeness: float, verdict: Verdict, basis: Basis
) -> None:
    """The codes are more alike than those of held-out pieces; spectra are farther, or nearer, than half of theirs."""
    baseline = np.tile(np.array([50, 0.2, 2, 0.9, 0.6, 2, 0.5, 0, 0, 1], dtype=np.float32), (30, 1))
    baseline[20:, 4] = 0.8
    score = Score(50, codes=Match(0, 0, 0.3, 1, 0.8), spectra=Match(0, 0, likeness, 2, 0.9), keys=NOWHERE)
    assert scorer.verdict(score, rows(baseline), "codes") == (verdict, basis)


def test_few_pieces_of_another_length_are_moved_along_the_line_of_all() -> None:
    scores = np.zeros((4, 10), dtype=np.float32)
    scores[:, 0] = 10, 20, 40, 80
    scores[:, 4], scores[:, 6] = [0.8, 0.7, 0.6, 0.5], [0.6, 0.7, 0.8, 0.9]  # in spectra: likeness and edits
    for frames, likeness, edits in ((20, 0.7, 0.7), (80, 0.5, 0.9), (5, 0.8, 0.6), (1000, 0.5, 0.9)):
        moved = comparable(rows(scores), frames)["spectra"]
        assert moved["likeness"] == pytest.approx([likeness] * 4)
        assert moved["edit_distance"] == pytest.approx([edits] * 4)


def test_sounds_are_judged_by_pieces_about_as_long() -> None:
    scores = np.zeros((60, 10), dtype=np.float32)
    scores[:, 0] = np.repeat([5, 50, 500], 20)
    assert set(comparable(rows(scores), 60)["frames"]) == {50}
    assert set(comparable(rows(scores), 1)["frames"]) == {5}
    assert len(comparable(rows(scores[:3]), 1000)) == 3


def novelty(
    verdict: Verdict,
    basis: Basis,
    start: float = 0.0,
    percentile: float = 0.986,
    semitones: int = 0,
    held_out: int = FEW_HELD_OUT,
) -> Novelty:
    codes = Shared("a\nb.wav", 0.0, 0.712, 0.75, 0.5, percentile, semitones)
    spectra = Shared("c.wav", 0.0, 0.9, 0.75, 0.5, 0.25, semitones)
    return Novelty(verdict, codes, spectra, start, held_out, basis)


UNHEARD = "of the recordings that the model never heard"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            novelty("new", "spectra", semitones=-3),
            f"New: 75 % {UNHEARD} come as close to one that it learned as this sound comes to c.wav",
        ),
        (
            novelty("close", "codes", 8),
            f"Close to a b.wav: from 8.0 s on, 71 % of its codes are the same; 1 % {UNHEARD} come as close to any that it "
            "learned",
        ),
        (
            novelty("close", "codes", percentile=1),
            f"Close to a b.wav: 71 % of its codes are the same; none {UNHEARD} come as close to any that it learned",
        ),
        (
            novelty("close", "spectra", percentile=1),
            f"Close to c.wav: its spectrum differs by 2.0 dB on average; 75 % {UNHEARD} come as close to any that it "
            "learned",
        ),
        (
            novelty("close", "spectra", semitones=-3),
            f"Close to c.wav, three semitones lower: its spectrum differs by 2.0 dB on average; 75 % {UNHEARD} come as "
            "close to any that it learned",
        ),
        (
            novelty("copy", "codes", semitones=1),
            "A copy of a b.wav, one semitone higher: 71 % of its codes are the same",
        ),
        (novelty("copy", "codes", 2.5), "A copy of a b.wav: from 2.5 s on, 71 % of its codes are the same"),
        (novelty("copy", "run"), "A copy of a b.wav: 0.75 s in a row, more than half of it, are as in a recording"),
        (
            novelty("copy", "spectra"),
            "A copy of c.wav: its spectrum differs by 2.0 dB on average, as little as a recording differs when it is "
            "coded again",
        ),
    ],
)
def test_the_sentence_names_recording_and_reason(given: Novelty, sentence: str) -> None:
    assert given.explanation == sentence
    assert given.nearest.nearest.replace("\n", " ") in sentence


def test_a_verdict_in_some_words_names_the_recording_and_says_where_too_few_tell() -> None:
    assert [novelty(verdict, "spectra").short for verdict in VERDICTS] == [
        "Copy. Nearest: c",
        "Close. Nearest: c",
        "New. Nearest: c",
    ]
    few = novelty("new", "spectra", held_out=3)
    assert few.short == "New? Nearest: c. Too few to tell well"
    assert few.explanation == (
        "New: it comes no closer to c.wav than the nearest of 3 recordings that the model never heard to one that it "
        "learned; 3 recordings held out are too few to tell well"
    )
    assert novelty("new", "spectra", held_out=1).explanation == (
        "New: it comes no closer to c.wav than the one recording that the model never heard to one that it learned; "
        "1 recording held out is too few to tell well"
    )
    assert "too few" not in novelty("new", "spectra").explanation


def test_the_percentile_of_a_new_sound_is_that_of_the_space_that_decided() -> None:
    """Codes of some noise are nearer than those of all held-out recordings: as 100 % it would seem a copy."""
    denied = novelty("new", "spectra", percentile=1)
    assert (denied.percentile, denied.json()["percentile"]) == (0.25, 0.25)
    assert denied.explanation.startswith(f"New: 75 % {UNHEARD}")
    assert novelty("close", "spectra", percentile=1).percentile == 1
    assert novelty("new", "codes", percentile=0.9).percentile == 0.9


def test_a_judge_counts_its_held_out_recordings(codec: VQVAE, training: list[np.ndarray]) -> None:
    for count, is_sure in ((FEW_HELD_OUT - 1, False), (FEW_HELD_OUT, True)):
        few = make_reference(["a", "b"], training[:2], sounds(count, 20))
        (found,) = NoveltyScorer(with_scores(few, codec), codec)(sounds(1, 20))
        assert (found.held_out, found.is_sure) == (count, is_sure)
