"""Scores: a library that is searched in parts gives those of a whole one."""

import numpy as np
import pytest
from unit.tiny import tiny_codec

from distill.novelty import lag_search, scoring
from distill.novelty.alignment import Match
from distill.novelty.index import CodeIndex, Index, match_in_parts
from distill.novelty.lag_search import BEST_GROUPS, Candidates, best_candidates, candidate_lags
from distill.novelty.reference import make_reference
from distill.novelty.scoring import Likeness, part_cuts, with_scores

RNG = np.random.default_rng(0)


def sounds(count: int, frames: int = 50) -> list[np.ndarray]:
    return [RNG.integers(0, 8, (int(length), 3)) for length in RNG.integers(frames // 2, frames, count)]


def test_parts_hold_all_recordings_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "PART_FRAMES", 100)
    assert part_cuts([40, 60, 1, 300, 5]) == [0, 2, 4, 5]
    assert part_cuts([40]) == [0, 1]


def test_a_library_in_parts_is_searched_as_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    recordings, codec = [codes.astype(np.uint16) for codes in sounds(40)], tiny_codec()
    queries = [*sounds(12), recordings[3].copy(), np.concatenate([recordings[39][:20], recordings[0][5:]])]
    whole = Likeness(codec, recordings).scores(queries)
    assert whole[12].codes.recording == 3
    assert whole[12].codes.likeness == 1
    monkeypatch.setattr(scoring, "PART_FRAMES", 250)
    monkeypatch.setattr(scoring, "MOST_KEPT", 2)
    in_parts = Likeness(codec, recordings)
    assert in_parts.scores(queries) == whole
    assert in_parts.scores(queries[::-1]) == whole[::-1]
    assert in_parts.scores([]) == []


def test_copies_are_found_in_a_library_too_long_to_try_all_lags(monkeypatch: pytest.MonkeyPatch) -> None:
    recordings, codec = [codes.astype(np.uint16).repeat(6, axis=0) for codes in sounds(80, 20)], tiny_codec()
    queries = [recordings[number][4:] for number in range(0, 80, 9)]
    monkeypatch.setattr(lag_search, "EXHAUSTIVE", 0)
    whole = Likeness(codec, recordings).scores(queries)
    monkeypatch.setattr(scoring, "PART_FRAMES", 900)
    found = Likeness(codec, recordings).scores(queries)
    assert [(one.codes, one.spectra) for one in found] == [(one.codes, one.spectra) for one in whole]
    assert [one.spectra.recording for one in found] == list(range(0, 80, 9))
    assert {one.codes.offset for one in found} == {4}


def test_only_what_is_best_of_all_parts_is_aligned() -> None:
    rng = np.random.default_rng(0)
    parts = [
        Candidates(rng.normal(size=(5, BEST_GROUPS)).astype(np.float32), np.full((5, BEST_GROUPS), number))
        for number in range(3)
    ]
    parts[1].scores[2] = -np.inf  # a part without any
    kept = best_candidates(parts)
    scores = np.concatenate([part.scores for part in kept], axis=1)
    best = np.sort(np.concatenate([part.scores for part in parts], axis=1), axis=1)[:, -BEST_GROUPS:]
    assert ((scores > -np.inf).sum(axis=1) == BEST_GROUPS).all()
    np.testing.assert_array_equal(np.sort(scores, axis=1)[:, -BEST_GROUPS:], best)
    few = [Candidates(np.full((1, BEST_GROUPS), -np.inf, np.float32), np.zeros((1, BEST_GROUPS), np.int64))] * 2
    assert candidate_lags(best_candidates(few)[0], 10**6, [20], 2)[0].tolist() == []


def test_indexes_of_few_parts_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    class Counted(CodeIndex):
        def __init__(self, *arguments: object) -> None:
            made.append(1)
            super().__init__(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(scoring, "PART_FRAMES", 250)
    monkeypatch.setattr(scoring, "MOST_KEPT", 2)
    monkeypatch.setattr(scoring, "CodeIndex", Counted)
    recordings = [codes.astype(np.uint16) for codes in sounds(40)]
    parts = len(part_cuts(list(map(len, recordings)))) - 1
    likeness = Likeness(tiny_codec(), recordings)
    likeness.scores(sounds(1))
    in_codes = len(made)
    likeness.scores(sounds(1))
    assert parts > 2
    assert len(made) > in_codes > 0
    assert set(likeness._kept) == {(of_spectra, part) for of_spectra in (False, True) for part in (0, 1)}


def test_of_equals_the_first_is_best_and_the_run_is_the_longest_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Match(1, 0, 0.2, 9, 0.1), Match(0, 5, 0.4, 3, 0.7), Match(1, 5, 0.4, 4, 0.2)]
    parts = [CodeIndex([np.zeros((4, 2), np.uint16)] * 2) for _ in found]
    matches = {id(part): match for part, match in zip(parts, found, strict=True)}

    def align(part: Index, sounds: object, candidates: object) -> list[Match | None]:  # noqa: ARG001
        return [matches[id(part)]]

    monkeypatch.setattr(Index, "align", align)
    assert match_in_parts(parts.__getitem__, [0, 2, 4], [np.zeros((4, 2), np.int64)]) == [Match(2, 5, 0.4, 9, 0.7)]


def test_pieces_of_held_out_recordings_and_reencoded_ones_have_scores_of_their_own() -> None:
    training, held_out = [codes[:45] for codes in sounds(20, 100)], sounds(2)
    held_out[:] = [held_out[0][:25], held_out[1][:24]]
    reference = with_scores(make_reference([str(number) for number in range(20)], training, held_out), tiny_codec())
    assert reference.scores[:, 0].tolist() == [25, 12, 6, 24, 12, 6]
    assert reference.reencoded[:, 0].tolist() == pytest.approx([45] * 20, abs=1)
