"""Codebooks and kernels fitted to latents: k-means, and least squares for codewords that overlap in time."""

import torch
from torch import Tensor, nn

from distill.codec.search import KERNEL_FRAMES, REACH, SEARCH_ROWS, around, identity_kernel

KMEANS_ITERATIONS = 25
SEED_POINTS = 16  # points per cluster among which k-means finds its first centres
FIT_WEIGHT = 5.0  # latents' worth of trust in a codeword as it is when all are fitted together
MAX_FITTED_WORDS = 2048  # more are not fitted together: memory grows with their square
KERNEL_RIDGE = 0.02  # of the words' energy on squared weights: in doubt a kernel is wide


def fitted_kernel(words: Tensor, rows: Tensor, inside: Tensor, reach: int) -> Tensor:
    """The symmetric kernel of sum 1 with which words `[n, D]` come nearest to rows `[n, D]`, component by component."""
    near = around(words)
    # What a weight for the frames so far off adds, when the middle gives up as much.
    parts = [near[..., REACH - offset] + near[..., REACH + offset] - 2 * words for offset in range(1, reach + 1)]
    stacked = (torch.stack(parts) * inside[:, None]).double()  # [reach, n, D]
    gram = torch.einsum("ind,jnd->dij", stacked, stacked)
    pull = torch.einsum("ind,nd->di", stacked, (rows - words).double())
    ridge = KERNEL_RIDGE * (words * inside[:, None]).double().square().sum(dim=0).clamp_min(1e-6)[:, None]
    gram += 4 * ridge[:, :, None]  # the middle is 1 - 2 x the others' sum
    gram.diagonal(dim1=1, dim2=2).add_(2 * ridge)
    pull += 2 * ridge
    side = torch.linalg.solve(gram, pull).float().T  # [reach, D]
    kernel = identity_kernel(words.shape[1]).to(words.device)
    kernel[REACH] -= 2 * side.sum(dim=0)
    for offset in range(1, reach + 1):
        kernel[REACH - offset] = kernel[REACH + offset] = side[offset - 1]
    return kernel


def fitted_codebooks(books: Tensor, codes: Tensor, rows: Tensor, inside: Tensor, kernel: Tensor) -> Tensor:
    """The codebooks `[Q, V, D]` with which the given codes `[n, Q]` come nearest to rows `[n, D]`, all fitted together.

    Every codeword is held where it is as if by `FIT_WEIGHT` latents, so that rare ones do not follow single frames.
    """
    levels, size, width = books.shape
    words = books.flatten(0, 1)
    if len(words) > MAX_FITTED_WORDS:
        return books
    numbers = torch.where(inside[:, None], codes + size * torch.arange(levels, device=codes.device), -1)
    heard = nn.functional.pad(numbers, (0, 0, REACH, REACH), value=-1)
    heard = heard.unfold(0, KERNEL_FRAMES, 1)[inside]  # [rows inside, Q, KERNEL_FRAMES] numbers of words, -1 for none
    wanted = rows[inside]
    pulls = [_totals(heard[..., offset], wanted, len(words)) for offset in range(KERNEL_FRAMES)]
    pairs = [(i, j) for i in range(KERNEL_FRAMES) for j in range(i, KERNEL_FRAMES)]
    met = {(i, j): _meetings(heard[..., i], heard[..., j], len(words)) for i, j in pairs}
    together = [counts if i == j else counts + counts.T for (i, j), counts in met.items()]
    fitted = torch.empty_like(words)
    for component in range(width):
        weights = kernel[:, component].tolist()
        gram = torch.zeros_like(together[0])
        for (i, j), counts in zip(pairs, together, strict=True):
            gram.add_(counts, alpha=weights[i] * weights[j])
        pull = torch.stack([weight * part[:, component] for weight, part in zip(weights, pulls, strict=True)]).sum(
            dim=0
        )
        missing = pull - gram @ words[:, component]
        gram.diagonal().add_(FIT_WEIGHT)
        step = torch.cholesky_solve(missing[:, None], torch.linalg.cholesky(gram))
        fitted[:, component] = words[:, component] + step[:, 0]
    return fitted.reshape(books.shape)


def _totals(numbers: Tensor, rows: Tensor, words: int) -> Tensor:
    """For each word the sum of the rows `[n, D]` that hear it, `[words, D]`, from numbers of words `[n, Q]`."""
    totals = rows.new_zeros(words, rows.shape[1])
    for level in numbers.unbind(dim=1):
        totals.index_add_(0, level[level >= 0], rows[level >= 0])
    return totals


def _meetings(some: Tensor, others: Tensor, words: int) -> Tensor:
    """How often a row hears a word of `some` `[n, Q]` and one of `others`, `[words, words]`."""
    known = (some[:, 0] >= 0) & (others[:, 0] >= 0)
    pairs = some[known][:, :, None] * words + others[known][:, None]
    return torch.bincount(pairs.flatten(), minlength=words * words).reshape(words, words).float()


def kmeans(points: Tensor, clusters: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from a k-means++ start: centres `[clusters, D]` and the nearest one to each point `[n]`.

    A cluster that runs empty restarts at the point that its centre serves worst. With fewer distinct points than
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
            worst = distances.topk(min(len(empty), len(points))).indices
            centres[empty[: len(worst)]] = points[worst]
    return centres, _nearest(points, centres)[1]


def _nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to the nearest centre and its index, `[n]` each."""
    parts = [torch.cdist(part, centres).min(dim=1) for part in points.split(SEARCH_ROWS)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def _plus_plus(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
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
