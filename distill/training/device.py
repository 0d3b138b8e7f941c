"""The device that execution settings name."""

import torch

from distill.errors import ParamsError
from distill.execution import Execution


def device_of(execution: Execution) -> torch.device:
    """The GPU, if there is one and `execution` does not say otherwise, or the CPU.

    Raises ParamsError when the machine has no such device.
    """
    has_cuda = torch.cuda.is_available()
    if execution.device == "cuda" and not has_cuda:
        raise ParamsError("DISTILL_DEVICE: expected a CUDA device, found none on this computer; use auto or cpu")
    return torch.device("cuda" if has_cuda and execution.device != "cpu" else "cpu")
