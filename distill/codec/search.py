"""Search for the codes of latents: beam search over levels, coordinate descent for codewords that overlap in time.

Shapes: B batch, F frames, Q levels, V codebook size, D latent size, n rows (frames of several sequences and the gaps
between them), c rows that are searched at the same time.
"""

import torch
from torch import Tensor, nn

from distill.codec.constants import BEAM_SIZE, ROUNDS

SEARCH_ROWS = 1 << 14  # latents searched at once: bounds memory, not the result
CACHED_ROWS = 512  # fits the caches of CPUs: half the time
MOST_BYTES = (
    1 << 30
)  # of tables, and of what is compared at once: reached by codebooks of thousands of codewords
REACH = 2  # frames before and after its own that a codeword overlaps
KERNEL_FRAMES = 2 * REACH + 1
TURNS = (
    KERNEL_FRAMES  # frames this far apart share no neighbour: they are searched at the same time
)
SEARCH_CONTEXT = (
    REACH + 2 * REACH * TURNS * ROUNDS
)  # frames each side that can decide a frame's codes


def identity_kernel(latent_size: int) -> Tensor:
    """A kernel `[KERNEL_FRAMES, D]` that overlaps no other frame."""
    kernel = torch.zeros(KERNEL_FRAMES, latent_size)
    kernel[REACH] = 1.0
    return kernel


def sum_codewords(codebooks: Tensor, codes: Tensor) -> Tensor:
    """Sums of codewords `[..., D]` for codes `[..., Q]` of codebooks `[Q, V, D]`."""
    levels, size, _ = codebooks.shape
    indices = codes + size * torch.arange(levels, device=codes.device)
    return codebooks.flatten(0, 1)[indices].sum(dim=-2)


def overlap(codewords: Tensor, kernel: Tensor) -> Tensor:
    """Weighted sums of the codewords `[..., F, D]` around each frame; none before the first or after the last."""
    return (frame_windows(codewords) * kernel.T).sum(dim=-1)


def frame_windows(values: Tensor) -> Tensor:
    """Windows `[..., F, D, KERNEL_FRAMES]` of `[..., F, D]` around each frame; 0 beyond the ends."""
    return nn.functional.pad(values, (0, 0, REACH, REACH)).unfold(-2, KERNEL_FRAMES, 1)


def join_sequences(latents: Tensor, positions: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Join sequences `[B, F, D]` at `positions` `[F]` to rows `[n, D]` with gaps between, and their turns `[n]`.

    Positions are 0 to F - 1 if None, and -1 in gaps, as turns are.
    """
    if positions is None:
        positions = torch.arange(latents.shape[1], device=latents.device)
    turns = nn.functional.pad(
        torch.where(positions < 0, -1, positions % TURNS), (REACH, REACH), value=-1
    )
    rows = nn.functional.pad(latents, (0, 0, REACH, REACH))
    return rows.flatten(0, 1), turns.repeat(len(latents))


def overlap_weights(inside: Tensor, chosen: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that codewords of rows `chosen` `[c]` overlap, `[c, KERNEL_FRAMES]`, and weights, `[c, KERNEL_FRAMES, D]`."""
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
    """Codes `[n, Q]` of rows `[n, D]` for codewords that overlap the neighbouring frames with weights `kernel`.

    Coordinate descent from `codes`, or from a search of each frame by itself: frames take turns.
    """
    # A codeword's error counts in every frame that it overlaps, component by component: with these units, equally.
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
        # From a codeword to its least squares solution, given all others, it is the sum of the residuals with these.
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
    """Beam search for codes of latents, each by itself, in codebooks `[Q, V, D]`; a greedy one leaves 4 % more error."""

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
        at_once = CACHED_ROWS if rows.device.type == "cpu" else SEARCH_ROWS
        row_bytes = 4 * self.size * max(BEAM_SIZE, self.levels)
        return torch.cat(
            [
                self._search(part)
                for part in rows.split(max(1, min(at_once, MOST_BYTES // row_bytes)))
            ]
        )

    def _products(self, earlier: int, level: int, codes: Tensor) -> Tensor:
        """Twice the products of the codewords `codes` of an earlier level with all of a level."""
        if self.products:
            return self.products[earlier, level][codes]
        return 2.0 * self.codebooks[earlier][codes] @ self.codebooks[level].T

    def _search(self, rows: Tensor) -> Tensor:
        # Squared errors, minus the row's own square: of single codewords here, of candidates' sums below.
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
        """Errors and indices of the candidates to keep, `[n, beam]` each; of the last level the best alone."""
        beam = min(BEAM_SIZE, errors.shape[1])
        best = (
            errors.min(dim=1, keepdim=True)
            if level == self.levels - 1
            else errors.topk(beam, largest=False)
        )
        return best.values, best.indices
