"""Build a codec for training: load pretrained decoder weights, and fit projection and codebooks to the corpus."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from distill.audio.augment import VARISPEED_SEMITONES, varispeed, waveform
from distill.audio.corpus import Corpus, ManifestRow
from distill.codec.constants import DEAD_CODE_SHARE, FIT_ROUNDS, GAIN_RANGE_DB, STRENGTHS, VIEWS
from distill.codec.data import fixed_pieces
from distill.codec.layout import LOUDNESS_RANGE, LOUDNESS_STEP
from distill.codec.model import VQVAE, VQVAEArchitecture
from distill.codec.spectral import spectrogram_config_for
from distill.codec.tones.atoms import FITTED, fit_sets, set_partials, shipped_sets
from distill.errors import ParamsError
from distill.params import VQVAEConfig
from distill.progress import Progress, silent
from distill.seeds import Stream, derive_seed

PRETRAINED = Path(__file__).parent / "pretrained"
PRETRAINED_PARTS = ("decoder.", "head.", "texture_head.", "tone_head.")

SYNTHETIC_SOUND_FRAMES = 80
SYNTHETIC_GAIN_RANGE = (0.3, 1.0)
MIN_PIECE_FRAMES = 64


def build_vqvae(sample_rate: int, config: VQVAEConfig, seed: int, warm: bool = True) -> VQVAE:
    """Build a codec with random weights from `seed`, and pretrained weights if `warm`. Raises ParamsError."""
    spectrogram = spectrogram_config_for(sample_rate)
    if config.latent_size > spectrogram.features:
        raise ParamsError(
            f"vqvae.latent_size: expected at most {spectrogram.features}, the features of a frame at {sample_rate} Hz, "
            f"found {config.latent_size}"
        )
    decay, threshold = 1.0, 0.0  # without training of the encoder, codewords stay as fitted
    if config.encoder_rate:
        frames = config.batch_size * config.crop_seconds * spectrogram.frame_rate
        decay, threshold = config.ema_decay, DEAD_CODE_SHARE * frames / config.codebook_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, Stream.CODEC_WEIGHTS))
        model = VQVAE(architecture_of(config), spectrogram, config.dropout, decay)
    model.quantizer.dead_code_threshold = threshold
    set_partials(model.tone, shipped_sets())
    if warm:
        load_pretrained(model)
    return model


def architecture_of(config: VQVAEConfig) -> VQVAEArchitecture:
    """Architecture of a codec with these settings."""
    sizes = config.model_dump(include=set(VQVAEArchitecture.model_fields))
    return VQVAEArchitecture(**sizes, partial_sets=len(shipped_sets()) + FITTED)


def pretrained_path(n_fft: int) -> Path:
    """Path of the pretrained weights for a window of `n_fft` samples; the file may not exist."""
    return PRETRAINED / f"n_fft_{n_fft}.safetensors"


def load_pretrained(
    model: VQVAE, n_fft: int | None = None, parts: tuple[str, ...] = PRETRAINED_PARTS
) -> bool:
    """Load weights pretrained for `n_fft`, by default the model's, into `parts`. False if no weights fit."""
    path = pretrained_path(n_fft or model.spectrogram.n_fft)
    if not path.is_file():
        return False
    own = {key: value for key, value in model.state_dict().items() if key.startswith(parts)}
    pretrained = {
        key: value.float() for key, value in load_file(path).items() if key.startswith(parts)
    }
    if {key: value.shape for key, value in own.items()} != {
        key: value.shape for key, value in pretrained.items()
    }:
        return False
    model.load_state_dict(pretrained, strict=False)
    return True


@torch.no_grad()
def initialise(
    model: VQVAE,
    corpus: Corpus,
    entries: Sequence[ManifestRow],
    seed: int,
    synthetic: bool = True,
    progress: Progress = silent,
) -> None:
    """Fit input gain, tones, projection (principal components) and codebooks to the recordings and their augmentations.

    With `synthetic`, synthetic sounds are added, so that codewords cover more than a few recordings. Omit them for a
    codec of these recordings alone. Augmentation strengths are compared on every fifth recording, with codebooks fitted
    to the others by k-means. `progress` is called with (done, total, text).
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, Stream.CODEC_FIT))
    model.eval()
    tones, trials = 1, len(STRENGTHS)  # steps of similar duration
    steps = tones + trials + FIT_ROUNDS + 1
    progress(0, steps, "tones")
    fit_input_gain(model, corpus, entries)
    fit_tones(model, _tone_pieces(model, corpus, entries, generator), generator)
    strength = _best_strength(
        model, corpus, entries, generator, lambda trial: progress(tones + trial, steps, "trials")
    )
    progress(tones + trials, steps, "views")
    pieces = _view_features(model, corpus, entries, strength, 120_000, generator)
    if synthetic:
        pieces += _synthetic_features(model, sum(len(piece) for piece in pieces), generator)
    model.fit_projection(torch.cat(pieces))
    latents = [model.project(piece) for piece in pieces]
    model.quantizer.fit(
        latents,
        generator,
        progress=lambda done: progress(tones + trials + 1 + done, steps, "codebooks"),
    )


@torch.no_grad()
def fit_input_gain(model: VQVAE, corpus: Corpus, entries: Sequence[ManifestRow]) -> None:
    """Set the gain that brings the loudest recording near full scale, the range of floors and pretrained weights.

    The gain is lower if the loudest frame would exceed the loudest code by more than a step, as dense sounds may.
    """
    step, gain = model.spectrogram.samples_per_frame, float(corpus.gain)
    pieces = fixed_pieces(corpus, entries, MIN_PIECE_FRAMES * step, step, max_pieces=256)
    padded = nn.functional.pad(
        pieces.audio * gain, (model.spectrogram.margin, model.spectrogram.margin)
    )
    loudest = max(
        float(model.frame_features.loudness(model.frame_features(one)).max())
        for one in padded.split(8)
    )
    too_loud = max(0.0, loudest - LOUDNESS_RANGE[1] - LOUDNESS_STEP)
    gain /= 2 ** math.ceil(too_loud / math.log10(2))
    model.architecture = model.architecture.model_copy(update={"input_gain": gain})


def _best_strength(
    model: VQVAE,
    corpus: Corpus,
    entries: Sequence[ManifestRow],
    generator: torch.Generator,
    progress: Callable[[int], None] = lambda _: None,
) -> float:
    held_out, others, max_frames = entries[4::5], list(entries), 8_000
    del others[4::5]
    if not held_out:
        return STRENGTHS[-1]
    targets = _view_features(model, corpus, held_out, 0.0, max_frames, generator, views=1)
    errors = []
    for trial, strength in enumerate(STRENGTHS):
        progress(trial)
        features = torch.cat(_view_features(model, corpus, others, strength, max_frames, generator))
        model.fit_projection(features)
        model.quantizer.fit_frames(model.project(features), generator)
        errors.append(sum(_error(model, piece) for piece in targets))
    return STRENGTHS[errors.index(min(errors))]


def _error(model: VQVAE, features: Tensor) -> float:
    """Sum of the absolute errors of coding features `[F, features]`, weighted as in the projection."""
    latents = model.quantizer.decode(model.quantizer.search(model.project(features)[None]))[0]
    return float(((model.unproject(latents) - features) * model.weights).abs().sum())


def fit_tones(model: VQVAE, pieces: Iterable[Tensor], generator: torch.Generator) -> None:
    """Fit partial sets to pieces of sound `[N]`."""
    sounds = []
    for piece in pieces:
        padded = model.amplified(model.spectrogram.padded(piece, model.margin))
        spare = model.margin - model.spectrogram.margin
        log_mel = model.frame_features.log_mel(padded[:, spare : padded.shape[1] - spare])[0]
        sounds.append((padded[0], log_mel.unflatten(0, (-1, model.spectrogram.stack)).mean(dim=1)))
    fit_sets(model.tone, model.pitch, sounds, generator)


def _tone_pieces(
    model: VQVAE, corpus: Corpus, entries: Sequence[ManifestRow], generator: torch.Generator
) -> Iterator[Tensor]:
    """Pieces `[N]` of recordings, about 6000 frames in total."""
    max_frames, frames = 6_000, 0
    piece = max(MIN_PIECE_FRAMES, max_frames // len(entries))
    for index in torch.randperm(len(entries), generator=generator).tolist():
        if frames >= max_frames:
            break
        length = min(entries[index].samples, piece * model.spectrogram.samples_per_frame)
        start = int(torch.randint(entries[index].samples - length + 1, (1,), generator=generator))
        yield waveform(corpus, entries[index], start, length)
        frames += model.spectrogram.frames_for(length)


def _view_features(
    model: VQVAE,
    corpus: Corpus,
    entries: Sequence[ManifestRow],
    strength: float,
    max_frames: int,
    generator: torch.Generator,
    views: int = VIEWS,
) -> list[Tensor]:
    """Features `[F, features]` of pieces of recordings, about `max_frames` frames in total.

    Each recording gives `views` pieces: the first unmodified, the others augmented.
    """
    step = model.spectrogram.samples_per_frame
    piece = max(MIN_PIECE_FRAMES, max_frames // (views * len(entries))) * step
    kept: list[Tensor] = []
    frames = 0
    for index in torch.randperm(len(entries), generator=generator).tolist():
        if frames >= max_frames:
            break
        length = min(entries[index].samples, piece)
        for view in range(views):
            start = int(
                torch.randint(entries[index].samples - length + 1, (1,), generator=generator)
            )
            audio, shift = waveform(corpus, entries[index], start, length), 0
            if view:
                shift = int(torch.randint(step, (1,), generator=generator))
                audio = _augment(audio, strength, generator)
            kept.append(features_of(model, audio, shift)[0])
            frames += len(kept[-1])
    return kept


def _synthetic_features(model: VQVAE, recorded: int, generator: torch.Generator) -> list[Tensor]:
    """Features `[F, features]` of synthetic sounds, `recorded` frames up to 8000."""
    # SciPy's filters take a second to load.
    from distill.audio.synthetic_sounds import synthetic_sound

    config = model.spectrogram
    sounds = min(recorded, 8_000) // SYNTHETIC_SOUND_FRAMES
    made: list[Tensor] = []
    for seed in torch.randint(2**62, (sounds,), generator=generator).tolist():
        rng = np.random.default_rng(seed)
        sound = synthetic_sound(
            rng, config.sample_rate, SYNTHETIC_SOUND_FRAMES * config.samples_per_frame
        )
        sound = sound * np.float32(
            rng.uniform(*SYNTHETIC_GAIN_RANGE) / model.architecture.input_gain
        )
        made.append(features_of(model, torch.from_numpy(sound))[0])
    return made


def features_of(model: VQVAE, audio: Tensor, shift: int = 0) -> tuple[Tensor, Tensor]:
    """Features `[F, features]` without combs, and tone codes `[F, 3]`, of samples `[N]` padded with silence.

    The samples are delayed by `shift`.
    """
    features, tones = model.flat_features(model.spectrogram.padded(audio, model.margin, shift))
    return features[0], tones[0]


def _augment(audio: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Apply a random gain and speed to audio `[N]`."""
    low, high = GAIN_RANGE_DB
    decibels = strength * (low + (high - low) * float(torch.rand(1, generator=generator)))
    semitones = strength * VARISPEED_SEMITONES * (2 * float(torch.rand(1, generator=generator)) - 1)
    played = varispeed(audio, 2 ** (semitones / 12)) if semitones else audio
    return played * 10 ** (decibels / 20)
