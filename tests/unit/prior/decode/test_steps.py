"""Single-position forward passes against those of many positions."""

import pytest
import torch

from distill.prior.decode.steps import Decoder, FastLinear, Lookahead
from distill.prior.transformer import KeyValueCache, Transformer


@pytest.mark.parametrize("rows", [1, 2, 11, 12, 15, 16, 40])
@pytest.mark.parametrize("sizes", [(8, 6), (7, 6), (1, 3), (130, 64)])
@pytest.mark.parametrize("rotate", [False, True])
def test_fast_linear_equals_a_linear_layer(rows: int, sizes: tuple[int, int], rotate: bool) -> None:
    torch.manual_seed(rows)
    layer, x = torch.nn.Linear(sizes[1], sizes[0]), torch.randn(rows, sizes[1])
    if rotate:
        x = x.t().contiguous().t()
    with torch.no_grad():
        found = FastLinear(layer.weight, layer.bias)(x)
        assert found.shape == (rows, sizes[0])
        torch.testing.assert_close(found, layer(x))
        torch.testing.assert_close(FastLinear(layer.weight)(x), layer(x) - layer.bias)


def test_lookahead_computes_many_positions_at_once() -> None:
    made: list[int] = []

    def make(first: int, count: int) -> torch.Tensor:
        made.append(first)
        return torch.arange(first, first + count)

    lookahead = Lookahead(make)
    positions = [3, 4, 5, 60, 66, 67, 400, 10]
    assert [int(lookahead.at(position)) for position in positions] == positions
    assert made == [3, 67, 400, 10]


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_single_steps_equal_the_whole_sequence(rotary: bool, batch: int) -> None:
    torch.manual_seed(0)
    stack = Transformer(32, 2, 4, 0.1, rotary=rotary).eval()
    x, start, prefilled = torch.randn(batch, 9, 32), 5, 4
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.mul_(3)
        whole = stack(x, KeyValueCache(stack, batch, 9), start)
        decoder = Decoder(stack, batch, 9)
        stack(x[:, :prefilled], decoder.cache, start)
        steps = [decoder(x[:, position], start + position) for position in range(prefilled, 9)]
    assert decoder.cache.length == 9
    torch.testing.assert_close(torch.stack(steps, dim=1), whole[:, prefilled:], rtol=0, atol=1e-5)
