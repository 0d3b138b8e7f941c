"""Tones of codes: which partials sound, with what phases and amplitudes, and what they leave of the bands."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from distill.audio.partial_noise import PartialNoise
from distill.audio.side_info import UNKNOWN, SideInfo
from distill.codec.initialise import build_vqvae
from distill.codec.layout import NOTE, TUNINGS
from distill.codec.spectral import mel_filterbank, spectrogram_config_for
from distill.codec.streaming import decode, encode, noise_of
from distill.codec.tones.atoms import PartialSet, set_partials, shipped_sets
from distill.codec.tones.codes import FLOORS
from distill.codec.tones.contour import SINE, START
from distill.codec.tones.layer import HIGHEST, LOWEST, ToneLayer
from distill.codec.tones.lobes import MelLobes, hann_transform, partials_spectrum
from distill.params import get_adaptive_vqvae_config
from unit.codec.tonal import RATE, hertz, padded, sound_of, untrained

CONFIG = spectrogram_config_for(RATE)
N_FFT, SECONDS = CONFIG.n_fft, CONFIG.hop_length / RATE
HARMONIC, OCTAVES, INHARMONIC = range(3)


@pytest.fixture(scope="module")
def layer() -> ToneLayer:
    layer = ToneLayer(CONFIG, 3)
    sets = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 2.0, 4.0, 8.0], [1.0, 1.41, 1.93])
    set_partials(layer, [PartialSet(np.array(ratios), 1 / np.arange(1.0, len(ratios) + 1)) for ratios in sets])
    return layer


def codes_of(*tones: tuple[float, int] | None, floor: int = 0) -> Tensor:
    """Codes `[1, F, 3]` of tones: pitches in semitones with sets, None for no tone."""
    codes = torch.zeros(1, len(tones), 3, dtype=torch.int64)
    for frame, tone in enumerate(tones):
        if tone is not None:
            steps = round(tone[0] * TUNINGS) + TUNINGS // 2
            codes[0, frame] = torch.tensor([steps // TUNINGS, steps % TUNINGS, 1 + len(FLOORS) * tone[1] + floor])
    return codes


@pytest.mark.parametrize("offset", [0.0, 1e-5, 0.3, 0.5, 0.99996, 1.0, -1.0, 1.00003, 1.5, 2.0, -3.7])
def test_the_window_transform_is_that_of_a_long_window(offset: float) -> None:
    points = 4096
    place = np.arange(points) - points / 2
    window = 0.5 + 0.5 * np.cos(2 * np.pi * place / points)
    expected = (window * np.cos(2 * np.pi * offset * place / points)).sum() * 2 / points
    assert float(hann_transform(torch.tensor(offset))) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("frequency", "phase"), [(500.0, 0.0), (1015.625, 0.3), (1234.5, 0.77), (5000.0, 0.5)])
def test_the_spectrum_of_a_partial_is_that_of_a_sine_in_a_window(frequency: float, phase: float) -> None:
    amplitude = 0.4
    given = (torch.tensor([[[value]]]) for value in (frequency, amplitude, phase))
    found = partials_spectrum(*given, CONFIG)[0, 0]
    time = (torch.arange(N_FFT).double() - N_FFT // 2) / RATE
    sine = amplitude * torch.cos(2 * math.pi * (frequency * time + phase))
    expected = torch.fft.rfft(sine * torch.hann_window(N_FFT, dtype=torch.float64)).to(found)
    assert float((found - expected).abs().max()) < 6e-3 * float(expected.abs().max())
    bands = MelLobes(RATE, N_FFT, CONFIG.n_mels)(torch.tensor([[frequency]])).bands(torch.tensor([amplitude]))[0]
    heard = expected.abs() @ mel_filterbank(RATE, N_FFT, CONFIG.n_mels)
    assert float((bands - heard).abs().max()) < 0.1 * float(heard.max())


def turns(layer: ToneLayer, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Frequencies `[T, K]` of partials and their phases in cycles."""
    (found, _), phases = layer.partials(codes), layer.phases(codes)
    return found[0].double(), phases[0].double()


@pytest.mark.parametrize("semitones", [3.0, -12.0, 0.4375, -0.5])
def test_transposed_codes_have_other_pitches_and_nothing_else(layer: ToneLayer, semitones: float) -> None:
    codes = codes_of((60.0, 0), None, (67.3125, 2), floor=1)
    moved = layer.transposed(codes, semitones)
    torch.testing.assert_close(layer.pitches(moved), layer.pitches(codes) + semitones, equal_nan=True)
    assert torch.equal(moved[..., 2], codes[..., 2])
    assert torch.equal(layer.transposed(moved, -semitones), codes)


@pytest.mark.parametrize("semitones", [40.0, -100.0])
def test_tones_beyond_what_can_be_coded_are_left_out(layer: ToneLayer, semitones: float) -> None:
    moved = layer.transposed(codes_of((95.0, 1), None), semitones)
    assert not moved.any()


def unlike(phases: Tensor, expected: Tensor) -> float:
    return float(((phases - expected + 0.5) % 1 - 0.5).abs().max())


def first_phases(tuning: int, ratios: Tensor) -> Tensor:
    """Phases in cycles, in the middle of a run's first frame, of partials with such ratios to a pitch with this tuning."""
    numbers = torch.arange(1, len(ratios) + 1).double()
    return tuning / TUNINGS * ratios.double() + SINE + START * (numbers.square() - 1)


@pytest.mark.parametrize("pitch", [31.25, 57.0, 57.4375, 84.125])
@pytest.mark.parametrize("number", [HARMONIC, INHARMONIC])
def test_the_tuning_of_a_runs_first_frame_says_its_phase(layer: ToneLayer, pitch: float, number: int) -> None:
    codes = codes_of((pitch, number), (pitch, number))
    for _ in range(2):
        found, phases = turns(layer, codes)
        count = int((found[0] > 0).sum())
        middle = phases[0, :count] + found[0, :count] * SECONDS * (CONFIG.stack / 2 - 0.5)
        expected = first_phases(int(codes[0, 0, 1]), layer.ratios[number, :count])
        assert unlike(middle, expected) < 1e-4
        codes[0, 1, 1] = (codes[0, 1, 1] + 1) % TUNINGS  # that of later frames says nothing of it


@pytest.mark.parametrize("tones", [[(57, HARMONIC)] * 6, [(57 + frame / 2, HARMONIC) for frame in range(8)]])
def test_phases_of_a_note_or_a_glide_are_running_sums_of_its_frequency(
    layer: ToneLayer, tones: list[tuple[float, int]]
) -> None:
    found, phases = turns(layer, codes_of(*tones))
    expected = phases[0, :6]
    for hop in range(len(found)):
        assert unlike(phases[hop, :6], expected) < 1e-4, hop
        expected = expected + (found[hop, :6] + found[min(hop + 1, len(found) - 1), :6]) / 2 * SECONDS


@pytest.mark.parametrize(
    ("pitches", "by_hop"),
    [
        ((72, 73, 75), [71.75, 72.25, 72.75, 73, 75, 75]),  # a line between middles of frames, which begins before them
        ((56, 44, 43), [59, 53, 47, 43.75, 43.25, 43]),  # drums fall, and low tones may rise, as they begin
        ((30, 40, 40), [27.5, 32.5, 37.5, 40, 40, 40]),
        ((58, 43, 43), [58, 58, 43, 43, 43, 43]),  # but not as far as this
        ((84, 73, 73), [84, 84, 73, 73, 73, 73]),  # and no high ones
        ((50,) * 6 + (44,), [50] * 12 + [44, 44]),  # nor later
        ((50,) * 6 + (55, 50), [50] * 12 + [56.25, 53.75, 51.25, 50]),  # but where another begins
    ],
)
def test_which_pitches_glide(layer: ToneLayer, pitches: tuple[float, ...], by_hop: list[float]) -> None:
    assert CONFIG.stack == 2
    found, _ = turns(layer, codes_of(*((pitch, HARMONIC) for pitch in pitches)))
    heard = 69 + 12 * (found[:, 0] / 440).log2()
    torch.testing.assert_close(heard, torch.tensor(by_hop).double(), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("before", "after", "goes_on"),
    [
        ((60.0, HARMONIC), (60.0, OCTAVES), {1: 1, 2: 2, 3: 4}),
        ((60.0, OCTAVES), (60.0, HARMONIC), {1: 1, 2: 2, 4: 3}),
        ((60.0, HARMONIC), (72.0, HARMONIC), {1: 2, 2: 4, 3: 6}),
        ((60.0, HARMONIC), (60.0, INHARMONIC), {1: 1}),
        (
            (60.0, HARMONIC),
            (63.5, HARMONIC),
            {4: 5, 5: 6},
        ),  # five quarters are 3.86 semitones, six fifths 3.16: within 3 %
    ],
)
def test_partials_that_two_tones_share_go_on_and_others_begin(
    layer: ToneLayer, before: tuple[float, int], after: tuple[float, int], goes_on: dict[int, int]
) -> None:
    codes = codes_of(before, before, after)
    found, phases = turns(layer, codes)
    last, first = 2 * CONFIG.stack - 1, 2 * CONFIG.stack
    begun = first_phases(int(codes[0, 2, 1]), layer.ratios[after[1]]) - found[first] * SECONDS / 2
    for own in range(1, int((found[first] > 0).sum()) + 1):
        expected = begun[own - 1]
        if own in goes_on:
            old = goes_on[own] - 1
            expected = phases[last, old] + (found[last, old] + found[first, own - 1]) / 2 * SECONDS
        assert unlike(phases[first, own - 1], expected) < 1e-4, own


@pytest.mark.parametrize("tone", [(57.0, HARMONIC), (61.25, INHARMONIC)])
def test_after_a_gap_phases_begin_again_and_another_floor_changes_nothing(
    layer: ToneLayer, tone: tuple[float, int]
) -> None:
    codes = codes_of(tone, tone, None, tone, tone)
    _, phases = turns(layer, codes)
    assert torch.equal(phases[: 2 * CONFIG.stack], phases[3 * CONFIG.stack :])
    codes[0, 1, 2] += 1
    assert torch.equal(turns(layer, codes)[1], phases)


@pytest.mark.parametrize("pitch", [1.0, 9.0, 16.0, 60.0, 108.0, 120.0, 127.4])
def test_partials_beyond_what_is_heard_are_left_out(layer: ToneLayer, pitch: float) -> None:
    codes = codes_of((pitch, HARMONIC), (pitch, HARMONIC))
    found, amplitudes = layer.partials(codes)
    harmonics = [hertz(pitch) * k for k in range(1, 7)]
    heard = [f if LOWEST < f < HIGHEST * RATE else 0.0 for f in harmonics]
    expected = torch.tensor(heard + [0.0] * (found.shape[-1] - 6))
    torch.testing.assert_close(found[0, 0], expected, rtol=1e-5, atol=0)
    assert torch.equal(amplitudes[0, 0] > 0, expected > 0)
    torch.testing.assert_close(layer.comb(codes)[0, 0], expected, rtol=1e-5, atol=0)
    assert float(partials_spectrum(found, amplitudes, torch.zeros_like(found), CONFIG).abs().max() > 0) == any(heard)


@pytest.mark.parametrize("noise_share", [0.0, 0.3])
@pytest.mark.parametrize("wrong", [1.0, 3.0])
def test_known_partials_and_noise_are_told_apart(noise_share: float, wrong: float) -> None:
    """`wrong` times the relative amplitudes of every other partial are given."""
    frequencies = torch.tensor([[[220.0, 700.0, 1500.0, 2900.0, 5100.0]]])
    amplitudes = torch.tensor([[[0.2, 0.1, 0.3, 0.05, 0.1]]])
    lobes = MelLobes(RATE, N_FFT, CONFIG.n_mels)(frequencies)
    tones = lobes.bands(amplitudes.flatten())
    noise = torch.full_like(tones, noise_share)
    bands = tones + noise
    given = amplitudes * torch.tensor([1.0, wrong, 1.0, wrong, 1.0])
    share = tones / (bands + 1e-6)
    found, rest = ToneLayer(CONFIG, 1).separate(frequencies, given, bands, share)
    torch.testing.assert_close(found, amplitudes, rtol=0.1, atol=0)
    heard = lobes.bands(found.flatten())
    assert float((heard + rest - bands).abs().sum() / bands.sum()) < 0.05
    assert float((rest - noise).abs().sum() / bands.sum()) < 0.05
    assert bool((rest <= bands * 1.0001).all())


@torch.no_grad()
@pytest.mark.parametrize("number", [0, 4, 6, 9, 20])
def test_features_lose_the_comb_of_their_tone_and_get_it_back(number: int) -> None:
    codec = untrained()
    audio = padded(codec, sound_of(shipped_sets()[number], 60.3))
    features = codec.features(audio)
    flat, tones = codec.flat_features(audio)
    assert float((tones[..., 0] > 0).float().mean()) > 0.8
    loudness = codec.frame_features.loudness
    torch.testing.assert_close(loudness(flat), loudness(features), rtol=0, atol=1e-4)
    bands = [
        part[..., : codec.spectrogram.n_mels].diff(n=2).abs().mean() for part in (features[:, 2:-3], flat[:, 2:-3])
    ]
    assert float(bands[1] / bands[0]) < 0.7
    torch.testing.assert_close(
        codec.with_tones(flat, tones, noise_of(codec, UNKNOWN, flat.shape[1]))[0], features, rtol=0, atol=1e-3
    )


@torch.no_grad()
@pytest.mark.parametrize(("number", "begins"), [(0, 24.0), (6, 24.4), (20, 24.8)])
def test_nothing_tonal_sounds_before_an_attack(number: int, begins: float) -> None:
    """With the shipped weights, in the 21 and 43 ms that windows of the attack reach back; it begins within a frame."""
    codec = build_vqvae(24_000, get_adaptive_vqvae_config(8), 0).eval()
    step = codec.spectrogram.samples_per_frame
    attack = round(begins * step)
    sound = torch.cat([torch.zeros(attack), sound_of(shipped_sets()[number], 57, decay=4.0)])
    features, _ = codec.flat_features(padded(codec, sound))
    codec.fit_projection(features[0])
    codec.quantizer.fit([codec.project(features[0])], torch.Generator().manual_seed(0))
    codes = encode(codec, sound[None])
    assert float((codes[0, 25:40, NOTE] > 0).float().mean()) > 0.9
    squares = decode(codec, codes)[0].square()
    level = squares[attack : attack + 4 * step].mean()
    before = [squares[attack - first : attack - last].mean() for first, last in ((2 * step, step), (step, step // 4))]
    far, near = (float(10 * (part / level).log10()) for part in before)
    assert far < -70
    assert near < -35


@torch.no_grad()
@pytest.mark.parametrize("pitch", [110.0, 220.0])
def test_a_higher_noise_floor_puts_more_noise_between_partials(pitch: float) -> None:
    """With the shipped weights; of a clean tone the lowest leaves little."""
    codec, rate = build_vqvae(24_000, get_adaptive_vqvae_config(8), 0).eval(), 24_000
    time, numbers = torch.arange(3 * rate)[:, None].double() / rate, torch.arange(1, 40)
    sound = (torch.cos(2 * math.pi * (pitch * numbers * time + numbers**2 * 0.618)) / numbers).sum(dim=1).float() / 10
    features, _ = codec.flat_features(padded(codec, sound))
    codec.fit_projection(features[0])
    codec.quantizer.fit([codec.project(features[0])], torch.Generator().manual_seed(0))
    codes = encode(codec, sound[None])
    floors = [SideInfo(noise=np.full((1, 8), step, np.uint8)) for step in (0, 5, 10, 15)]
    decoded = [
        decode(codec, codes, noise_of(codec, about, codes.shape[1]))[0, : len(sound)].numpy() for about in floors
    ]
    medians = PartialNoise.measure(sound.numpy(), rate, *decoded).medians()
    assert len(medians) >= 3
    for original, *levels in medians.values():
        assert (np.diff(levels) > 1).all()
        assert levels[0] < -55
        assert levels[-1] > levels[0] + 15 > original + 15
