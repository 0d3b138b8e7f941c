"""Search for the codes of latents: beam search over levels, coordinate descent over codewords that overlap in time.

Shapes: B batch, F frames, Q levels, V codebook size, D latent size, n rows (frames of several sequences and the gaps
between them), c rows searched at the same time.
"""

import torch
from torch import Tensor, nn

from distill.codec.constants import BEAM_SIZE, ROUNDS

SEARCH_ROWS = 1 << 14  # latents searched at once: limits memory, does not change the result
# Limit of tables, and of errors compared at once, reached with thousands of codewords.
MOST_BYTES = 1 << 30
REACH = 2  # number of frames before and after its own that a codeword overlaps
KERNEL_FRAMES = 2 * REACH + 1
TURNS = KERNEL_FRAMES  # frames this far apart share no neighbour and are searched at the same time
# Number of frames to each side that influence a frame's codes.
SEARCH_CONTEXT = REACH + 2 * REACH * TURNS * ROUNDS


def identity_kernel(latent_size: int) -> Tensor:
    """Kernel `[KERNEL_FRAMES, D]` without overlap."""
    kernel = torch.zeros(KERNEL_FRAMES, latent_size)
    kernel[REACH] = 1.0
    return kernel


def sum_codewords(codebooks: Tensor, codes: Tensor) -> Tensor:
    """Sums of codewords `[..., D]` for codes `[..., Q]` of codebooks `[Q, V, D]`."""
    levels, size, _ = codebooks.shape
    indices = codes + size * torch.arange(levels, device=codes.device)
    return codebooks.flatten(0, 1)[indices].sum(dim=-2)


def overlap(codewords: Tensor, kernel: Tensor) -> Tensor:
    """Weighted sums of the codewords `[..., F, D]` around each frame; 0 beyond the ends."""
    return (frame_windows(codewords) * kernel.T).sum(dim=-1)


def frame_windows(values: Tensor) -> Tensor:
    """Windows `[..., F, D, KERNEL_FRAMES]` around each frame of `[..., F, D]`; 0 beyond the ends."""
    return nn.functional.pad(values, (0, 0, REACH, REACH)).unfold(-2, KERNEL_FRAMES, 1)


def join_sequences(latents: Tensor, positions: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Join sequences `[B, F, D]` into rows `[n, D]` with gaps between them, and compute the turns `[n]` of rows.

    `positions` `[F]` default to 0 to F - 1. In gaps, positions and turns are -1.
    """
    if positions is None:
        positions = torch.arange(latents.shape[1], device=latents.device)
    turns = nn.functional.pad(
        torch.where(positions < 0, -1, positions % TURNS), (REACH, REACH), value=-1
    )
    rows = nn.functional.pad(latents, (0, 0, REACH, REACH))
    return rows.flatten(0, 1), turns.repeat(len(latents))


def overlap_weights(inside: Tensor, chosen: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Rows `[c, KERNEL_FRAMES]` that codewords of rows `chosen` `[c]` overlap; weights `[c, KERNEL_FRAMES, D]`."""
    neighbours = chosen[:, None] + torch.arange(-REACH, REACH + 1, device=chosen.device)
    return neighbours, inside[neighbours][..., None] * kernel.flip(0)


def overlapping_search(
    rows: Tensor,
    turns: Tensor,
    codebooks: Tensor,
    kernel: Tensor,
    codes: Tensor | None = None,
    rounds: int = ROUNDS,
) -> Tensor:
    """Codes `[n, Q]` of rows `[n, D]` for codewords that overlap neighbouring frames with weights `kernel`.

    Coordinate descent in `rounds`, where frames take turns, from `codes` or from an independent search of each frame.
    """
    # Scale components so that a codeword's error, over all frames that it overlaps, weighs each component equally.
    scale = kernel.square().sum(dim=0).sqrt()
    codebooks, kernel = codebooks * scale, kernel / scale
    inside = turns >= 0
    search = BeamSearch(codebooks)
    codes = search(rows * scale) if codes is None else codes.clone()
    codewords = sum_codewords(codebooks, codes) * inside[:, None]
    residual = rows - overlap(codewords, kernel)
    frames = []
    for turn in range(TURNS):
        chosen = (turns == turn).nonzero()[:, 0]
        neighbours, weights = overlap_weights(inside, chosen, kernel)
        # The residuals, summed with these weights, lead from a codeword to its least squares solution given all others.
        step_weights = weights / weights.square().sum(dim=1, keepdim=True).clamp_min(1e-6)
        frames.append((chosen, neighbours, weights, step_weights))
    for _ in range(rounds):
        for chosen, neighbours, weights, step_weights in frames:
            near, before = residual[neighbours], codewords[chosen]
            codes[chosen] = search(before + (near * step_weights).sum(dim=1))
            codewords[chosen] = sum_codewords(codebooks, codes[chosen])
            change = (codewords[chosen] - before)[:, None]
            residual[neighbours] = torch.addcmul(near, weights, change, value=-1.0)
    return codes


class BeamSearch:
    """Beam search for codes of independent latents in codebooks `[Q, V, D]`; greedy search leaves 4 % more error."""

    def __init__(self, codebooks: Tensor) -> None:
        self.levels, self.size, _ = codebooks.shape
        self.codebooks, self.codewords = codebooks, codebooks.flatten(0, 1)
        self.squares = self.codewords.square().sum(dim=1)
        pairs = [(earlier, level) for level in range(1, self.levels) for earlier in range(level)]
        fits = len(pairs) * 4 * self.size**2 <= MOST_BYTES
        self.products = (
            {(i, j): 2.0 * codebooks[i] @ codebooks[j].T for i, j in pairs} if fits else {}
        )

    def __call__(self, rows: Tensor) -> Tensor:
        """Codes `[n, Q]` of latents `[n, D]`."""
        # 512 latents fit CPU caches: half the time.
        at_once = 512 if rows.device.type == "cpu" else SEARCH_ROWS
        row_bytes = 4 * self.size * max(BEAM_SIZE, self.levels)
        return torch.cat(
            [
                self._search(part)
                for part in rows.split(max(1, min(at_once, MOST_BYTES // row_bytes)))
            ]
        )

    def _products(self, earlier: int, level: int, codes: Tensor) -> Tensor:
        """Twice the dot products of the codewords `codes` of an earlier level with all codewords of a level."""
        if self.products:
            return self.products[earlier, level][codes]
        return 2.0 * self.codebooks[earlier][codes] @ self.codebooks[level].T

    def _search(self, rows: Tensor) -> Tensor:
        # Squared errors minus the square of the row: for single codewords here, for sums of candidates below.
        single = torch.addmm(self.squares, rows, self.codewords.T, alpha=-2.0)
        single = single.unflatten(1, (self.levels, self.size))
        errors, chosen = self._best(single[:, 0], 0)
        codes = [chosen]
        for level in range(1, self.levels):
            sums = self._products(0, level, codes[0])  # [n, candidates, V]
            for earlier in range(1, level):
                sums += self._products(earlier, level, codes[earlier])
            sums += single[:, level, None]
            sums += errors[:, :, None]
            errors, best = self._best(sums.flatten(1), level)
            parent = best // self.size
            codes = [*(code.gather(1, parent) for code in codes), best % self.size]
        return torch.cat(codes, dim=1)

    def _best(self, errors: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Errors and indices of the candidates to keep, `[n, beam]` each; the last level keeps only the best."""
        beam = min(BEAM_SIZE, errors.shape[1])
        best = (
            errors.min(dim=1, keepdim=True)
            if level == self.levels - 1
            else errors.topk(beam, largest=False)
        )
        return best.values, best.indices
