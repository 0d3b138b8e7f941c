"""The codec's modules against independent versions, chunked against whole, sounds of any length."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.audio.side_info import UNKNOWN
from distill.codec.decoder import FrameNoise
from distill.codec.initialise import build_vqvae
from distill.codec.layout import LOUDNESS_STEP
from distill.codec.model import VQVAE, VQVAEArchitecture
from distill.codec.spectral import InverseSTFT, LogMel, magnitudes, spectrogram_config_for
from distill.codec.streaming import decode, decode_each, encode, encode_each, noise_of
from distill.codec.tones.atoms import set_partials, shipped_sets
from distill.codes.store import out_of_range
from distill.params import Quantizer, get_adaptive_vqvae_config
from unit.tiny import any_side_info

RATE = 16_000


def fitted(quantizer: Quantizer, codebook_size: int, hidden_size: int, num_layers: int) -> VQVAE:
    """A codec with a kind of quantizer, fitted to noise of one loudness."""
    torch.manual_seed(0)
    spectrogram = spectrogram_config_for(RATE)
    sizes = {"codebook_size": codebook_size, "hidden_size": hidden_size, "num_layers": num_layers}
    fixed = {"num_quantizers": 6, "latent_size": 12, "partial_sets": 2}
    model = VQVAE(VQVAEArchitecture(**fixed, **sizes, quantizer=quantizer), spectrogram).eval()
    set_partials(model.tone, shipped_sets()[::5][:2])
    for part in (model.tone_head, model.decoder.embed, model.texture_head):
        torch.nn.init.normal_(part.weight, std=0.1)
    torch.nn.init.normal_(model.encoder.weight, std=0.05)
    noise = torch.randn(4, 20 * spectrogram.samples_per_frame + 2 * model.margin) * 0.1
    with torch.no_grad():
        model.fit_projection(model.features(noise).flatten(0, 1))
        model.quantizer.fit(list(model.latents(model.features(noise))), torch.Generator().manual_seed(0))
    return model


@pytest.fixture(scope="module", params=["overlapping", "residual"])
def codec(request: pytest.FixtureRequest) -> VQVAE:
    return fitted(request.param, 16, 32, 2)


def any_codes(codec: VQVAE, frames: int, seed: int) -> torch.Tensor:
    """Codes `[1, F, Q]`, any of each level."""
    generator = torch.Generator().manual_seed(seed)
    sizes = codec.architecture.codebook_sizes
    return torch.stack([torch.randint(size, (1, frames), generator=generator) for size in sizes], dim=-1)


@pytest.fixture(scope="module")
def loud() -> VQVAE:
    return fitted("overlapping", 64, 16, 1)


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100, 48_000, 96_000])
def test_geometry_keeps_near_47_frames_a_second(rate: int) -> None:
    config = spectrogram_config_for(rate)
    assert 38 < config.frame_rate < 64
    assert config.n_fft == 4 * config.hop_length


def test_inverse_stft_undoes_the_stft() -> None:
    config = spectrogram_config_for(RATE)
    audio = torch.randn(2, 30 * config.hop_length, generator=torch.Generator().manual_seed(0))
    padded, inverse = torch.nn.functional.pad(audio, (config.margin, config.margin)), InverseSTFT(config)
    window = torch.hann_window(config.n_fft)
    spectrum = torch.stft(padded, config.n_fft, config.hop_length, window=window, center=False, return_complex=True)
    torch.testing.assert_close(inverse(spectrum.transpose(1, 2)), audio, rtol=0, atol=1e-4)


def test_log_mel_of_a_sine_peaks_in_its_band() -> None:
    config = spectrogram_config_for(RATE)
    time = torch.arange(config.samples_per_frame * 8 + 2 * config.margin) / RATE
    mel = LogMel(config.sample_rate, config.n_fft, config.hop_length, config.n_mels)(
        torch.sin(2 * torch.pi * 1000 * time)[None]
    )[0]
    centres = 700 * (10 ** (torch.linspace(0, 2840.023, config.n_mels + 2)[1:-1] / 2595) - 1)
    assert abs(float(centres[mel.mean(dim=0).argmax()]) - 1000) < 80


@settings(deadline=None, max_examples=12)
@given(samples=st.integers(1, 20_000), chunk=st.integers(1, 40))
def test_chunks_give_the_codes_and_sound_of_the_whole(codec: VQVAE, samples: int, chunk: int) -> None:
    audio = torch.randn(1, samples, generator=torch.Generator().manual_seed(samples)) * 0.1
    codes = encode(codec, audio, 10_000)
    assert codes.shape == (1, codec.spectrogram.frames_for(samples), codec.architecture.num_quantizers)
    assert torch.equal(encode(codec, audio, chunk), codes)
    noise = noise_of(codec, any_side_info(samples / RATE, samples), codes.shape[1])
    whole = decode(codec, codes, noise, 10_000)
    torch.testing.assert_close(decode(codec, codes, noise, chunk), whole, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=12)
@given(lengths=st.lists(st.integers(1, 12_000), min_size=1, max_size=8), seed=st.integers(0, 100))
def test_each_of_many_sounds_comes_out_as_if_alone(codec: VQVAE, lengths: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    sounds = [torch.randn(length, generator=generator) * 0.1 for length in lengths]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.codec.streaming.CHUNK_FRAMES", 20)
        coded = list(encode_each(codec, sounds))
        floors = [any_side_info(length / RATE, seed + number) for number, length in enumerate(lengths)]
        back = list(decode_each(codec, coded, floors))
    for sound, codes, about, decoded in zip(sounds, coded, floors, back, strict=True):
        assert torch.equal(codes, encode(codec, sound[None])[0])
        alone = decode(codec, codes[None], noise_of(codec, about, len(codes)))[0]
        torch.testing.assert_close(decoded, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("gain", [1.0, 0.1, 0.001, 10.0])
def test_features_of_codes_are_as_loud_as_the_sound_however_loud(loud: VQVAE, gain: float) -> None:
    margin, step = loud.margin, loud.spectrogram.samples_per_frame
    generator = torch.Generator().manual_seed(3)
    features = loud.features(torch.randn(1, 12 * step + 2 * margin, generator=generator) * 0.1 * gain)
    coded = loud.unproject(loud.quantizer.decode(loud.quantizer.search(loud.project(features))))
    loudness = loud.frame_features.loudness
    difference = loudness(coded) - loudness(features)
    assert float(difference.abs().max()) < LOUDNESS_STEP / 2 + 0.01


def test_only_the_first_level_has_loudness_in_training_too(loud: VQVAE) -> None:
    first, *shape = loud.quantizer.levels()
    assert all(float(level.codewords[:, 0].abs().max()) == 0 for level in shape)
    assert float(first.codewords[:, 1:].abs().max()) == 0
    steps = first.codewords[:, 0].diff() / loud.quantizer.loudness_scale
    torch.testing.assert_close(steps, torch.full((70,), 0.1), rtol=0, atol=1e-5)  # 140 dB in steps of 2
    model = copy.deepcopy(loud).train()
    before = model.quantizer.codebooks.clone()
    model(
        torch.randn(2, 8 * model.spectrogram.samples_per_frame) * 0.1, noise_of(model, UNKNOWN, 8).expand(2, -1, -1), 2
    )
    assert float(model.quantizer.codebooks[:, :, 0].abs().max()) == 0
    assert not torch.equal(model.quantizer.codebooks, before)


@torch.no_grad()
@settings(deadline=None, max_examples=20)
@given(gain=st.floats(-8, 8), seed=st.integers(0, 1000))
def test_codes_are_those_of_their_level_however_loud_a_sound_is(codec: VQVAE, gain: float, seed: int) -> None:
    audio = torch.randn(1, 6000, generator=torch.Generator().manual_seed(seed)) * 10**gain
    sizes = codec.architecture.codebook_sizes
    assert sizes == (71, 128, 16, 7, 16, 16)
    assert [len(vectors) for vectors in codec.code_vectors()] == list(sizes)
    of_quantizer = codec.layout.split(torch.tensor(sizes))[0].tolist()
    assert [len(level.codewords) for level in codec.quantizer.levels()] == of_quantizer
    assert out_of_range(encode(codec, audio)[0].numpy(), sizes) == ""


@torch.no_grad()
def test_encode_and_decode_agree_with_forward_whose_first_draw_is_the_sounds_own(codec: VQVAE) -> None:
    audio = torch.randn(2, 12 * codec.spectrogram.samples_per_frame, generator=torch.Generator().manual_seed(5)) * 0.1
    noise = noise_of(codec, any_side_info(1, 5), 12).expand(2, -1, -1)
    output = codec(audio, noise, 2)
    first, second = output.audio.split(2)
    assert torch.equal(encode(codec, audio), output.codes)
    torch.testing.assert_close(decode(codec, output.codes, noise), first, rtol=0, atol=1e-5)
    assert float((second - first).abs().max()) > 1e-4


def test_the_gradient_of_quantised_latents_is_that_of_latents(codec: VQVAE) -> None:
    latents = torch.randn(1, 5, 12, generator=torch.Generator().manual_seed(4), requires_grad=True)
    weights = torch.randn(1, 5, 12)
    (gradient,) = torch.autograd.grad((codec.quantizer(latents).latents * weights).sum(), latents)
    assert torch.equal(gradient, weights)


def test_low_precision_is_near_full_precision(codec: VQVAE) -> None:
    codes = any_codes(codec, 60, 6)
    full = decode(codec, codes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = decode(codec, codes, chunk_frames=16)
    assert not torch.equal(low, full)
    assert (low - full).abs().max() < 0.01 * full.abs().max()


def test_training_moves_every_part_of_a_codec_with_tones(codec: VQVAE) -> None:
    codec = copy.deepcopy(codec).train()
    length = 8 * codec.spectrogram.samples_per_frame
    note = 0.3 * torch.sin(2 * torch.pi * 440 * torch.arange(length) / RATE)[None]
    codec(note, noise_of(codec, UNKNOWN, 8)).audio.square().mean().backward()
    for part in ("tone_head", "texture_head", "head", "decoder", "encoder"):
        gradients = [value.grad for name, value in codec.named_parameters() if name.startswith(f"{part}.")]
        assert all(one is not None and bool(one.isfinite().all()) for one in gradients), part
        assert any(float(one.abs().sum()) > 0 for one in gradients if one is not None), part


def test_the_gradient_of_what_is_not_tonal_goes_through_to_the_bands(loud: VQVAE) -> None:
    tone = loud.tone
    log_mel = torch.full((1, 4 * tone.config.stack, tone.config.n_mels), -2.0, requires_grad=True)
    codes = torch.tensor([60, 8, 1]).repeat(1, 4, 1)
    found = tone(log_mel, codes, tone.combs(codes), torch.zeros(1, 4, 8))
    (gradient,) = torch.autograd.grad(found.rest.sum(), log_mel)
    assert torch.equal(gradient, torch.ones_like(gradient))
    assert not found.amplitudes.requires_grad
    assert not found.bands.requires_grad


SHAPE = {"codebook_size": 8, "num_quantizers": 6, "latent_size": 8, "hidden_size": 16, "num_layers": 1}
ARCHITECTURE = {**SHAPE, "quantizer": "overlapping", "partial_sets": 3}


@pytest.mark.parametrize(
    "changes",
    [
        {"gain_shape": False},
        {"num_quantizers": 5},
        {"partial_sets": 0},
        {"partial_sets": 1001},
        *({"input_gain": gain} for gain in (0, 3, -2, 0.3, 1 << 25)),
    ],
    ids=str,
)
def test_a_codec_has_loudness_tones_shapes_and_a_gain_that_is_a_power_of_two(changes: dict[str, object]) -> None:
    assert VQVAEArchitecture.model_validate(ARCHITECTURE).codebook_sizes == (71, 128, 16, 10, 8, 8)
    with pytest.raises(ValueError, match=next(iter(changes))):
        VQVAEArchitecture.model_validate({**ARCHITECTURE, **changes})


def test_a_codec_of_soft_sounds_codes_them_as_one_of_loud_sounds_does(codec: VQVAE) -> None:
    """Bit by bit: packed, in chunks, and whole."""
    soft = VQVAE(codec.architecture.model_copy(update={"input_gain": 64}), codec.spectrogram).eval()
    soft.load_state_dict(codec.state_dict())
    sounds = [torch.randn(length, generator=torch.Generator().manual_seed(length)) * 0.1 for length in (900, 20_000)]
    pairs = [list(encode_each(one, [sound / gain for sound in sounds])) for one, gain in ((codec, 1), (soft, 64))]
    for sound, codes, same in zip(sounds, *pairs, strict=True):
        assert torch.equal(codes, same)
        assert torch.equal(codes, encode(soft, sound[None] / 64, 7)[0])
        assert torch.equal(decode(codec, codes[None], None, 7), 64 * decode(soft, codes[None], None, 7))
    for loud, quiet in zip(decode_each(codec, pairs[0]), decode_each(soft, pairs[1]), strict=True):
        assert torch.equal(loud, 64 * quiet)
    whole = torch.nn.functional.pad(sounds[0], (0, 2 * codec.spectrogram.samples_per_frame - len(sounds[0]) % 512))
    whole = whole[None, : len(whole) // 512 * 512]
    noise = noise_of(codec, UNKNOWN, whole.shape[1] // codec.spectrogram.samples_per_frame)
    assert torch.equal(codec(whole, noise).audio, 64 * soft(whole / 64, noise).audio)


@settings(deadline=None, max_examples=20)
@given(scale=st.sampled_from([1e-12, 1e-3, 1.0, 1e6]), seed=st.integers(0, 100))
def test_magnitudes_are_abs_of_rfft_and_so_is_its_gradient(scale: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    windows = scale * torch.randn(5, 12, generator=generator)
    windows[0] = 0
    weights = torch.randn(5, 7, generator=generator)
    gradients = []
    for function in (lambda x: torch.fft.rfft(x).abs(), magnitudes):
        leaf = windows.clone().requires_grad_()
        result = function(leaf)
        torch.testing.assert_close(result, torch.fft.rfft(windows).abs())
        gradients += torch.autograd.grad((result * weights).sum(), leaf)
    torch.testing.assert_close(gradients[1], gradients[0])


def test_noise_is_white_and_follows_from_codes_and_positions_alone() -> None:
    codes = torch.randint(64, (2, 200, 4), generator=torch.Generator().manual_seed(0))
    noise, inverse = FrameNoise(spectrogram_config_for(RATE)), InverseSTFT(spectrogram_config_for(RATE))
    places = torch.arange(200)
    whole, part = noise(codes, places), noise(codes[:, 50:60], places[50:60])
    spectrum = inverse.transform(whole)[:, 4:-4].abs().square().mean(dim=(0, 1))
    assert float(spectrum.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(spectrum.std()) < 0.15
    assert torch.equal(whole[:, 50 * noise.step : 60 * noise.step], part)
    assert not torch.equal(noise(codes[:, 50:60], places[:10]), part)  # another place
    assert not torch.equal(noise(codes, places, 1), whole)
    gaps = noise(codes[:, :5], torch.tensor([0, 1, -1, -1, 0])).reshape(2, 5, noise.step)
    assert [bool(gaps[:, frame].any()) for frame in range(5)] == [True, True, False, False, True]


def test_no_weights_make_bins_sound_that_no_band_hears() -> None:
    codec = build_vqvae(44_100, get_adaptive_vqvae_config(20), 0, warm=False).eval()
    features = torch.zeros(1, 8, codec.spectrogram.features)
    codes = torch.zeros(1, 8, len(codec.architecture.codebook_sizes), dtype=torch.int64)
    with torch.no_grad():
        noise = noise_of(codec, UNKNOWN, 8)
        before = codec.synthesise(features, codes, noise)
        codec.head.bias[[0, *range(1021, 1025)]] += 8.0
        torch.testing.assert_close(codec.synthesise(features, codes, noise), before)
        codec.head.bias[1015] += 8.0
        assert (codec.synthesise(features, codes, noise) - before).abs().max() > 1e-3
