"""Retrieval of frames after similar contexts, against a search through all of them."""

import pytest
import torch
from torch import Tensor

from distill.prior.decode import retrieval as decoder_module
from distill.prior.decode.retrieval import RetrievalDecoder
from distill.prior.memory import retrieval as module
from distill.prior.memory.retrieval import Retrieval, newest

LEVELS, SIZE, WIDTH, KEY, REACH = 2, 5, 16, 16, 6
BOS = SIZE


def retrieval(reach: int = REACH) -> Retrieval:
    torch.manual_seed(0)
    return Retrieval(LEVELS, SIZE + 2, SIZE, WIDTH, KEY, reach).double()


def table(model: Retrieval) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return model.table(torch.randn(LEVELS, SIZE + 2, WIDTH, generator=generator, dtype=torch.float64))


def frames(count: int, seed: int = 1, batch: int = 1) -> Tensor:
    return torch.randint(SIZE, (batch, count, LEVELS), generator=torch.Generator().manual_seed(seed))


def test_a_repeated_context_retrieves_what_followed() -> None:
    model, inputs = retrieval(), frames(30)
    twice = torch.cat([inputs, inputs, inputs[:, :1]], dim=1)
    weights, _ = model.run(table(model), twice[:, :-1], twice[:, 1:], model.initial_state(1))
    assert (weights[0, : REACH + 1] == 0).all()
    assert torch.equal(weights[0, 33:].argmax(dim=2), twice[0, 34:])
    sure = weights[0, 33:].amax(dim=2) / weights[0, 33:].sum(dim=2)
    assert float(sure.detach().mean()) > 0.8


def by_search(model: Retrieval, inputs: Tensor, targets: Tensor) -> Tensor:
    """Weights by a search, position by position and table by table."""
    key_table = table(model)
    embedded = sum(key_table[level][inputs[0, :, level]] for level in range(LEVELS))
    padded = torch.cat([embedded.new_zeros(3, WIDTH), embedded])
    keys = [(padded[at : at + 4] * model.taps).sum(dim=0) @ model.to_key for at in range(len(embedded))]
    keys = [key / key.norm() for key in keys]
    weights = torch.zeros(len(embedded), LEVELS, SIZE + 2, dtype=torch.float64)
    for at, query in enumerate(keys):
        for number in range(module.TABLES):
            planes = model.planes[:, number * module.BITS : (number + 1) * module.BITS]
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
                        score = score + model.agreement[level, coarser] * (
                            inputs[0, position, coarser] == targets[0, at, coarser]
                        )
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
    first, state = model.run(table(model), inputs[:, :cut], targets[:, :cut], model.initial_state(1))
    rest, state = model.run(table(model), inputs[:, cut:], targets[:, cut:], state)
    torch.testing.assert_close(torch.cat([first, rest], dim=1)[0], expected)
    assert state.keys.shape[1] == min(capacity, 59)
    updated = model.update(table(model), inputs, model.initial_state(1))
    for one, other in zip(updated, state, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("first", [0, 1, 5, 6, 7, 30])
def test_decoder_equals_retrieval_frame_by_frame(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for where in (module, decoder_module):
        monkeypatch.setattr(where, "CAPACITY", 20)
        monkeypatch.setattr(where, "BITS", 3)
    model, inputs = retrieval(), frames(60, batch=3)
    key_table = table(model)
    torch.manual_seed(1)
    vectors = torch.randn(LEVELS, SIZE + 2, WIDTH, dtype=torch.float64)
    key_table = model.table(vectors)
    expected = model.run(key_table, inputs[:, :-1], inputs[:, 1:], model.initial_state(3))[0]
    with torch.no_grad():
        state = model.update(key_table, inputs[:, :first], model.initial_state(3)) if first else model.initial_state(3)
        decoder = RetrievalDecoder(model, vectors, state)
        size = decoder.bytes
        for at in range(first, 59):
            decoder.start_frame(inputs[:, at])
            for level in range(LEVELS):
                torch.testing.assert_close(decoder.weights(level), expected[:, at, level])
                decoder.update(level, inputs[:, at + 1, level])
        assert decoder.bytes == size
        decoder.keep(torch.tensor([2]))
        assert decoder.bytes == size // 3


def test_candidates_have_the_weights_of_targets() -> None:
    model, inputs = retrieval(), frames(40)
    key_table, candidates = table(model), frames(4, seed=9)
    state = model.update(key_table, inputs[:, :-1], model.initial_state(1))
    found = model.candidate_weights(key_table, inputs[:, -1:], candidates, state)
    for number in range(4):
        alone, _ = model.run(key_table, inputs[:, -1:], candidates[:, number : number + 1], state)
        torch.testing.assert_close(found[:, number], alone[:, 0])


def test_keys_have_gradients_within_a_shard_only() -> None:
    model, inputs = retrieval(), frames(30)
    twice = torch.cat([inputs, inputs], dim=1)
    weights, state = model.run(table(model), twice[:, :-1], twice[:, 1:], model.initial_state(1))
    weights.sum().backward()
    assert model.to_key.grad is not None
    assert float(model.to_key.grad.abs().max()) > 0
    assert state.keys.requires_grad
    assert not any(part.requires_grad for part in state.constant())


def test_newest_finds_the_last_positions_of_a_hash() -> None:
    hashes = torch.tensor([[3, 1, 3, 3, 1, 3, 3]])
    found = newest(hashes, torch.tensor([[3, 1, 2, 3, 3]]), torch.tensor([6, 6, 6, 2, -1]))
    assert found.clamp_min(-1)[0].tolist() == [
        [6, 5, 3, 2],
        [4, 1, -1, -1],
        [-1, -1, -1, -1],
        [2, 0, -1, -1],
        [-1, -1, -1, -1],
    ]


def test_ablated_retrieval_adds_nothing_and_still_updates() -> None:
    model, inputs = retrieval(), frames(40)
    model.ablated = True
    weights, state = model.run(table(model), inputs[:, :-1], inputs[:, 1:], model.initial_state(1))
    assert not weights.any()
    assert state.frames.shape[1] == 39
