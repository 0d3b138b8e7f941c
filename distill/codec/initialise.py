"""Where the codec's training starts: projection and codebooks fitted to the corpus, decoder trained on practice sounds."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from distill.audio.augment import VARISPEED_SEMITONES, varispeed, waveform
from distill.audio.corpus import Corpus, CorpusEntry
from distill.codec.model import VQVAE
from distill.seeds import Stream, derive_seed

PRETRAINED = Path(__file__).parent / "pretrained"
PRETRAINED_PARTS = ("decoder.", "head.")

VIEWS = 8  # of each recording: as it is, and shifted, louder or softer, faster or slower
SPREADS = (0.0, 0.3, 1.0)  # candidates for how far views go from the recording: 0 only shifts, 1 the whole range
MAX_FIT_FRAMES = 120_000  # of features, for principal components and k-means
MAX_TRIAL_FRAMES = 8_000  # the same when candidates are compared
MIN_PIECE_FRAMES = 64
TRIAL_SHARE = 5  # one recording in so many judges the candidates
GAIN_RANGE_DB = (-8.0, 2.0)


def pretrained_path(n_fft: int) -> Path:
    """Where the practised weights for that window lie, if there are some."""
    return PRETRAINED / f"n_fft_{n_fft}.safetensors"


def load_pretrained(model: VQVAE, n_fft: int | None = None, parts: tuple[str, ...] = PRETRAINED_PARTS) -> bool:
    """Give `parts` of the decoder the weights learnt from practice sounds. False when there are none for their shape.

    They are those for a window of `n_fft` samples, the model's own where it is None.
    """
    path = pretrained_path(model.spectrogram.n_fft if n_fft is None else n_fft)
    if not path.is_file():
        return False
    own = {key: value for key, value in model.state_dict().items() if key.startswith(parts)}
    learnt = {key: value.float() for key, value in load_file(path).items() if key.startswith(parts)}
    if {key: value.shape for key, value in own.items()} != {key: value.shape for key, value in learnt.items()}:
        return False
    model.load_state_dict(learnt, strict=False)
    return True


@torch.no_grad()
def initialise(model: VQVAE, corpus: Corpus, entries: Sequence[CorpusEntry], seed: int) -> None:
    """Projection by principal components and codebooks, both fitted to views of the training recordings.

    How far the views go is decided by coding every fifth training recording with what the others gave, by k-means alone.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, Stream.CODEC_FIT))
    model.eval()
    spread = _best_spread(model, corpus, entries, generator)
    pieces = _view_features(model, corpus, entries, spread, MAX_FIT_FRAMES, generator)
    model.fit_projection(torch.cat(pieces))
    model.quantizer.fit([model.project(piece) for piece in pieces], generator)


def _best_spread(model: VQVAE, corpus: Corpus, entries: Sequence[CorpusEntry], generator: torch.Generator) -> float:
    judges = entries[TRIAL_SHARE - 1 :: TRIAL_SHARE]
    others = [entry for number, entry in enumerate(entries) if number % TRIAL_SHARE != TRIAL_SHARE - 1]
    if not judges:
        return SPREADS[-1]
    wanted = _view_features(model, corpus, judges, None, MAX_TRIAL_FRAMES, generator)
    errors = []
    for spread in SPREADS:
        features = torch.cat(_view_features(model, corpus, others, spread, MAX_TRIAL_FRAMES, generator))
        model.fit_projection(features)
        model.quantizer.fit_frames(model.project(features), generator)
        errors.append(sum(_error(model, piece) for piece in wanted))
    return SPREADS[errors.index(min(errors))]


def _error(model: VQVAE, features: Tensor) -> float:
    """What coding features `[F, features]` leaves over, as the projection weighs it, summed."""
    latents = model.quantizer.decode(model.quantizer.search(model.project(features)[None]))[0]
    return float(((model.unproject(latents) - features) * cast(Tensor, model.weights)).abs().sum())


def _view_features(
    model: VQVAE,
    corpus: Corpus,
    entries: Sequence[CorpusEntry],
    spread: float | None,
    most: int,
    generator: torch.Generator,
) -> list[Tensor]:
    """Features `[F, features]` of pieces, about `most` frames: `VIEWS` of each recording, or with `spread` None each as it is."""
    config = model.spectrogram
    # Of a large corpus a random part: pieces of random recordings, until there are frames enough.
    views = 1 if spread is None else VIEWS
    piece = max(MIN_PIECE_FRAMES, most // (views * len(entries))) * config.samples_per_frame
    kept: list[Tensor] = []
    frames_kept = 0
    for index in torch.randperm(len(entries), generator=generator).tolist():
        if frames_kept >= most:
            break
        entry = entries[index]
        length = min(entry.samples, piece)
        for view in range(views):
            start = int(torch.randint(entry.samples - length + 1, (1,), generator=generator))
            audio = waveform(corpus, entry, start, length)
            shift, played = 0, audio
            if view and spread is not None:
                shift = int(torch.randint(config.samples_per_frame, (1,), generator=generator))
                played = _changed(audio, spread, generator)
            frames = config.frames_for(len(played) + shift)
            padded = torch.zeros(frames * config.samples_per_frame + 2 * config.margin)
            padded[config.margin + shift : config.margin + shift + len(played)] = played
            kept.append(model.features(padded[None])[0])
            frames_kept += frames
    return kept


def _changed(audio: Tensor, spread: float, generator: torch.Generator) -> Tensor:
    low, high = GAIN_RANGE_DB
    decibels = spread * (low + (high - low) * float(torch.rand(1, generator=generator)))
    semitones = spread * VARISPEED_SEMITONES * (2 * float(torch.rand(1, generator=generator)) - 1)
    played = varispeed(audio, 2 ** (semitones / 12)) if semitones else audio
    return played * 10 ** (decibels / 20)
