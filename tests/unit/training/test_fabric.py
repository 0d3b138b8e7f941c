"""Precision: bf16 speeds the networks up and leaves what goes into them alone."""

import pytest
import torch
from torch import Tensor, nn

from distill.execution import Execution
from distill.training.fabric import make_fabric


class Listener(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.heard: Tensor | None = None
        self.inside: torch.dtype | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.heard, output = x, self.layer(x)
        self.inside = output.dtype
        return output


@pytest.mark.parametrize(("precision", "inside"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_a_network_hears_its_input_as_it_is(precision: str, inside: torch.dtype) -> None:
    fabric = make_fabric(Execution("cpu", precision))  # type: ignore[arg-type]
    listener = Listener()
    wrapped, _ = fabric.setup(listener, torch.optim.SGD(listener.parameters()))
    audio = torch.tensor([[1.0, 1.0 + 2**-20, 2**-14, 1 / 3]])
    output = wrapped(audio)
    assert listener.heard is not None
    assert torch.equal(listener.heard, audio)
    assert listener.inside == inside
    assert output.dtype == torch.float32
