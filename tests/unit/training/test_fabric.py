"""Device and precision: what execution settings name; bf16 autocast does not convert a network's inputs."""

import pytest
import torch
from torch import Tensor, nn

from distill.errors import ParamsError
from distill.execution import Execution
from distill.training.device import device_of
from distill.training.fabric import make_fabric

HAS_CUDA = torch.cuda.is_available()


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


@pytest.mark.parametrize(("asked", "device"), [("cpu", "cpu"), ("auto", "cuda" if HAS_CUDA else "cpu")])
def test_training_and_encoding_take_the_same_device(asked: str, device: str) -> None:
    execution = Execution(asked)  # type: ignore[arg-type]
    assert device_of(execution).type == make_fabric(execution).device.type == device


@pytest.mark.skipif(HAS_CUDA, reason="this computer has a CUDA device")
def test_a_missing_gpu_is_an_error() -> None:
    for ask in (device_of, make_fabric):
        with pytest.raises(ParamsError, match="DISTILL_DEVICE: expected a CUDA device, found none on this computer"):
            ask(Execution("cuda"))
