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


def still_kernel(latent_size: int) -> Tensor:
    """A kernel `[KERNEL_FRAMES, D]` that reaches no other frame."""
    kernel = torch.zeros(KERNEL_FRAMES, latent_size)
    kernel[REACH] = 1.0
    return kernel


def sum_codewords(books: Tensor, codes: Tensor) -> Tensor:
    """Codes `[..., Q]` of codebooks `[Q, V, D]` to the sums of their codewords, `[..., D]`."""
    total = books[0][codes[..., 0]]
    for level in range(1, len(books)):
        total = total + books[level][codes[..., level]]
    return total


def overlap(words: Tensor, kernel: Tensor) -> Tensor:
    """Every frame the weighted sum of the words `[..., F, D]` around it; none before the first or after the last."""
    return (around(words) * kernel.T).sum(dim=-1)


def around(values: Tensor) -> Tensor:
    """For each frame of `[..., F, D]` the values of the frames around it, `[..., F, D, KERNEL_FRAMES]`; 0 beyond the ends."""
    return nn.functional.pad(values, (0, 0, REACH, REACH)).unfold(-2, KERNEL_FRAMES, 1)


def lay_out(latents: Tensor, first_frame: int) -> tuple[Tensor, Tensor]:
    """Sequences `[B, F, D]` one after another with gaps between, `[n, D]`, and each row's turn in the search, -1 in gaps.

    Turns follow the frames' numbers in their sound; the sequences begin with number `first_frame`.
    """
    rows = nn.functional.pad(latents, (0, 0, REACH, REACH))
    turns = torch.arange(first_frame, first_frame + latents.shape[1], device=latents.device) % TURNS
    turns = nn.functional.pad(turns, (REACH, REACH), value=-1)
    return rows.flatten(0, 1), turns.repeat(len(latents))


def overlapping_search(
    rows: Tensor, turns: Tensor, books: Tensor, kernel: Tensor, codes: Tensor | None = None, rounds: int = ROUNDS
) -> Tensor:
    """Codes `[n, Q]` whose codewords, each sounding in the frames around its own, come near rows `[n, D]`.

    Frames take turns: each is searched again with what its neighbours leave to it, from `codes` on if they are given.
    """
    inside = turns >= 0
    codes = beam_search(rows, books) if codes is None else codes.clone()
    words = sum_codewords(books, codes) * inside[:, None]
    # A codeword's error counts in every frame in which it sounds, component by component.
    scale = kernel.square().sum(dim=0).sqrt()
    scaled_books, energy = books * scale, energy_of_words(inside, kernel)
    at_turn = [(turns == turn).nonzero()[:, 0] for turn in range(TURNS)]
    for _ in range(rounds):
        for chosen in at_turn:
            wanted = words[chosen] + asked(rows, words, inside, chosen, kernel) / energy[chosen]
            found = beam_search(wanted * scale, scaled_books)
            codes[chosen] = found
            words[chosen] = sum_codewords(books, found)
    return codes


def energy_of_words(inside: Tensor, kernel: Tensor) -> Tensor:
    """With how much energy a word of energy 1 sounds in a piece, from each place of it and by component, `[n, D]`.

    What is asked of a word, divided by it, is how far the word is from the least squares solution given all others.
    """
    return (around(inside[:, None].float())[:, 0] @ kernel.flip(0).square()).clamp_min(1e-6)


def asked(rows: Tensor, words: Tensor, inside: Tensor, chosen: Tensor, kernel: Tensor) -> Tensor:
    """What is missing where the words at `chosen` sound, weighted as they sound there: half the negative gradient."""
    missing = (rows - overlap(words, kernel)) * inside[:, None]
    return (around(missing)[chosen] * kernel.flip(0).T).sum(dim=-1)


def beam_search(rows: Tensor, books: Tensor) -> Tensor:
    """Codes `[n, Q]` of latents `[n, D]`, each by itself, with codebooks `[Q, V, D]`.

    The best of `BEAM_SIZE` candidates are kept from level to level: greedy search leaves 4 % more error.
    """
    return torch.cat([_beam_search_part(part, books) for part in rows.split(SEARCH_ROWS)])


def _beam_search_part(rows: Tensor, books: Tensor) -> Tensor:
    count, width = rows.shape
    size, last = books.shape[1], len(books) - 1
    residual = rows  # of every candidate, [n * candidates, D]
    codes = torch.zeros(count, 1, 0, dtype=torch.int64, device=rows.device)
    errors = rows.new_zeros(count, 1)  # of every candidate, less the row's own square
    for level, book in enumerate(books):
        candidates = errors.shape[1]
        distances = torch.addmm(book.square().sum(dim=-1), residual, book.T, alpha=-2.0)
        distances = (distances.view(count, candidates, size) + errors[:, :, None]).view(count, candidates * size)
        errors, best = distances.topk(1 if level == last else min(BEAM_SIZE, distances.shape[1]), largest=False)
        parent, chosen = best // size, best % size
        codes = torch.cat([codes.gather(1, parent[..., None].expand(-1, -1, level)), chosen[..., None]], dim=2)
        if level < last:
            left = residual.view(count, candidates, width).gather(1, parent[..., None].expand(-1, -1, width))
            residual = (left - book[chosen]).flatten(0, 1)
    return codes[:, 0]
