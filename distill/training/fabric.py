"""Device, precision and processes, decided in one place."""

import logging
import os
from typing import Any

import lightning_fabric
import torch
from lightning_fabric.plugins.precision import MixedPrecision
from lightning_fabric.strategies.ddp import DDPStrategy

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
    """Lightning Fabric for the device and precision asked for; under `torchrun` one process of several (DDP).

    Raises ParamsError when the machine lacks them.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces its precision on stderr
    has_cuda = torch.cuda.is_available()
    if execution.device == "cuda" and not has_cuda:
        raise ParamsError("DISTILL_DEVICE: expected a CUDA device, found none on this computer; use auto or cpu")
    on_gpu = has_cuda and execution.device != "cpu"
    fast_bf16 = torch.cuda.is_bf16_supported() if on_gpu else torch.cpu._is_avx512_bf16_supported()
    bf16 = execution.precision == "bf16" or (execution.precision == "auto" and fast_bf16)
    device = "cuda" if on_gpu else "cpu"
    settings: dict[str, Any] = {"accelerator": device, "devices": 1}
    if bf16:
        settings["plugins"] = [KeptInputs("bf16-mixed", device)]
    else:
        settings["precision"] = "32-true"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        settings["devices"] = here
        settings["num_nodes"] = int(os.environ["WORLD_SIZE"]) // here
        settings["strategy"] = DDPStrategy(process_group_backend="nccl" if on_gpu else "gloo")
    fabric = lightning_fabric.Fabric(**settings)
    fabric.launch()
    return fabric
