"""Tones in sounds of any length: chunked as whole, packed as alone."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from distill.audio.side_info import SideInfo
from distill.codec.layout import ATOM, NOTE
from distill.codec.model import VQVAE
from distill.codec.streaming import decode, decode_each, encode, encode_each, noise_of
from unit.codec.tonal import RATE, fitted, padded, sweep, untrained
from unit.tiny import any_side_info


def harmonic(pitches: list[float], seconds: float = 0.25, gap: float = 0.0, decay: float = 3.0) -> Tensor:
    """Notes `[N]` one after another at such frequencies in Hz, six partials each, with silence between."""
    time = torch.arange(round(seconds * RATE)) / RATE
    silence = torch.zeros(round(gap * RATE))
    notes = [
        sum(torch.sin(2 * math.pi * f * k * time) / k for k in range(1, 7)) * torch.exp(-decay * time) for f in pitches
    ]
    return 0.2 * torch.cat([part for note in notes for part in (note, silence)])


SOUNDS = {
    "a held note": harmonic([220.0], 0.9, decay=0.0),
    "notes with silence between": harmonic([330.0, 440.0, 247.0], 0.2, 0.1),
    "notes without": harmonic([196.0, 294.0, 370.0], 0.22),
    "a glide": sweep(torch.linspace(62, 81, 12_800)),
    "a falling one": sweep(torch.linspace(67, 39, 8_000)),
    "a drum": sweep(36 + 30 * torch.exp(-torch.arange(5_000) / 300), partials=2),
    "a drum after it": sweep(31 + 24 * torch.exp(-torch.arange(5_200) / 500), partials=1),
    "a very short one": harmonic([523.0], 0.02),
    "noise": torch.randn(6000, generator=torch.Generator().manual_seed(0)) * 0.1,
    "a sine": 0.3 * torch.sin(2 * math.pi * 1000 * torch.arange(9000) / RATE),
}


@pytest.fixture(scope="module")
def codec() -> VQVAE:
    return fitted(list(SOUNDS.values()))


def side_info(name: str) -> SideInfo:
    """A noise floor of the sound of this name."""
    return any_side_info(len(SOUNDS[name]) / RATE, list(SOUNDS).index(name))


def noise(codec: VQVAE, name: str) -> Tensor:
    return noise_of(codec, side_info(name), codec.spectrogram.frames_for(len(SOUNDS[name])))


@pytest.fixture(scope="module")
def whole(codec: VQVAE) -> dict[str, tuple[Tensor, Tensor]]:
    """Codes `[F, Q]` and decoded samples `[N]` of each sound, all at once."""
    codes = {name: encode(codec, sound[None], 10_000) for name, sound in SOUNDS.items()}
    return {name: (one[0], decode(codec, one, noise(codec, name), 10_000)[0]) for name, one in codes.items()}


same_sound = partial(torch.testing.assert_close, rtol=0, atol=2e-5)


def test_most_of_these_sounds_have_tones(whole: dict[str, tuple[Tensor, Tensor]]) -> None:
    shares = {name: float((codes[:, NOTE] > 0).float().mean()) for name, (codes, _) in whole.items()}
    assert shares.pop("noise") == 0
    assert min(shares.values()) > 0.5
    assert all(bool(((codes[:, NOTE] > 0) == (codes[:, ATOM] > 0)).all()) for codes, _ in whole.values())


@pytest.mark.parametrize(
    ("name", "chunk"),
    [*((name, 5) for name in SOUNDS), ("a glide", 1), ("notes with silence between", 1), ("a sine", 16)],
)
def test_chunks_give_codes_and_sound_of_the_whole(
    codec: VQVAE, whole: dict[str, tuple[Tensor, Tensor]], name: str, chunk: int
) -> None:
    codes, sound = whole[name]
    assert torch.equal(encode(codec, SOUNDS[name][None], chunk)[0], codes)
    same_sound(decode(codec, codes[None], noise(codec, name), chunk)[0], sound)


@pytest.mark.parametrize("order", [1, -1])
def test_each_of_many_sounds_comes_out_as_if_alone(
    codec: VQVAE, whole: dict[str, tuple[Tensor, Tensor]], order: int
) -> None:
    names = list(SOUNDS)[::order]
    codes = list(encode_each(codec, [SOUNDS[name] for name in names]))
    assert all(torch.equal(found, whole[name][0]) for name, found in zip(names, codes, strict=True))
    for name, sound in zip(names, decode_each(codec, codes, map(side_info, names)), strict=True):
        same_sound(sound, whole[name][1])


@torch.no_grad()
@pytest.mark.parametrize("rate", [4_000, 8_000, 22_050, 44_100, 96_000, 192_000])
def test_tones_are_carried_at_every_rate(rate: int) -> None:
    """However few bands there are, or however long windows are."""
    codec = untrained(rate)
    time = torch.arange(rate // 2) / rate
    note = 0.1 * torch.stack([torch.cos(2 * math.pi * (330 * k * time + k * k * 0.618)) for k in range(1, 5)]).sum(
        dim=0
    )
    features, tones = codec.flat_features(padded(codec, note))
    comb = codec.tone.comb(tones)[0, 3:-4]
    cents = torch.stack([(1200 * (comb.clamp_min(1) / (330 * k)).log2()).abs().amin(dim=1) for k in range(1, 5)])
    assert float((cents < 7).float().mean()) > 0.75  # in which octave its pitch is depends on the rate
    codec.fit_projection(features[0])
    codec.quantizer.fit([codec.project(features[0])], torch.Generator().manual_seed(0))
    sound = decode(codec, encode(codec, note[None]))[0]
    spectrum = (sound[: len(note)] * torch.hann_window(len(note))).to(torch.float64)
    loudest = float(torch.fft.rfft(spectrum).abs().argmax()) * rate / len(note)
    assert min(abs(loudest - 330 * k) for k in range(1, 5)) < 5
