"""Retrieval of frames after similar contexts, against a search through all of them."""

import pytest
import torch
from torch import Tensor

from distill.prior.memory import retrieval as module
from distill.prior.memory.retrieval import Retrieval, RetrievalState
from unit.tiny import prior_shape

LEVELS, SIZE, WIDTH, REACH = 2, 5, 16, 6
BOS, EVERY = SIZE, slice(0, LEVELS)
VECTORS = torch.randn(LEVELS, SIZE + 2, WIDTH, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def retrieval() -> Retrieval:
    torch.manual_seed(0)
    sizes = {"codebook_sizes": (SIZE,) * LEVELS, "hidden_size": WIDTH, "context_frames": REACH}
    return Retrieval(prior_shape("memory", **sizes, key_size=16)).double()  # type: ignore[arg-type]


def frames(count: int, seed: int = 1, batch: int = 1) -> Tensor:
    return torch.randint(SIZE, (batch, count, LEVELS), generator=torch.Generator().manual_seed(seed))


def run(
    model: Retrieval, inputs: Tensor, targets: Tensor, state: RetrievalState | None = None
) -> tuple[Tensor, RetrievalState]:
    """Weights of codes in `targets`, the frames after `inputs`, and the state after these."""
    before = state or model.initial_state(len(inputs))
    after, found = model.advance(VECTORS, inputs, before, inputs.shape[1], one_by_one=False)
    assert isinstance(after, RetrievalState)
    return model.weights(found, targets, EVERY), after


def test_a_repeated_context_retrieves_what_followed() -> None:
    model, inputs = retrieval(), frames(30)
    twice = torch.cat([inputs, inputs, inputs[:, :1]], dim=1)
    weights, _ = run(model, twice[:, :-1], twice[:, 1:])
    assert (weights[0, : REACH + 1] == 0).all()
    assert torch.equal(weights[0, 33:].argmax(dim=2), twice[0, 34:])
    model.ablated = True
    assert not run(model, twice[:, :-1], twice[:, 1:])[0].any()


def by_search(model: Retrieval, inputs: Tensor, targets: Tensor) -> Tensor:
    """Weights by a search, position by position and table by table."""
    table = model.table(VECTORS)
    embedded = sum(table[level][inputs[0, :, level]] for level in range(LEVELS))
    padded = torch.cat([embedded.new_zeros(3, WIDTH), embedded])
    keys = [(padded[at : at + 4] * model.taps).sum(dim=0) @ model.to_key for at in range(len(embedded))]
    keys = [key / key.norm() for key in keys]
    weights = torch.zeros(len(embedded), LEVELS, SIZE + 2, dtype=torch.float64)
    for at, query in enumerate(keys):
        for planes in model.planes.split(module.BITS, dim=1):
            positions = range(max(1, at - module.CAPACITY + 1), at - model.reach + 1)
            matching = [
                position for position in positions if torch.equal(keys[position - 1] @ planes > 0, query @ planes > 0)
            ]
            for position in matching[-module.SLOTS :]:
                for level in range(LEVELS):
                    code = inputs[0, position, level]
                    distance = 1 - keys[position - 1] @ query
                    score = model.base_score[level] - model.sharpness[level] * distance
                    score = score + model.exact_score[level] * (-distance / module.EXACT_SCALE).exp()
                    for coarser in range(level):
                        agrees = inputs[0, position, coarser] == targets[0, at, coarser]
                        score = score + model.agreement[level, coarser] * agrees
                    if code < SIZE:
                        weights[at, level, code] += score.exp()
    return weights


@pytest.mark.parametrize("capacity", [module.CAPACITY, 20])
@pytest.mark.parametrize("cut", [1, 7, 25])
def test_retrieval_equals_a_search_for_any_cut(cut: int, capacity: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CAPACITY", capacity)
    monkeypatch.setattr(module, "BITS", 3)
    monkeypatch.setattr(module, "SLOTS", 2)
    model, sequence = retrieval(), frames(60)
    sequence[0, [0, 20]] = BOS
    inputs, targets = sequence[:, :-1], sequence[:, 1:]
    expected = by_search(model, inputs, targets)
    assert int((expected.sum(dim=(1, 2)) > 0).sum()) > 20
    first, state = run(model, inputs[:, :cut], targets[:, :cut])
    rest, state = run(model, inputs[:, cut:], targets[:, cut:], state)
    torch.testing.assert_close(torch.cat([first, rest], dim=1)[0], expected)
    assert state.keys.shape[1] == min(capacity, 59)


@pytest.mark.parametrize("first", [0, 1, 5, 6, 7, 30])
@torch.no_grad()
def test_frame_by_frame_equals_a_whole_sequence(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CAPACITY", 20)
    monkeypatch.setattr(module, "BITS", 3)
    model, inputs = retrieval(), frames(60, batch=3)
    expected = run(model, inputs[:, :-1], inputs[:, 1:])[0]
    state = run(model, inputs[:, :first], inputs[:, :first])[1] if first else model.initial_state(3)
    for at in range(first, 59):
        if at == 40:
            rows = torch.tensor([2, 0])
            state, inputs, expected = state.rows(rows), inputs[rows], expected[rows]  # type: ignore[assignment]
        state, found = model.advance(VECTORS, inputs[:, at : at + 1], state, 1, one_by_one=True)  # type: ignore[assignment]
        for level in range(LEVELS):
            weights = model.weights(found, inputs[:, at + 1 : at + 2, :level], slice(level, level + 1))
            torch.testing.assert_close(weights[:, 0, 0], expected[:, at, level])


def test_candidates_have_the_weights_of_targets() -> None:
    model, inputs, candidates = retrieval(), frames(40), frames(4, seed=9)
    found = model.advance(VECTORS, inputs, model.initial_state(1), 1, one_by_one=False)[1]
    alone = [model.weights(found, candidates[:, number : number + 1], EVERY) for number in range(4)]
    torch.testing.assert_close(model.weights(found, candidates, EVERY), torch.cat(alone, dim=1))


@pytest.mark.parametrize(("count", "is_found"), [(REACH, False), (60, True)])
def test_every_parameter_has_a_gradient_for_distributed_training(count: int, is_found: bool) -> None:
    model, inputs = retrieval(), frames(30).repeat(1, 2, 1)[:, : count + 1]
    run(model, inputs[:, :-1], inputs[:, 1:])[0].sum().backward()
    found = [None if parameter.grad is None else bool(parameter.grad.any()) for parameter in model.parameters()]
    assert found == [is_found] * len(found)
