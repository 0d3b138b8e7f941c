"""Precision: bf16 autocast does not convert a network's inputs."""

import pytest
import torch
from torch import Tensor, nn

from distill.execution import Execution
from distill.training.fabric import make_fabric


class Recorder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.input: Tensor | None = None
        self.inside: torch.dtype | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.input, output = x, self.layer(x)
        self.inside = output.dtype
        return output


@pytest.mark.parametrize(("precision", "inside"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_a_network_gets_its_input_unconverted(precision: str, inside: torch.dtype) -> None:
    fabric = make_fabric(Execution("cpu", precision))  # type: ignore[arg-type]
    recorder = Recorder()
    wrapped, _ = fabric.setup(recorder, torch.optim.SGD(recorder.parameters()))
    audio = torch.tensor([[1.0, 1.0 + 2**-20, 2**-14, 1 / 3]])
    output = wrapped(audio)
    assert recorder.input is not None
    assert torch.equal(recorder.input, audio)
    assert recorder.inside == inside
    assert output.dtype == torch.float32
