"""Residual vector quantisation whose finer levels overlap in time.

The first two levels code each frame by itself, so that equal frames get equal codes and a prior can foresee them. What
they leave over is coded by the other levels together with the neighbouring frames: a codeword there sounds on in the
frames around its own, weighted by a kernel, and codes are searched frame after frame, each given its neighbours. Steady
sound, of which a plain quantiser says the same again and again, is described with the words of several frames: at equal
bitrate 6 to 33 % less squared error (docs/decisions.md). In decoding the plain levels are smoothed by a kernel, too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.codec.fitting import fitted_codebooks, fitted_kernel, kmeans
from distill.codec.packing import mask_gaps
from distill.codec.search import (
    REACH,
    SEARCH_CONTEXT,
    BeamSearch,
    identity_kernel,
    lay_out,
    overlap,
    overlapping_search,
    sounding,
    sum_codewords,
)

PLAIN_LEVELS = 2  # levels that code each frame by itself
PLAIN_REACH = 1  # frames to either side over which their sum is smoothed in decoding
FIT_ROUNDS = 5  # of search, kernel and codebooks in turn


class Quantized(NamedTuple):
    """`latents` `[B, F, D]` with straight-through gradient, `codes` `[B, F, Q]` int64, `commit_loss` scalar."""

    latents: Tensor
    codes: Tensor
    commit_loss: Tensor


class ResidualQuantizer(nn.Module):
    """Q codebooks of V codewords; latents are coded as the sum of one codeword of each, the finer ones overlapping in time.

    Codebooks move by exponential averages, in training mode only, and everything is fp32: under autocast the nearest
    codeword is not reliably found. The gradient goes straight through.
    """

    codebooks: Tensor  # [Q, V, D]
    kernels: (
        Tensor  # [2, KERNEL_FRAMES, D], of plain and finer levels: entry k weighs the words of frame t + k - REACH in t
    )
    counts: Tensor  # [Q, V], moving averages of how many latents have a codeword
    sums: Tensor  # [Q, V, D], and of the sum of what they want of it

    def __init__(self, latent_size: int, codebook_size: int, num_quantizers: int, ema_decay: float) -> None:
        super().__init__()
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
        """Quantise `[B, F, D]`. The commitment loss is the squared error of the whole stack, unweighted."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            codes = self.search(latents.detach())
            quantized = self.decode(codes)
            commit_loss = (latents - quantized).square().mean()
            if self.training:
                self._follow(latents.detach(), codes)
            return Quantized(latents + (quantized - latents).detach(), codes, commit_loss)

    @torch.no_grad()
    def search(self, latents: Tensor, numbers: Tensor | None = None) -> Tensor:
        """Codes `[B, F, Q]` of latents `[B, F, D]` whose numbers in their sound are `numbers` `[F]`, from 0 on if None.

        A frame's codes depend on its number and on `search_context` frames before and after it, on nothing else. Frames
        with number -1 are gaps between sounds.
        """
        batch, frames, _ = latents.shape
        rows, turns = lay_out(latents, numbers)
        codes, inside = self._plain_search(rows, turns)
        if self.num_quantizers > PLAIN_LEVELS:
            left = rows - overlap(self._plain(codes) * inside[:, None], self.kernels[0])
            codes[:, PLAIN_LEVELS:] = overlapping_search(left, turns, self.codebooks[PLAIN_LEVELS:], self.kernels[1])
        return codes.reshape(batch, frames + 2 * REACH, -1)[:, REACH : REACH + frames]

    def decode(self, codes: Tensor, inside: Tensor | None = None) -> Tensor:
        """Codes `[B, F, Q]` to latents `[B, F, D]`; `REACH` frames before and after it decide one.

        Where `inside` `[F]` is 0 and not 1 no codeword sounds.
        """
        latents = overlap(mask_gaps(self._plain(codes), inside), self.kernels[0])
        if self.num_quantizers > PLAIN_LEVELS:
            latents = latents + overlap(mask_gaps(self._finer(codes), inside), self.kernels[1])
        return latents

    @torch.no_grad()
    def fit(self, pieces: Sequence[Tensor], generator: torch.Generator) -> None:
        """Fit codebooks and kernels to latents `[F, D]` of pieces of sound from the whole corpus."""
        self.fit_frames(torch.cat(list(pieces)), generator)
        self._fit_overlap(pieces)

    @torch.no_grad()
    def fit_frames(self, latents: Tensor, generator: torch.Generator) -> None:
        """Fit codebooks to latents `[n, D]` each by itself, by k-means level after level; no codeword overlaps."""
        residual = latents.float()
        self.kernels.copy_(identity_kernel(residual.shape[1]))
        for level in range(self.num_quantizers):
            self.codebooks[level], assignment = kmeans(residual, self.codebook_size, generator)
            self._count(level, assignment)
            residual = residual - self.codebooks[level][assignment]

    def _fit_overlap(self, pieces: Sequence[Tensor]) -> None:
        """From what `fit_frames` gave on: kernels and finer codebooks by least squares, in turn with the search."""
        laid = [lay_out(piece[None].float()) for piece in pieces]
        rows, turns = torch.cat([rows for rows, _ in laid]), torch.cat([turns for _, turns in laid])
        codes, inside = self._plain_search(rows, turns)
        plain = self._plain(codes) * inside[:, None]
        self.kernels[0] = fitted_kernel(plain, rows, inside, PLAIN_REACH)
        if self.num_quantizers > PLAIN_LEVELS:
            books, left = self.codebooks[PLAIN_LEVELS:], rows - overlap(plain, self.kernels[0])
            finer = None
            for number in range(FIT_ROUNDS):
                finer = overlapping_search(left, turns, books, self.kernels[1], finer, rounds=1)
                self.kernels[1] = fitted_kernel(sum_codewords(books, finer) * inside[:, None], left, inside, REACH)
                if number:  # the first search knew no kernel
                    books.copy_(fitted_codebooks(books, finer, left, inside, self.kernels[1]))
            codes[:, PLAIN_LEVELS:] = overlapping_search(left, turns, books, self.kernels[1], finer, rounds=1)
        for level in range(self.num_quantizers):
            self._count(level, codes[inside, level])

    def _plain_search(self, rows: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
        """Codes `[n, Q]` of rows laid out, those of the plain levels searched and all others 0, and which rows are none of a gap's."""
        inside = turns >= 0
        codes = torch.zeros(len(rows), self.num_quantizers, dtype=torch.int64, device=rows.device)
        codes[inside, :PLAIN_LEVELS] = BeamSearch(self.codebooks[:PLAIN_LEVELS])(rows[inside])
        return codes, inside

    def _count(self, level: int, chosen: Tensor) -> None:
        """Begin a level's moving averages with how often each codeword was chosen."""
        self.counts[level] = torch.bincount(chosen, minlength=self.codebook_size).clamp_min(1).float()
        self.sums[level] = self.codebooks[level] * self.counts[level][:, None]

    def _plain(self, codes: Tensor) -> Tensor:
        return sum_codewords(self.codebooks[:PLAIN_LEVELS], codes[..., :PLAIN_LEVELS])

    def _finer(self, codes: Tensor) -> Tensor:
        return sum_codewords(self.codebooks[PLAIN_LEVELS:], codes[..., PLAIN_LEVELS:])

    @torch.no_grad()
    def _follow(self, latents: Tensor, codes: Tensor) -> None:
        """One step of the moving averages.

        A plain level's codeword goes towards the mean of what the other plain level leaves to it. The finer levels' go
        where all together, moving at once, come nearer to what the plain ones leave. Several processes of a training
        follow the latents of all of them.
        """
        plain = self._plain(codes)
        left = [(latents - plain).flatten(0, 1)] * min(PLAIN_LEVELS, self.num_quantizers)
        if self.num_quantizers > PLAIN_LEVELS:
            rows, turns = lay_out(latents - overlap(plain, self.kernels[0]))
            inside = turns >= 0
            finer = torch.zeros_like(rows)
            finer[inside] = self._finer(codes).flatten(0, 1)
            positions, weights = sounding(inside, inside.nonzero()[:, 0], self.kernels[1])
            steps = ((rows - overlap(finer, self.kernels[1]))[positions] * weights).sum(dim=1)
            left += [steps / self.kernels[1].abs().sum(dim=0).square()] * (self.num_quantizers - PLAIN_LEVELS)
        codes = codes.flatten(0, 1)
        for level in range(self.num_quantizers):
            chosen, book = codes[:, level], self.codebooks[level]
            count = torch.bincount(chosen, minlength=self.codebook_size).float()
            total = torch.zeros_like(book).index_add_(0, chosen, left[level] + book[chosen])
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.all_reduce(count)
                torch.distributed.all_reduce(total)
            self.counts[level].lerp_(count, 1 - self.ema_decay)
            self.sums[level].lerp_(total, 1 - self.ema_decay)
            # A codeword that is not used keeps its place: its count and sum shrink together.
            counts = self.counts[level][:, None]
            self.codebooks[level] = torch.where(counts > 1e-6, self.sums[level] / counts.clamp_min(1e-6), book)
