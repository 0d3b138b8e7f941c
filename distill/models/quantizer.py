"""Residual vector quantisation with beam search: several candidates go on from level to level, the best sum wins.

Greedy search, nearest codeword level after level, leaves 4 % more error in held-out sound than the beam does
(docs/decisions.md).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

BEAM_SIZE = 8
KMEANS_ITERATIONS = 25
SEARCH_ROWS = 1 << 14  # latents searched at once: bounds memory, not the result


class Quantized(NamedTuple):
    """`latents` `[B, F, D]` with straight-through gradient, `codes` `[B, F, Q]` int64, `commit_loss` scalar."""

    latents: Tensor
    codes: Tensor
    commit_loss: Tensor


class ResidualQuantizer(nn.Module):
    """Q codebooks of V codewords; a latent is coded as the sum of one codeword of each.

    Codebooks move by exponential averages, in training mode only, and everything is fp32: under autocast the nearest
    codeword is not reliably found. The gradient goes straight through.
    """

    codebooks: Tensor  # [Q, V, D]
    counts: Tensor  # [Q, V], moving averages of how many latents have a codeword
    sums: Tensor  # [Q, V, D], and of the sum of what they want of it

    def __init__(self, latent_size: int, codebook_size: int, num_quantizers: int, ema_decay: float) -> None:
        super().__init__()
        self.codebook_size, self.num_quantizers, self.ema_decay = codebook_size, num_quantizers, ema_decay
        self.register_buffer("codebooks", torch.zeros(num_quantizers, codebook_size, latent_size))
        self.register_buffer("counts", torch.ones(num_quantizers, codebook_size))
        self.register_buffer("sums", torch.zeros(num_quantizers, codebook_size, latent_size))

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
    def search(self, latents: Tensor) -> Tensor:
        """Codes `[..., Q]` of latents `[..., D]`; each row's depend on that row alone."""
        rows = latents.reshape(-1, latents.shape[-1])
        codes = torch.cat([_beam_search(part, self.codebooks) for part in rows.split(SEARCH_ROWS)])
        return codes.reshape(*latents.shape[:-1], self.num_quantizers)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes `[..., Q]` to latents `[..., D]`."""
        latents = self.codebooks[0][codes[..., 0]]
        for level in range(1, self.num_quantizers):
            latents = latents + self.codebooks[level][codes[..., level]]
        return latents

    def codewords(self) -> Tensor:
        """The codebooks `[Q, V, D]`."""
        return self.codebooks.detach()

    @torch.no_grad()
    def fit(self, latents: Tensor, generator: torch.Generator) -> None:
        """Set every codebook by k-means over latents `[n, D]` of the whole corpus, level after level."""
        residual = latents.float()
        for level in range(self.num_quantizers):
            centres, assignment = kmeans(residual, self.codebook_size, generator)
            counts = torch.bincount(assignment, minlength=self.codebook_size).clamp_min(1).float()
            self.codebooks[level] = centres
            self.counts[level] = counts
            self.sums[level] = centres * counts[:, None]
            residual = residual - centres[assignment]

    @torch.no_grad()
    def _follow(self, latents: Tensor, codes: Tensor) -> None:
        """One step of the moving averages: every codeword towards the mean of what the other levels leave to it."""
        rows, codes = latents.reshape(-1, latents.shape[-1]), codes.reshape(-1, self.num_quantizers)
        left = rows - self.decode(codes)
        for level in range(self.num_quantizers):
            chosen, book = codes[:, level], self.codebooks[level]
            count = torch.bincount(chosen, minlength=self.codebook_size).float()
            total = torch.zeros_like(book).index_add_(0, chosen, left + book[chosen])
            self.counts[level].lerp_(count, 1 - self.ema_decay)
            self.sums[level].lerp_(total, 1 - self.ema_decay)
            # A codeword that is not used keeps its place: its count and sum shrink together.
            counts = self.counts[level][:, None]
            self.codebooks[level] = torch.where(counts > 1e-6, self.sums[level] / counts.clamp_min(1e-6), book)


def _beam_search(rows: Tensor, books: Tensor) -> Tensor:
    """Codes `[n, Q]` of latents `[n, D]` with codebooks `[Q, V, D]`: the best of `BEAM_SIZE` candidates kept from level to level."""
    residual = rows[:, None]  # [n, candidates, D]
    codes = torch.zeros(len(rows), 1, 0, dtype=torch.int64, device=rows.device)
    for book in books:
        # The residual's own length does not change which codeword is nearest, but which candidate is best.
        distances = residual.square().sum(-1, keepdim=True) - 2 * residual @ book.T + book.square().sum(-1)
        distances = distances.flatten(1)
        best = distances.topk(min(BEAM_SIZE, distances.shape[1]), largest=False).indices
        parent, chosen = best // len(book), best % len(book)
        codes = torch.cat([codes.gather(1, parent[..., None].expand(-1, -1, codes.shape[2])), chosen[..., None]], dim=2)
        residual = residual.gather(1, parent[..., None].expand(-1, -1, rows.shape[1])) - book[chosen]
    return codes[:, 0]


def kmeans(points: Tensor, clusters: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from a k-means++ start: centres `[clusters, D]` and the nearest one to each point `[n]`.

    A cluster that runs empty restarts at the point that its centre serves worst. With fewer distinct points than
    clusters the spare centres repeat points.
    """
    centres = _plus_plus(points, clusters, generator)
    for _ in range(KMEANS_ITERATIONS):
        distances = torch.cdist(points, centres)
        nearest, assignment = distances.min(dim=1)
        counts = torch.bincount(assignment, minlength=clusters)
        sums = torch.zeros_like(centres).index_add_(0, assignment, points)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centres)
        empty = (counts == 0).nonzero()[:, 0]
        if len(empty):
            worst = nearest.topk(min(len(empty), len(points))).indices
            centres[empty[: len(worst)]] = points[worst]
    return centres, torch.cdist(points, centres).argmin(dim=1)


def _plus_plus(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    first = int(torch.randint(len(points), (1,), generator=generator))
    centres = points[first : first + 1].repeat(clusters, 1)
    nearest = (points - centres[0]).square().sum(dim=1)
    for index in range(1, clusters):
        weights = nearest + 1e-12
        pick = int(torch.multinomial(weights, 1, generator=generator))
        centres[index] = points[pick]
        nearest = torch.minimum(nearest, (points - points[pick]).square().sum(dim=1))
    return centres
