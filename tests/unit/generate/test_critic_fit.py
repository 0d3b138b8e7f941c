"""Fitting a critic, and drafts of a model that has one."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import distill
from distill.api import Model
from distill.errors import ParamsError
from distill.generate import critic_fit
from distill.generate.critic_fit import fit_critic
from distill.generate.requests.generation import GenerationRequest, Seeds, generate_sounds
from distill.generate.selection.critic import Critic
from distill.generate.selection.rejection import GeneratedSound
from distill.model_file.format import load_bundle, save_bundle
from unit.tiny import write_prior_model


@pytest.fixture(scope="module", autouse=True)
def few_drafts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(critic_fit, "DRAWN", 24)
        patch.setattr(critic_fit, "LONGEST_SECONDS", 0.5)
        patch.setattr(critic_fit, "FEWEST", 3)
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model with labels whose critic was fitted to it."""
    path = tmp_path_factory.mktemp("critic") / "a.distill"
    write_prior_model(path, labels=["a", "b"])
    bare = distill.load(path)
    assert bare.bundle.reference is not None
    metadata = bare.metadata.model_copy(update={"critic": fit_critic(bare.context, bare.bundle.reference)})
    save_bundle(path, bare.bundle.codec, bare.bundle.prior, metadata, bare.bundle.reference)
    return distill.load(path)


def critic_of(model: Model, **changes: object) -> Critic | None:
    assert model.bundle.reference is not None
    return fit_critic(replace(model.context, critic=None), replace(model.bundle.reference, **changes))


def test_a_critic_follows_from_the_model_and_never_from_recordings_that_are_held_out(model: Model) -> None:
    reference = model.bundle.reference
    assert reference is not None
    assert critic_of(model) == model.metadata.critic
    assert critic_of(model, held_out=reference.codes) == model.metadata.critic
    assert critic_of(model, codes=reference.codes[::-1]) != model.metadata.critic
    assert critic_of(model, codes=reference.codes[:2]) is None


def test_a_sound_is_one_of_its_drafts_whatever_the_number_of_sounds(model: Model) -> None:
    four = model.generate(n=5, seconds=0.3, seed=3, drafts=4)
    alone = model.generate(n=1, seconds=0.3, seed=3, drafts=4)
    np.testing.assert_array_equal(four.codes[0], alone.codes[0])
    request = GenerationRequest(1, 0.3, natural_ending=False)
    attempts = [_draft(model, request, attempt) for attempt in range(4)]
    for number, codes in enumerate(four.codes[:1]):
        assert any(np.array_equal(codes, attempt) for attempt in attempts), number
    first = model.generate(n=5, seconds=0.3, seed=3, drafts=1)
    np.testing.assert_array_equal(first.codes[0], attempts[0])
    assert any(not np.array_equal(*pair) for pair in zip(first.codes, four.codes, strict=True))


def _draft(model: Model, request: GenerationRequest, attempt: int) -> np.ndarray:
    class Later(Seeds):
        def of_sound(self, number: int, _: int) -> int:
            return super().of_sound(number, attempt)

    return generate_sounds(replace(model.context, critic=None), request, Later(3)).sounds[0].codes


def test_drafts_whose_nearest_recording_has_another_label_are_avoided(model: Model) -> None:
    choices = [model.context.choice(4, lambda number: number, label) for label in (0, 1, 2)]
    nearest = {f"{label}/1.wav": _near(f"{label}/1.wav") for label in ("a", "b")}
    avoided = [
        [any(reason.applies(one) for reason in choice.avoided) for one in nearest.values()] for choice in choices
    ]
    assert avoided == [[False, False], [False, True], [True, False]]


def _near(path: str) -> GeneratedSound:
    novelty: Any = SimpleNamespace(verdict="new", spectra=SimpleNamespace(nearest=path))
    return GeneratedSound(np.zeros((1, 1)), novelty, (), np.empty(0, np.float32))


def test_sounds_say_how_many_recordings_score_lower(model: Model) -> None:
    made = model.generate(n=2, seconds=0.3, seed=3)
    rows = made.json([Path("a.wav"), Path("b.wav")])["sounds"]
    shares = [sound.likeness.above for sound in made.draws.sounds if sound.likeness]
    assert [row["above_recordings"] for row in rows] == [round(share, 3) for share in shares]
    assert made.table()["above_recordings"].to_list() == [round(share, 3) for share in shares]
    assert rows[0]["like_recordings"] in made.lines([Path("a.wav"), Path("b.wav")])[0]


def test_takes_say_it_too(model: Model) -> None:
    recording = np.sin(np.arange(8000) * 0.1).astype(np.float32)
    made = model.vary(recording, n=1, strength=0.8, seed=1)
    assert 0 <= made.json([Path("a.wav")])["takes"][0]["above_recordings"] <= 1


def test_a_model_without_a_critic_draws_each_sound_once_and_refuses_several_drafts(tmp_path: Path) -> None:
    write_prior_model(tmp_path / "a.distill")
    plain = distill.load(tmp_path / "a.distill")
    either, one = (plain.generate(n=2, seconds=0.3, seed=3, drafts=drafts) for drafts in (None, 1))
    for first, second in zip(either.codes, one.codes, strict=True):
        np.testing.assert_array_equal(first, second)
    assert "above_recordings" not in one.json([Path("a.wav"), Path("b.wav")])["sounds"][0]
    sentence = (
        "drafts 4: expected a model that learnt enough recordings to choose among drafts, some 10, found a.distill, which has "
        "no critic; leave drafts out"
    )
    with pytest.raises(ParamsError, match=f"^{re.escape(sentence)}$"):
        plain.generate(n=2, seconds=0.3, drafts=4)
    with pytest.raises(ParamsError, match=r"^drafts 2: "):
        plain.vary(np.zeros(4000, np.float32), drafts=2)


def test_a_file_keeps_its_critic(model: Model) -> None:
    assert load_bundle(model.path).metadata.critic == model.metadata.critic
