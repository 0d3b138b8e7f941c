"""Devices of execution settings."""

import pytest
import torch

from distill.errors import ParamsError
from distill.execution import Execution
from distill.training.device import device_of
from distill.training.fabric import make_fabric

HAS_CUDA = torch.cuda.is_available()


@pytest.mark.parametrize(("asked", "device"), [("cpu", "cpu"), ("auto", "cuda" if HAS_CUDA else "cpu")])
def test_training_and_encoding_take_the_same_device(asked: str, device: str) -> None:
    execution = Execution(asked)  # type: ignore[arg-type]
    assert device_of(execution).type == make_fabric(execution).device.type == device


@pytest.mark.skipif(HAS_CUDA, reason="this computer has a CUDA device")
def test_a_missing_gpu_is_an_error() -> None:
    for ask in (device_of, make_fabric):
        with pytest.raises(ParamsError, match="DISTILL_DEVICE: expected a CUDA device, found none on this computer"):
            ask(Execution("cuda"))
