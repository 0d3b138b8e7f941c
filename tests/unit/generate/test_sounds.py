"""Finished sounds: exact lengths, clean ends, no clipping, the same for the same seed."""

from pathlib import Path

import numpy as np
import pytest
from unit.tiny import write_prior_model

from distill.audio.plots import write_spectrograms
from distill.audio.write import write_audio
from distill.errors import ArtifactError, AudioError
from distill.generate.sounds import BATCH, PEAK, GenerationRequest, decode_sounds, frames_for_seconds, generate_sounds
from distill.model_file.format import Bundle, load_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("model") / "a.distill"
    write_prior_model(path)
    return load_bundle(path)


@pytest.mark.parametrize("seconds", [0.001, 0.1, 0.3, 0.777])
def test_a_given_length_is_met_to_the_sample_and_ends_at_zero(bundle: Bundle, seconds: float) -> None:
    for sound in generate_sounds(bundle.codec, bundle.prior, GenerationRequest(2, seconds, natural_ending=False), 0):
        assert len(sound.samples) == max(1, round(seconds * 16_000))
        assert np.abs(sound.samples).max() <= PEAK + 1e-6
        if len(sound.samples) > 200:
            assert sound.samples[0] == 0
            assert abs(sound.samples[-1]) <= 0.02 * np.abs(sound.samples).max()


def test_sounds_never_outlast_the_limit(bundle: Bundle) -> None:
    for sound in generate_sounds(bundle.codec, bundle.prior, GenerationRequest(20, 0.5), 1):
        assert 1 <= len(sound.codes) <= frames_for_seconds(bundle.codec, 0.5)


def test_more_sounds_than_a_batch_differ_and_repeat_with_the_seed(bundle: Bundle) -> None:
    wanted = GenerationRequest(BATCH + 2, 0.1, natural_ending=False)
    one, two = (generate_sounds(bundle.codec, bundle.prior, wanted, 3) for _ in range(2))
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one[0].codes, one[BATCH].codes)


def test_sounds_go_on_from_a_prompt(bundle: Bundle) -> None:
    prompt = np.full((7, 2), 3)
    step = bundle.codec.spectrogram.samples_per_frame
    for sound in generate_sounds(
        bundle.codec, bundle.prior, GenerationRequest(3, 0.2, natural_ending=False, prompt=prompt), 0
    ):
        np.testing.assert_array_equal(sound.codes[:7], prompt)
        assert len(sound.samples) == 7 * step + 3200
        assert len(sound.drawn) == frames_for_seconds(bundle.codec, 0.2)


def test_loud_codes_do_not_clip(bundle: Bundle) -> None:
    (samples,) = decode_sounds(bundle.codec, [np.full((20, 2), 3, dtype=np.int64)])
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= PEAK + 1e-6


def test_a_codec_alone_cannot_generate(bundle: Bundle) -> None:
    with pytest.raises(ArtifactError, match="holds a codec and no prior: expected one with a prior"):
        generate_sounds(bundle.codec, None, GenerationRequest(1, 0.1), 0)


def test_titles_are_not_read_as_mathematics(tmp_path: Path) -> None:
    write_spectrograms(tmp_path / "a.png", [("a$1_2_3$.wav", np.zeros(4000, dtype=np.float32))], 16_000)
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_every_format_can_be_read_back(tmp_path: Path, kind: str) -> None:
    import soundfile

    tone = (0.5 * np.sin(np.arange(5_292_000) * 0.1)).astype(np.float32)  # two minutes: a long one, too
    write_audio(tmp_path / f"a.{kind}", tone, 44_100, kind)  # type: ignore[arg-type]
    samples, rate = soundfile.read(tmp_path / f"a.{kind}", dtype="float32")
    assert rate == 44_100
    assert len(samples) == len(tone)
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.05)


def test_a_rate_that_a_format_lacks_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"a\.mp3: expected to write 96000 Hz mp3, found: .* choose another format"):
        write_audio(tmp_path / "a.mp3", np.zeros(100, dtype=np.float32), 96_000, "mp3")
    assert list(tmp_path.iterdir()) == []
