"""Codebooks and kernels fitted to latents: k-means, and least squares for codewords that overlap in time.

Shapes as in `distill.codec.search`.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from distill.codec.constants import FIT_WEIGHT, KERNEL_RIDGE
from distill.codec.search import KERNEL_FRAMES, REACH, SEARCH_ROWS, frame_windows, identity_kernel

KMEANS_ITERATIONS = 25
SEED_POINTS = 16  # points per cluster among which k-means finds its first centres
MAX_FITTED_CODEWORDS = 2048  # more are not fitted together: memory grows with their square


def fitted_kernel(codewords: Tensor, rows: Tensor, inside: Tensor, reach: int) -> Tensor:
    """Fit a symmetric kernel `[KERNEL_FRAMES, D]` of sum 1 by ridge regression, component by component.

    With it the overlapping codewords `[n, D]` come nearest to rows `[n, D]`. `inside` `[n]` is False in gaps.
    """
    windows = frame_windows(codewords)
    # Effect of a weight for the frames so far off, when the middle gives up as much.
    parts = [
        windows[..., REACH - offset] + windows[..., REACH + offset] - 2 * codewords for offset in range(1, reach + 1)
    ]
    stacked = (torch.stack(parts) * inside[:, None]).double()  # [reach, n, D]
    gram = torch.einsum("ind,jnd->dij", stacked, stacked)
    moments = torch.einsum("ind,nd->di", stacked, (rows - codewords).double())
    ridge = KERNEL_RIDGE * (codewords * inside[:, None]).double().square().sum(dim=0).clamp_min(1e-6)[:, None]
    gram += 4 * ridge[:, :, None]  # the middle is 1 - 2 x the others' sum
    gram.diagonal(dim1=1, dim2=2).add_(2 * ridge)
    moments += 2 * ridge
    side = torch.linalg.solve(gram, moments).float().T  # [reach, D]
    kernel = identity_kernel(codewords.shape[1]).to(codewords.device)
    kernel[REACH] -= 2 * side.sum(dim=0)
    for offset in range(1, reach + 1):
        kernel[REACH - offset] = kernel[REACH + offset] = side[offset - 1]
    return kernel


def fitted_codebooks(codebooks: Tensor, codes: Tensor, rows: Tensor, inside: Tensor, kernel: Tensor) -> Tensor:
    """Fit all codebooks `[Q, V, D]` together, by least squares of rows `[n, D]` given their codes `[n, Q]`.

    A ridge of `FIT_WEIGHT` latents holds every codeword where it is, so that rare ones do not follow single frames.
    `inside` `[n]` is False in gaps. More than `MAX_FITTED_CODEWORDS` codewords are returned as they are.
    """
    levels, size, width = codebooks.shape
    codewords = codebooks.flatten(0, 1)
    if len(codewords) > MAX_FITTED_CODEWORDS:
        return codebooks
    indices = torch.where(inside[:, None], codes + size * torch.arange(levels, device=codes.device), -1)
    windows = nn.functional.pad(indices, (0, 0, REACH, REACH), value=-1)
    windows = windows.unfold(0, KERNEL_FRAMES, 1)[inside]  # [rows inside, Q, KERNEL_FRAMES], -1 for no codeword
    targets = rows[inside]
    totals = [_totals(windows[..., offset], targets, len(codewords)) for offset in range(KERNEL_FRAMES)]
    pairs = [(i, j) for i in range(KERNEL_FRAMES) for j in range(i, KERNEL_FRAMES)]
    one_sided = {(i, j): _cooccurrences(windows[..., i], windows[..., j], len(codewords)) for i, j in pairs}
    cooccurrences = [counts if i == j else counts + counts.T for (i, j), counts in one_sided.items()]
    fitted = torch.empty_like(codewords)
    for component in range(width):
        weights = kernel[:, component].tolist()
        own = codewords[:, component]
        step, failed = _step(dict(zip(pairs, cooccurrences, strict=True)), totals, weights, own, component)
        if failed:  # where nearly all is silence, weights are large, and fp32 has no digits left for the ridge
            counts = {pair: part.double() for pair, part in zip(pairs, cooccurrences, strict=True)}
            step, failed = _step(counts, [part.double() for part in totals], weights, own.double(), component)
        fitted[:, component] = own if failed else own + step.to(own.dtype)
    return fitted.reshape(codebooks.shape)


def _step(
    cooccurrences: Mapping[tuple[int, int], Tensor],
    totals: Sequence[Tensor],
    weights: Sequence[float],
    codewords: Tensor,
    component: int,
) -> tuple[Tensor, bool]:
    """What least squares add to one component of all codewords `[n]`, and whether they had no solution."""
    gram = codewords.new_zeros(len(codewords), len(codewords))
    for (i, j), counts in cooccurrences.items():
        gram.add_(counts, alpha=weights[i] * weights[j])
    weighted = [weight * part[:, component] for weight, part in zip(weights, totals, strict=True)]
    residual = torch.stack(weighted).sum(dim=0) - gram @ codewords
    gram.diagonal().add_(FIT_WEIGHT)
    factor, failed = torch.linalg.cholesky_ex(gram)
    return torch.cholesky_solve(residual[:, None], factor)[:, 0], bool(failed)


def _totals(indices: Tensor, rows: Tensor, count: int) -> Tensor:
    """For each of `count` codewords the sum of the rows `[n, D]` whose indices `[n, Q]` name it, `[count, D]`."""
    totals = rows.new_zeros(count, rows.shape[1])
    for level in indices.unbind(dim=1):
        totals.index_add_(0, level[level >= 0], rows[level >= 0])
    return totals


def _cooccurrences(first: Tensor, second: Tensor, count: int) -> Tensor:
    """How often a codeword of `first` `[n, Q]` and one of `second` are in the same row, `[count, count]`."""
    present = (first[:, 0] >= 0) & (second[:, 0] >= 0)
    pairs = first[present][:, :, None] * count + second[present][:, None]
    return torch.bincount(pairs.flatten(), minlength=count * count).reshape(count, count).float()


def kmeans(points: Tensor, clusters: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from a k-means++ start: centres `[clusters, D]` and the nearest one to each point `[n]`.

    A cluster that runs empty restarts at the point that is farthest from its centre. With fewer distinct points than
    clusters the spare centres repeat points.
    """
    centres = _plus_plus(points, clusters, generator)
    for _ in range(KMEANS_ITERATIONS):
        distances, assignment = _nearest(points, centres)
        counts = torch.bincount(assignment, minlength=clusters)
        sums = torch.zeros_like(centres).index_add_(0, assignment, points)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centres)
        empty = (counts == 0).nonzero()[:, 0]
        if len(empty):
            farthest = distances.topk(min(len(empty), len(points))).indices
            centres[empty[: len(farthest)]] = points[farthest]
    return centres, _nearest(points, centres)[1]


def _nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to the nearest centre and its index, `[n]` each."""
    parts = [torch.cdist(part, centres).min(dim=1) for part in points.split(SEARCH_ROWS)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def _plus_plus(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """First centres `[clusters, D]` by k-means++ (Arthur and Vassilvitskii 2007)."""
    if len(points) > SEED_POINTS * clusters:
        points = points[torch.randperm(len(points), generator=generator)[: SEED_POINTS * clusters]]
    first = int(torch.randint(len(points), (1,), generator=generator))
    centres = points[first : first + 1].repeat(clusters, 1)
    nearest = (points - centres[0]).square().sum(dim=1)
    for index in range(1, clusters):
        weights = nearest + 1e-12
        pick = int(torch.multinomial(weights, 1, generator=generator))
        centres[index] = points[pick]
        nearest = torch.minimum(nearest, (points - points[pick]).square().sum(dim=1))
    return centres
