"""Encode and decode sounds of any length and number: long sounds in chunks, short sounds packed into one row.

Chunks and rows do not change codes, and change samples only by rounding. A chunk includes the context of the network,
the codeword search, the kernels and the choice of tones. Sounds in a row are separated by gaps, which every layer
treats as silence, like the ends of a sound. Phases of tones are cumulative sums over a whole sound, computed before
chunked decoding.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, repeat
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.audio.noise_floor import by_frame
from distill.audio.side_info import UNKNOWN, SideInfo
from distill.codec.decoder import LOW_STEADY
from distill.codec.envelope import LOW_STEPS, MATCHES
from distill.codec.model import VQVAE
from distill.codec.search import REACH
from distill.codec.spectral import inside_mask
from distill.codec.tones.layer import STEADY
from distill.errors import AudioWarning

CHUNK_FRAMES = 512  # code frames processed at once, of one or several sounds: 11 s at 24 kHz
MOST_PEAK = 2.0  # of samples after input gain: loudness codes would clip louder sounds by more than 1 or 2 dB
GAP_FRAMES = REACH  # frames that codewords and averages of gains reach; convolutions over hops have a shorter reach

T = TypeVar("T")

Read = Callable[[int, int], Tensor]  # returns samples from a start (inclusive) to a stop


def within_full_scale(codec: VQVAE, samples: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Attenuate samples `[N]` that are much louder than the codec's training recordings, with an AudioWarning.

    The range of loudness codes ends not far above these recordings.
    """
    peak = float(np.abs(samples).max(initial=0.0)) * codec.architecture.input_gain / MOST_PEAK
    if peak <= 1:
        return samples
    warnings.warn(
        f"{name}: louder than the recordings that the model learnt; made {20 * math.log10(peak):.1f} dB softer",
        AudioWarning,
        stacklevel=3,
    )
    return samples / np.float32(peak)


def encode(codec: VQVAE, audio: Tensor, chunk_frames: int = CHUNK_FRAMES) -> Tensor:
    """Codes `[B, frames_for(N), Q]` of samples `[B, N]`; `chunk_frames` limits memory, not the result."""
    return _encode_from(
        codec, lambda start, stop: audio[:, start:stop], audio.shape[1], chunk_frames
    )


@torch.no_grad()
def _encode_from(codec: VQVAE, read: Read, samples: int, chunk_frames: int) -> Tensor:
    """Codes `[B, frames_for(samples), Q]` of a sound read in pieces `[B, n]`, or `[n]` for a batch of size 1."""
    margin, step = codec.margin, codec.spectrogram.samples_per_frame
    frames, context = codec.spectrogram.frames_for(samples), codec.quantizer.search_context
    codes = torch.empty(0, dtype=torch.int64)
    for start in range(0, frames, chunk_frames):
        stop = min(frames, start + chunk_frames)
        searched, until = max(0, start - context), min(frames, stop + context)
        first, last = max(0, searched - codec.context), min(frames, until + codec.context)
        begin, end = first * step - margin, last * step + margin
        piece = torch.atleast_2d(read(max(0, begin), min(samples, end))).to(codec.device)
        piece = nn.functional.pad(piece, (max(0, -begin), end - max(0, begin) - piece.shape[1]))
        latents, tones = (
            part[:, searched - first : until - first] for part in codec.analyse(piece)
        )
        found = codec.search(latents, tones, torch.arange(searched, until, device=latents.device))
        # Allocate once: pieces kept between short-lived tensors would fragment memory.
        if not start:
            codes = found.new_empty(len(found), frames, found.shape[2])
        codes[:, start:stop] = found[:, start - searched : stop - searched]
    return codes


@torch.no_grad()
def decode(
    codec: VQVAE,
    codes: Tensor,
    noise: Tensor | None = None,
    chunk_frames: int = CHUNK_FRAMES,
    draws: int = 1,
) -> Tensor:
    """Samples `[draws * B, F * samples_per_frame]` of codes `[B, F, Q]`, with `draws` realisations of the noise.

    `noise` `[B, F, noise bands]` is log10 of noise to tone, as from `noise_of`; None means that it is unknown. Apart
    from the result, memory is limited by `chunk_frames`.
    """
    noise = (
        noise_of(codec, UNKNOWN, codes.shape[1]).expand(len(codes), -1, -1)
        if noise is None
        else noise
    )
    frames = codes.shape[1]
    step = codec.spectrogram.samples_per_frame
    stack = codec.spectrogram.stack
    context = decoded_context(codec)
    audio = torch.empty(draws * len(codes), frames * step, device=codes.device)
    phases = codec.tone.phases(codec.layout.split(codes)[1])
    for start in range(0, frames, chunk_frames):
        stop = min(frames, start + chunk_frames)
        first, last = max(0, start - context), min(frames, stop + context)
        summed, until = max(0, first - REACH), min(frames, last + REACH)
        latents = codec.dequantise(codes[:, summed:until])[:, first - summed : last - summed]
        features = codec.unproject(latents)
        positions = torch.arange(first, last, device=latents.device)
        own = phases[:, first * stack : last * stack]
        piece = codec.synthesise(
            features, codes[:, first:last], noise[:, first:last], positions, draws, own
        )
        audio[:, start * step : stop * step] = piece[
            :, (start - first) * step : (stop - first) * step
        ]
    return audio


def decoded_context(codec: VQVAE) -> int:
    """Number of frames before and after a frame that influence its samples, apart from the phases of tones."""
    overlap = codec.spectrogram.n_fft // codec.spectrogram.hop_length
    averages = sum(hops for hops, _ in STEADY) + LOW_STEADY[0]
    # Each match of the envelope reaches up to 2 frames, plus the average of gains.
    gains = -(-LOW_STEPS // (codec.spectrogram.stack * codec.spectrogram.envelope_steps))
    return -(-(averages + codec.decoder.context + overlap) // codec.spectrogram.stack) + (
        MATCHES + 1
    ) * (2 + gains)


def noise_of(codec: VQVAE, about: SideInfo, frames: int) -> Tensor:
    """Log10 of noise to tone `[1, frames, noise bands]` of a sound, on the codec's device."""
    return torch.from_numpy(by_frame(about.noise, frames, codec.spectrogram.frame_rate))[None].to(
        codec.device
    )


def encode_each(codec: VQVAE, sounds: Iterable[Tensor]) -> Iterator[Tensor]:
    """Codes `[F, Q]` of every sound `[N]`, in order; short sounds are packed."""

    def whole(sound: Tensor) -> tuple[int, Read]:
        return len(sound), lambda start, stop: sound[start:stop]

    return encode_each_from(codec, map(whole, sounds))


@torch.no_grad()
def encode_each_from(codec: VQVAE, sounds: Iterable[tuple[int, Read]]) -> Iterator[Tensor]:
    """Codes `[F, Q]` of every sound, in order, from pairs of its length in samples and a reader.

    Long sounds are read in pieces.
    """
    config = codec.spectrogram
    for run in runs((config.frames_for(sound[0]), sound) for sound in sounds):
        if len(run) == 1:
            ((samples, read),) = run
            yield from _encode_from(codec, read, samples, CHUNK_FRAMES)
            continue
        gap = max(GAP_FRAMES, -(-codec.margin // config.samples_per_frame))
        row = _PackedRow([config.frames_for(samples) for samples, _ in run], gap)
        positions = row.positions.to(codec.device)
        audio = row.pack([read(0, samples) for samples, read in run], config.samples_per_frame).to(
            codec.device
        )
        audio = nn.functional.pad(audio, (codec.margin, codec.margin))
        found = codec.search(*codec.analyse(audio, inside_mask(positions)), positions)
        yield from (part[0] for part in row.unpack(found))


@torch.no_grad()
def decode_each(
    codec: VQVAE, codes: Iterable[Tensor], side_info: Iterable[SideInfo] = repeat(UNKNOWN)
) -> Iterator[Tensor]:
    """Samples `[F * samples_per_frame]` of every sound's codes `[F, Q]`, in order; short sounds are packed.

    If the side information is stereo, samples are `[2, F * samples_per_frame]`: two realisations of the noise.
    """
    for run in runs((len(one), (one, about)) for one, about in zip(codes, side_info, strict=False)):
        draws = 1 + any(about.is_stereo for _, about in run)
        parts = [one for one, _ in run]
        noise = [noise_of(codec, about, len(one)) for one, about in run]
        if len(run) == 1:
            drawn = [decode(codec, parts[0][None].to(codec.device), noise[0], draws=draws)]
        else:
            row = _PackedRow(list(map(len, parts)), GAP_FRAMES)
            positions, packed = row.positions.to(codec.device), row.pack(parts).to(codec.device)
            inside, beside = inside_mask(positions), row.pack([one[0] for one in noise])
            features = codec.unproject(codec.dequantise(packed, inside))
            whole = codec.synthesise(features, packed, beside, positions, draws, inside=inside)
            drawn = row.unpack(whole, codec.spectrogram.samples_per_frame)
        for sound, (_, about) in zip(drawn, run, strict=True):
            yield sound if about.is_stereo else sound[0]


def runs(items: Iterable[tuple[int, T]]) -> Iterator[list[T]]:
    """Group items of (frames, item) pairs, in order, into runs of at most `CHUNK_FRAMES` frames, or a single item."""
    run: list[T] = []
    total = 0
    for frames, item in items:
        if run and total + frames > CHUNK_FRAMES:
            yield run
            run, total = [], 0
        run.append(item)
        total += frames
    if run:
        yield run


class _PackedRow:
    """Layout of sounds with these numbers of `frames` in a row of F frames, separated by gaps of `gap` frames.
    `positions` `[F]` holds each frame's position in its own sound, -1 in gaps.
    """

    def __init__(self, frames: Sequence[int], gap: int) -> None:
        starts = accumulate((count + gap for count in frames[:-1]), initial=0)
        self.spans = [(start, start + count) for start, count in zip(starts, frames, strict=True)]
        self.positions = torch.full((self.spans[-1][1],), -1)
        for start, stop in self.spans:
            self.positions[start:stop] = torch.arange(stop - start)

    def pack(self, parts: Sequence[Tensor], step: int = 1) -> Tensor:
        """Pack one tensor per sound, `[n, ...]` with n up to `step` per frame, into `[1, F * step, ...]`."""
        row = parts[0].new_zeros(1, len(self.positions) * step, *parts[0].shape[1:])
        for (start, _), part in zip(self.spans, parts, strict=True):
            row[0, start * step : start * step + len(part)] = part
        return row

    def unpack(self, row: Tensor, step: int = 1) -> list[Tensor]:
        """Split `[n, F * step, ...]` into the sounds' parts, `[n, frames * step, ...]` each."""
        return [row[:, start * step : stop * step] for start, stop in self.spans]
