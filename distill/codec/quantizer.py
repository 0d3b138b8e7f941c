"""Residual vector quantisation whose finer levels overlap in time.

The first two levels code each frame by itself, so that equal frames get equal codes and a prior can predict them. Their
residual is coded by the finer levels together with the neighbouring frames: a codeword there also adds to the frames
around its own, weighted by a kernel, and each frame's codes are searched given its neighbours'. In steady sound, where
a plain quantizer repeats the same codewords, several frames share theirs: at equal bitrate 6 to 33 % less squared error
(docs/decisions). In decoding the sum of the plain levels is smoothed by a kernel, too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.codec.constants import FIT_ROUNDS, PLAIN_LEVELS, PLAIN_REACH
from distill.codec.fitting import fitted_codebooks, fitted_kernel, kmeans
from distill.codec.loudness import LOUDNESS_RANGE, loudness_step
from distill.codec.search import (
    REACH,
    SEARCH_CONTEXT,
    BeamSearch,
    identity_kernel,
    join_sequences,
    overlap,
    overlap_weights,
    overlapping_search,
    sum_codewords,
)
from distill.codec.spectral import mask_gaps


class Quantized(NamedTuple):
    """`latents` `[B, F, D]` with straight-through gradient, `codes` `[B, F, Q]` int64, `commit_loss` scalar."""

    latents: Tensor
    codes: Tensor
    commit_loss: Tensor


class ResidualQuantizer(nn.Module):
    """Residual quantizer of Q codebooks of V codewords, whose finer levels overlap in time.

    Latents are coded as sums of one codeword a level. Codebooks move by exponential averages (van den Oord et al. 2017,
    arXiv 1711.00937, appendix A.1), in training mode only. Everything is fp32: under autocast the nearest codeword is
    not reliably found. The gradient is straight-through.

    With a `loudness_scale` the first component of latents is the loudness (log10 of an amplitude) times this scale, and
    the first level codes it alone, in equal steps: whatever the recordings, no sound is too loud or too soft for it.
    The other levels have 0 there.
    """

    codebooks: Tensor  # [Q, V, D]
    # [2, KERNEL_FRAMES, D], of plain and finer levels: entry k weighs the codewords of frame t + k - REACH in frame t
    kernels: Tensor
    counts: Tensor  # [Q, V], moving averages of how many latents have a codeword
    sums: Tensor  # [Q, V, D], moving averages of the sum of these latents' targets for it

    def __init__(
        self,
        latent_size: int,
        codebook_size: int,
        num_quantizers: int,
        ema_decay: float,
        loudness_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.loudness_scale = loudness_scale
        self.codebook_size, self.num_quantizers, self.ema_decay = codebook_size, num_quantizers, ema_decay
        self.register_buffer("codebooks", torch.zeros(num_quantizers, codebook_size, latent_size))
        self.register_buffer("kernels", identity_kernel(latent_size).repeat(2, 1, 1))
        self.register_buffer("counts", torch.ones(num_quantizers, codebook_size))
        self.register_buffer("sums", torch.zeros(num_quantizers, codebook_size, latent_size))

    @property
    def search_context(self) -> int:
        """Frames before and after a frame that can decide its codes."""
        return SEARCH_CONTEXT if self.num_quantizers > PLAIN_LEVELS else 0

    def forward(self, latents: Tensor) -> Quantized:
        """Quantise `[B, F, D]`. The commitment loss is the mean squared error of the whole stack, unweighted."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            codes = self.search(latents.detach())
            quantized = self.decode(codes)
            commit_loss = (latents - quantized).square().mean()
            if self.training:
                self._update_codebooks(latents.detach(), codes)
            return Quantized(latents + (quantized - latents).detach(), codes, commit_loss)

    @torch.no_grad()
    def search(self, latents: Tensor, positions: Tensor | None = None) -> Tensor:
        """Codes `[B, F, Q]` of latents `[B, F, D]` at `positions` `[F]` of their sound, 0 to F - 1 if None.

        A frame's codes depend on its position and on `search_context` frames before and after it, on nothing else.
        Frames at position -1 are gaps between sounds.
        """
        batch, frames, _ = latents.shape
        rows, turns = join_sequences(latents, positions)
        codes, inside = self._plain_search(rows, turns)
        if self.num_quantizers > PLAIN_LEVELS:
            residual = rows - overlap(self._plain_sum(codes) * inside[:, None], self.kernels[0])
            codes[:, PLAIN_LEVELS:] = overlapping_search(
                residual, turns, self.codebooks[PLAIN_LEVELS:], self.kernels[1]
            )
        return codes.reshape(batch, frames + 2 * REACH, -1)[:, REACH : REACH + frames]

    def decode(self, codes: Tensor, inside: Tensor | None = None) -> Tensor:
        """Latents `[B, F, D]` of codes `[B, F, Q]`; `REACH` frames before and after a frame decide its latent.

        `inside` `[F]` is 0 in gaps, whose codes are ignored, and 1 elsewhere.
        """
        latents = overlap(mask_gaps(self._plain_sum(codes), inside), self.kernels[0])
        if self.num_quantizers > PLAIN_LEVELS:
            latents = latents + overlap(mask_gaps(self._finer_sum(codes), inside), self.kernels[1])
        return latents

    @torch.no_grad()
    def fit(self, pieces: Sequence[Tensor], generator: torch.Generator, rounds: int = FIT_ROUNDS) -> None:
        """Fit codebooks and kernels to latents `[F, D]` of pieces of sound from the whole corpus.

        `rounds` are those of search, kernel and codebooks in turn.
        """
        self.fit_frames(torch.cat(list(pieces)), generator)
        self._fit_overlap(pieces, rounds)

    @torch.no_grad()
    def fit_frames(self, latents: Tensor, generator: torch.Generator) -> None:
        """Fit codebooks to latents `[n, D]` by k-means, level after level; no codeword overlaps another frame."""
        residual = latents.float()
        self.kernels.copy_(identity_kernel(residual.shape[1]))
        for level in range(self.num_quantizers):
            if self.loudness_scale is not None and level == 0:
                self.codebooks[0], assignment = self._loudness_steps(residual, self.loudness_scale)
                residual = residual.clone()
                residual[:, 0] = 0.0
            else:
                self.codebooks[level], assignment = kmeans(residual, self.codebook_size, generator)
                residual = residual - self.codebooks[level][assignment]
            self._start_averages(level, assignment)

    def _loudness_steps(self, latents: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Codebook `[V, D]` of equal steps of loudness, and the nearest codeword to each latent `[n]`."""
        codebook = torch.zeros_like(self.codebooks[0])
        step = loudness_step(self.codebook_size)
        codebook[:, 0] = (LOUDNESS_RANGE[0] + step * torch.arange(self.codebook_size, device=codebook.device)) * scale
        nearest = torch.bucketize(latents[:, 0].contiguous(), (codebook[1:, 0] + codebook[:-1, 0]) / 2)
        return codebook, nearest

    def _leave_loudness(self) -> None:
        """Keep loudness to the first level, and out of what is smoothed over time."""
        if self.loudness_scale is not None:
            self.codebooks[1:, :, 0] = 0.0
            self.kernels[:, :, 0] = identity_kernel(1)[:, 0]

    def _fit_overlap(self, pieces: Sequence[Tensor], rounds: int) -> None:
        """After `fit_frames`: fit kernels and finer codebooks by least squares, in turn with the search."""
        parts = [join_sequences(piece[None].float()) for piece in pieces]
        rows, turns = torch.cat([rows for rows, _ in parts]), torch.cat([turns for _, turns in parts])
        codes, inside = self._plain_search(rows, turns)
        plain = self._plain_sum(codes) * inside[:, None]
        self.kernels[0] = fitted_kernel(plain, rows, inside, PLAIN_REACH)
        self._leave_loudness()
        if self.num_quantizers > PLAIN_LEVELS:
            codebooks, residual = self.codebooks[PLAIN_LEVELS:], rows - overlap(plain, self.kernels[0])
            if self.loudness_scale is not None:
                residual[:, 0] = 0.0
            finer = None
            for fit_round in range(rounds):
                finer = overlapping_search(residual, turns, codebooks, self.kernels[1], finer, rounds=1)
                codewords = sum_codewords(codebooks, finer) * inside[:, None]
                self.kernels[1] = fitted_kernel(codewords, residual, inside, REACH)
                if fit_round:  # the first search was without a kernel
                    codebooks.copy_(fitted_codebooks(codebooks, finer, residual, inside, self.kernels[1]))
                self._leave_loudness()
            codes[:, PLAIN_LEVELS:] = overlapping_search(residual, turns, codebooks, self.kernels[1], finer, rounds=1)
        for level in range(self.num_quantizers):
            self._start_averages(level, codes[inside, level])

    def _plain_search(self, rows: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
        """Codes `[n, Q]` of joined rows, 0 but for the plain levels, and whether rows are no gaps, `[n]`."""
        inside = turns >= 0
        codes = torch.zeros(len(rows), self.num_quantizers, dtype=torch.int64, device=rows.device)
        codes[inside, :PLAIN_LEVELS] = BeamSearch(self.codebooks[:PLAIN_LEVELS])(rows[inside])
        return codes, inside

    def _start_averages(self, level: int, chosen: Tensor) -> None:
        """Start a level's moving averages with how often each codeword was chosen."""
        self.counts[level] = torch.bincount(chosen, minlength=self.codebook_size).clamp_min(1).float()
        self.sums[level] = self.codebooks[level] * self.counts[level][:, None]

    def _plain_sum(self, codes: Tensor) -> Tensor:
        return sum_codewords(self.codebooks[:PLAIN_LEVELS], codes[..., :PLAIN_LEVELS])

    def _finer_sum(self, codes: Tensor) -> Tensor:
        return sum_codewords(self.codebooks[PLAIN_LEVELS:], codes[..., PLAIN_LEVELS:])

    @torch.no_grad()
    def _update_codebooks(self, latents: Tensor, codes: Tensor) -> None:
        """Advance the moving averages by one step, summed over all processes of a training.

        A plain level's codeword moves towards the mean residual of the other plain level. The finer levels' codewords,
        moving all at once, take a step down the residual of the plain ones. Latents that are not finite are left out.
        """
        finite = latents.isfinite().all()
        plain = self._plain_sum(codes)
        errors = [(latents - plain).flatten(0, 1)] * min(PLAIN_LEVELS, self.num_quantizers)
        if self.num_quantizers > PLAIN_LEVELS:
            rows, turns = join_sequences(latents - overlap(plain, self.kernels[0]))
            inside = turns >= 0
            finer = torch.zeros_like(rows)
            finer[inside] = self._finer_sum(codes).flatten(0, 1)
            neighbours, weights = overlap_weights(inside, inside.nonzero()[:, 0], self.kernels[1])
            steps = ((rows - overlap(finer, self.kernels[1]))[neighbours] * weights).sum(dim=1)
            errors += [steps / self.kernels[1].abs().sum(dim=0).square()] * (self.num_quantizers - PLAIN_LEVELS)
        codes = codes.flatten(0, 1)
        for level in range(0 if self.loudness_scale is None else 1, self.num_quantizers):
            chosen, codebook = codes[:, level], self.codebooks[level]
            count = torch.bincount(chosen, minlength=self.codebook_size).float() * finite
            total = torch.zeros_like(codebook).index_add_(0, chosen, errors[level] + codebook[chosen])
            total = torch.where(finite, total, 0.0)
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.all_reduce(count)
                torch.distributed.all_reduce(total)
            self.counts[level].lerp_(count, 1 - self.ema_decay)
            self.sums[level].lerp_(total, 1 - self.ema_decay)
            # An unused codeword stays where it is: its count and sum shrink together.
            counts = self.counts[level][:, None]
            self.codebooks[level] = torch.where(counts > 1e-6, self.sums[level] / counts.clamp_min(1e-6), codebook)
        self._leave_loudness()
