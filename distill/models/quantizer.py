"""Residual vector quantisation: `vector-quantize-pytorch` behind the few calls that the codec needs."""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from vector_quantize_pytorch import ResidualVQ

KMEANS_ITERATIONS = 25


class Quantized(NamedTuple):
    """`latents` `[B, F, D]` with straight-through gradient, `codes` `[B, F, Q]` int64, `commit_loss` scalar."""

    latents: Tensor
    codes: Tensor
    commit_loss: Tensor


class ResidualQuantizer(nn.Module):
    """Q codebooks of V codewords, each quantising what the one before left over.

    Codebooks move by exponential averages, in training mode only, and always in fp32: under autocast the nearest
    codeword is not reliably found. Straight-through gradients: the rotation trick starves codes under averaging.
    """

    def __init__(self, latent_size: int, codebook_size: int, num_quantizers: int, ema_decay: float) -> None:
        super().__init__()
        self.codebook_size, self.num_quantizers = codebook_size, num_quantizers
        self.vq = ResidualVQ(
            dim=latent_size,
            codebook_size=codebook_size,
            num_quantizers=num_quantizers,
            decay=ema_decay,
            kmeans_init=False,
            commitment_weight=0.0,
            threshold_ema_dead_code=0,
            rotation_trick=False,
            sync_codebook=False,
        )

    def forward(self, latents: Tensor) -> Quantized:
        """Quantise `[B, F, D]`. The commitment loss is the squared error of the whole stack, unweighted."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            quantized, codes, _ = self.vq(latents)
            return Quantized(quantized, codes, (latents - quantized.detach()).square().mean())

    def decode(self, codes: Tensor) -> Tensor:
        """Codes `[B, F, Q]` to latents `[B, F, D]`."""
        return cast(Tensor, self.vq.get_output_from_indices(codes))

    def codewords(self) -> Tensor:
        """The codebooks `[Q, V, D]`."""
        return cast(Tensor, self.vq.codebooks).detach()

    def fit(self, latents: Tensor, generator: torch.Generator) -> None:
        """Set every codebook by k-means over latents `[n, D]` of the whole corpus, level after level."""
        residual = latents.float()
        for layer in self.vq.layers:
            centres, assignment = kmeans(residual, self.codebook_size, generator)
            counts = torch.bincount(assignment, minlength=self.codebook_size).float()
            book = layer._codebook
            share = counts.clamp_min(1.0)
            book.embed.data.copy_(centres[None])
            book.cluster_size.data.copy_(share[None])
            book.embed_avg.data.copy_((centres * share[:, None])[None])
            book.initted.data.fill_(True)
            residual = residual - centres[assignment]


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
