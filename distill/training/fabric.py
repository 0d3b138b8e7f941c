"""Device and precision, decided in one place."""

import logging
from typing import Any

import lightning_fabric
import torch
from lightning_fabric.plugins.precision import MixedPrecision

from distill.errors import ParamsError
from distill.execution import Execution


class KeptInputs(MixedPrecision):
    """bf16 autocast that leaves a network's inputs as they are.

    Fabric's own would round waveforms to 8 bits of mantissa before the network sees them, which buries everything
    quieter than the loudest part by 50 dB.
    """

    def convert_input(self, data: Any) -> Any:
        return data


def make_fabric(execution: Execution) -> lightning_fabric.Fabric:
    """Lightning Fabric for the device and precision asked for. Raises ParamsError when the machine lacks them."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces its precision on stderr
    has_cuda = torch.cuda.is_available()
    if execution.device == "cuda" and not has_cuda:
        raise ParamsError("DISTILL_DEVICE: expected a CUDA device, found none on this computer; use auto or cpu")
    on_gpu = has_cuda and execution.device != "cpu"
    fast_bf16 = torch.cuda.is_bf16_supported() if on_gpu else torch.cpu._is_avx512_bf16_supported()
    bf16 = execution.precision == "bf16" or (execution.precision == "auto" and fast_bf16)
    device = "cuda" if on_gpu else "cpu"
    if bf16:
        return lightning_fabric.Fabric(accelerator=device, devices=1, plugins=[KeptInputs("bf16-mixed", device)])
    return lightning_fabric.Fabric(accelerator=device, devices=1, precision="32-true")
