"""Sounds and variations: exact lengths, clean ends, no clipping, the same for the same seed; what is kept stays."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.audio.write import AudioFormat, write_audio
from distill.codec.streaming import decode
from distill.codes.store import Codes, out_of_range
from distill.errors import AudioError
from distill.generate.context import GenerationContext
from distill.generate.decoding import PEAK, decode_sounds
from distill.generate.presentation.results import similarities
from distill.generate.requests.generation import GenerationRequest, Seeds, frames_for_seconds, generate_sounds
from distill.generate.requests.take import TakeRequest, kept_codes
from distill.generate.sampling.processors import Sampling
from distill.generate.selection.faults import FAULTS
from distill.generate.selection.rejection import GeneratedSound, equal_to
from distill.novelty.reference import make_reference
from distill.novelty.scores import with_scores
from distill.prior.architectures import ARCHITECTURES
from distill.prior.base import Prior
from unit.tiny import SIZES, any_codes, networks, prior_shape, untrained_prior

CODEC, TINY = networks()
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def prior(request: pytest.FixtureRequest) -> Prior:
    torch.manual_seed(0)
    return untrained_prior(CODEC, prior_shape(request.param))


def generated(request: GenerationRequest, seed: int) -> list[GeneratedSound]:
    return generate_sounds(GenerationContext(CODEC, TINY), request, Seeds(seed)).sounds


def some_codes(frames: int, seed: int = 1) -> Codes:
    return any_codes(frames, np.random.default_rng(seed))


@pytest.mark.parametrize("seconds", [0.001, 0.1, 0.3, 0.777])
def test_a_given_length_is_met_to_the_sample_and_ends_at_zero(seconds: float) -> None:
    for sound in generated(GenerationRequest(2, seconds, natural_ending=False), 0):
        assert len(sound.samples) == max(1, round(seconds * 16_000)) == round(sound.seconds * 16_000)
        assert np.abs(sound.samples).max() <= PEAK + 1e-6
        if len(sound.samples) > 200:
            assert sound.samples[0] == 0
            assert abs(sound.samples[-1]) <= 0.02 * np.abs(sound.samples).max()


def test_sounds_never_outlast_the_limit_nor_clip() -> None:
    sounds = generated(GenerationRequest(20, 0.5), 4)
    assert 1 <= min(len(one.codes) for one in sounds) < max(len(one.codes) for one in sounds)
    assert max(len(one.codes) for one in sounds) <= frames_for_seconds(CODEC, 0.5)
    assert np.abs(decode_sounds(CODEC, [np.full((20, len(SIZES)), 3, dtype=np.int64)])[0]).max() <= PEAK + 1e-6


def test_only_half_a_millisecond_of_an_attack_is_faded() -> None:
    codes = np.full((20, len(SIZES)), 3, dtype=np.int64)
    whole = decode(CODEC, torch.from_numpy(codes)[None])[0].numpy()
    faded, rate = decode_sounds(CODEC, [codes])[0], CODEC.spectrogram.sample_rate
    begin, end = round(0.0005 * rate), round(0.005 * rate)
    scale = faded[begin] / whole[begin]
    np.testing.assert_allclose(faded[begin:-end], scale * whole[begin:-end], rtol=1e-5, atol=1e-7)
    assert abs(faded[0]) == abs(faded[-1]) == 0


def test_whoever_asks_for_a_length_a_beginning_or_notes_gets_them() -> None:
    prompt = np.zeros((3, len(SIZES)), dtype=np.int64)
    assert GenerationRequest(1, 1.0).kinds == FAULTS
    assert GenerationRequest(1, 1.0, natural_ending=False).kinds == ("drone", "stutter", "attack", "loud", "band")
    assert GenerationRequest(1, 1.0, notes=[60.0]).kinds == tuple(kind for kind in FAULTS if kind != "band")
    assert GenerationRequest(1, 1.0, prompt=prompt).kinds == ("drone", "stutter", "ending")
    assert GenerationRequest(1, 1.0, natural_ending=False, prompt=prompt).kinds == ("drone", "stutter")


@given(st.integers(1, 60), st.integers(6, 10), st.integers(0, 1000), st.floats(0, 1), st.floats(0, 1))
def test_more_strength_keeps_less_and_the_coarser_levels_longer(
    frames: int, levels: int, seed: int, one: float, two: float
) -> None:
    def is_kept(strength: float) -> np.ndarray:
        return kept_codes(np.zeros((frames, levels), np.int64), strength, seed) == 0

    weaker, stronger = sorted((one, two))
    assert (is_kept(weaker) >= is_kept(stronger)).all()
    assert (np.diff(is_kept(one).astype(int), axis=1) <= 0).all()
    assert is_kept(0).all()
    assert not is_kept(1).any()
    assert one == 0 or not is_kept(one).all()


@settings(deadline=None, max_examples=25)
@given(st.floats(0.01, 1), st.floats(0.1, 10), st.sampled_from(["recording", "prompt"]), st.integers(0, 2**40))
def test_takes_and_continuations_hold_codes_of_their_levels(
    strength: float, temperature: float, given_as: str, seed: int
) -> None:
    shared = {"count": 3, "max_seconds": 0.2, "sampling": Sampling(temperature)}
    codes = some_codes(12, seed)
    request: GenerationRequest = GenerationRequest(natural_ending=False, prompt=codes, **shared)  # type: ignore[arg-type]
    if given_as == "recording":
        request = TakeRequest(recording=codes, strength=strength, **shared)  # type: ignore[arg-type]
    for sound in generate_sounds(GenerationContext(CODEC, TINY), request, Seeds(seed)).sounds:
        assert out_of_range(sound.codes, SIZES) == ""


@pytest.mark.parametrize(("strength", "drawn"), [(0.3, 0), (0.5, 0), (0.75, 50), (1.0, 100)])
def test_tones_are_kept_as_long_as_the_loudness(strength: float, drawn: int) -> None:
    kept = kept_codes(np.zeros((100, 6), np.int64), strength, 0)
    assert (kept < 0).sum(axis=0)[:4].tolist() == [drawn] * 4


def test_takes_that_must_be_equal_are_counted() -> None:
    one = some_codes(1)
    wanted = TakeRequest(20, 0.1, recording=one, strength=0.01)
    made = generate_sounds(GenerationContext(CODEC, TINY), wanted, Seeds(0), [equal_to({one.tobytes()})])
    different = {take.codes.tobytes() for take in made.sounds} - {one.tobytes()}
    assert made.redrawn["equal"] > 0
    assert list(made.left.values()) == ["equal"] * (20 - len(different)) != []


def test_the_recording_is_a_copy_of_itself_and_other_codes_are_not() -> None:
    recording = some_codes(40)
    half = recording.copy()
    half[:, 4:] = (half[:, 4:] + 1) % 8  # of six levels two
    takes = [recording, half, (recording + np.array(SIZES) // 2) % SIZES]
    reference = make_reference(["a"], [some_codes(30, 2)], [some_codes(30, seed) for seed in (3, 4, 5)])
    same, halfway, apart = similarities(CODEC, with_scores(reference, CODEC), recording, takes, 2.5)
    assert (same.equal_codes, same.difference_db, same.coding_db, same.verdict) == (1, 0, 2.5, "copy")
    assert halfway.equal_codes == pytest.approx(2 / 3)
    assert 0 < halfway.difference_db < apart.difference_db
    assert (apart.equal_codes, apart.verdict) == (0, "new")
    assert replace(same, verdict=None) == similarities(CODEC, None, recording, [recording], 2.5)[0]


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_every_format_can_be_read_back(tmp_path: Path, kind: AudioFormat) -> None:
    tone = (0.5 * np.sin(np.arange(5_292_000) * 0.1)).astype(np.float32)  # two minutes: a long one, too
    usual = threading.stack_size(1 << 20)  # bytes: programs and systems give threads as little
    writer = threading.Thread(target=write_audio, args=(tmp_path / f"a.{kind}", tone, 44_100, kind))
    threading.stack_size(usual)
    writer.start()
    writer.join()
    samples, rate = soundfile.read(tmp_path / f"a.{kind}", dtype="float32")
    assert (rate, len(samples)) == (44_100, len(tone))
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.05)


def test_equal_sounds_are_equal_ogg_files(tmp_path: Path) -> None:
    """libsndfile numbers each Ogg stream differently. A decoder skips pages whose checksum is wrong."""
    tone = (0.5 * np.sin(np.arange(200_000) * 0.1)).astype(np.float32)
    for name in "ab":
        write_audio(tmp_path / f"{name}.ogg", tone, 44_100, "ogg")
    assert (tmp_path / "a.ogg").read_bytes() == (tmp_path / "b.ogg").read_bytes()
    assert soundfile.info(tmp_path / "a.ogg").frames == len(tone)


def test_a_rate_that_a_format_lacks_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"a\.mp3: expected to write 96000 Hz mp3, found: .* choose another format"):
        write_audio(tmp_path / "a.mp3", np.zeros(100, dtype=np.float32), 96_000, "mp3")
    assert list(tmp_path.iterdir()) == []
