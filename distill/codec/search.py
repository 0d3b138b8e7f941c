"""Search for the codes of latents: frame by frame with a beam, and for codewords that overlap in time frame after frame."""

import torch
from torch import Tensor, nn

BEAM_SIZE = 8
SEARCH_ROWS = 1 << 14  # latents searched at once: bounds memory, not the result
REACH = 2  # frames before and after its own in which a codeword sounds
KERNEL_FRAMES = 2 * REACH + 1
TURNS = KERNEL_FRAMES  # frames this far apart do not meet: they are searched at the same time
ROUNDS = 2  # how often each frame's codes are searched again, given its neighbours'
SEARCH_CONTEXT = REACH + 2 * REACH * TURNS * ROUNDS  # frames each side that can decide a frame's codes


def identity_kernel(latent_size: int) -> Tensor:
    """A kernel `[KERNEL_FRAMES, D]` that reaches no other frame."""
    kernel = torch.zeros(KERNEL_FRAMES, latent_size)
    kernel[REACH] = 1.0
    return kernel


def sum_codewords(books: Tensor, codes: Tensor) -> Tensor:
    """Codes `[..., Q]` of codebooks `[Q, V, D]` to the sums of their codewords, `[..., D]`."""
    levels, size, _ = books.shape
    numbers = codes + size * torch.arange(levels, device=codes.device)
    return books.flatten(0, 1)[numbers].sum(dim=-2)


def overlap(words: Tensor, kernel: Tensor) -> Tensor:
    """Every frame the weighted sum of the words `[..., F, D]` around it; none before the first or after the last."""
    return (around(words) * kernel.T).sum(dim=-1)


def around(values: Tensor) -> Tensor:
    """For each frame of `[..., F, D]` the values of the frames around it, `[..., F, D, KERNEL_FRAMES]`; 0 beyond the ends."""
    return nn.functional.pad(values, (0, 0, REACH, REACH)).unfold(-2, KERNEL_FRAMES, 1)


def lay_out(latents: Tensor, numbers: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Sequences `[B, F, D]` one after another with gaps between, `[n, D]`, and each row's turn in the search, -1 in gaps.

    Turns follow the frames' numbers `[F]` in their sound, from 0 on if none are given; where they are -1 is a gap, too.
    """
    if numbers is None:
        numbers = torch.arange(latents.shape[1], device=latents.device)
    turns = torch.where(numbers < 0, -1, numbers % TURNS)
    turns = nn.functional.pad(turns, (REACH, REACH), value=-1)
    rows = nn.functional.pad(latents, (0, 0, REACH, REACH))
    return rows.flatten(0, 1), turns.repeat(len(latents))


def overlapping_search(
    rows: Tensor, turns: Tensor, books: Tensor, kernel: Tensor, codes: Tensor | None = None, rounds: int = ROUNDS
) -> Tensor:
    """Codes `[n, Q]` whose codewords, each sounding in the frames around its own, come near rows `[n, D]`.

    Frames take turns: each is searched again with what its neighbours leave to it, from `codes` on if they are given.
    """
    # A codeword's error counts in every frame in which it sounds, component by component: with these units, equally.
    scale = kernel.square().sum(dim=0).sqrt()
    books, kernel = books * scale, kernel / scale
    inside = turns >= 0
    search = BeamSearch(books)
    codes = search(rows * scale) if codes is None else codes.clone()
    words = sum_codewords(books, codes) * inside[:, None]
    missing = rows - overlap(words, kernel)
    frames = [
        _Turn(chosen, codes[chosen], words[chosen], *sounding(inside, chosen, kernel)) for chosen in _at_turns(turns)
    ]
    for _ in range(rounds):
        for turn in frames:
            near = missing[turn.positions]
            found = search(turn.words + (near * turn.pull).sum(dim=1))
            words = sum_codewords(books, found)
            missing[turn.positions] = torch.addcmul(near, turn.weights, (words - turn.words)[:, None], value=-1.0)
            turn.words, turn.codes = words, found
    for turn in frames:
        codes[turn.chosen] = turn.codes
    return codes


def _at_turns(turns: Tensor) -> list[Tensor]:
    """The rows that are searched at the same time, turn by turn."""
    return [(turns == turn).nonzero()[:, 0] for turn in range(TURNS)]


def sounding(inside: Tensor, chosen: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Where the words of the rows `chosen` `[c]` sound, `[c, KERNEL_FRAMES]`, and how much there, 0 in gaps, `[c, KERNEL_FRAMES, D]`."""
    positions = chosen[:, None] + torch.arange(-REACH, REACH + 1, device=chosen.device)
    return positions, inside[positions][..., None] * kernel.flip(0)


class _Turn:
    """Frames that are searched at the same time, and what was found for them last.

    `pull` weighs what is missing where a word sounds such that the sum is how far the word is from the least squares
    solution, given all others.
    """

    def __init__(self, chosen: Tensor, codes: Tensor, words: Tensor, positions: Tensor, weights: Tensor) -> None:
        self.chosen, self.codes, self.words, self.positions, self.weights = chosen, codes, words, positions, weights
        self.pull = weights / weights.square().sum(dim=1, keepdim=True).clamp_min(1e-6)


class BeamSearch:
    """Search for the codes of latents, each by itself, with codebooks `[Q, V, D]`.

    The best of `BEAM_SIZE` candidates are kept from level to level: greedy search leaves 4 % more error.
    """

    def __init__(self, books: Tensor) -> None:
        self.levels, self.size, _ = books.shape
        self.words = books.flatten(0, 1)
        self.squares = self.words.square().sum(dim=1)
        self.products = {
            (earlier, level): 2.0 * books[earlier] @ books[level].T
            for level in range(1, self.levels)
            for earlier in range(level)
        }

    def __call__(self, rows: Tensor) -> Tensor:
        """Latents `[n, D]` to codes `[n, Q]`."""
        return torch.cat([self._part(part) for part in rows.split(SEARCH_ROWS)])

    def _part(self, rows: Tensor) -> Tensor:
        # Squared errors, less the row's own square: of single words here, of candidates' sums below.
        single = torch.addmm(self.squares, rows, self.words.T, alpha=-2.0).unflatten(1, (self.levels, self.size))
        errors, chosen = self._best(single[:, 0], 0)
        codes = [chosen]
        for level in range(1, self.levels):
            sums = self.products[0, level][codes[0]]  # [n, candidates, V]
            for earlier in range(1, level):
                sums += self.products[earlier, level][codes[earlier]]
            sums += single[:, level, None]
            sums += errors[:, :, None]
            errors, found = self._best(sums.flatten(1), level)
            parent = found // self.size
            codes = [*(code.gather(1, parent) for code in codes), found % self.size]
        return torch.cat(codes, dim=1)

    def _best(self, errors: Tensor, level: int) -> tuple[Tensor, Tensor]:
        if level == self.levels - 1:
            least, found = errors.min(dim=1, keepdim=True)
            return least, found
        kept, found = errors.topk(min(BEAM_SIZE, errors.shape[1]), largest=False)
        return kept, found
