"""Lightning Fabric: device, precision and processes."""

import logging
import os
import warnings
from typing import Any

import lightning_fabric
import torch
from lightning_fabric.plugins.precision import MixedPrecision
from lightning_fabric.strategies.ddp import DDPStrategy

from distill.execution import Execution
from distill.training.device import device_of


class UnconvertedInputs(MixedPrecision):
    """bf16 autocast that does not convert a network's inputs.

    Fabric's own rounds waveforms to 8 bits of mantissa first, a rounding noise only 50 dB below the loudest part.
    """

    def convert_input(self, data: Any) -> Any:
        """`data` as it is."""
        return data


def make_fabric(execution: Execution) -> lightning_fabric.Fabric:
    """Make the Fabric of the device and precision in `execution`; under `torchrun` one process of several (DDP).

    Raises ParamsError when the machine has no such device.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces its precision on stderr
    device = device_of(execution).type
    on_gpu = device == "cuda"
    fast_bf16 = torch.cuda.is_bf16_supported() if on_gpu else torch.cpu._is_avx512_bf16_supported()
    bf16 = execution.precision == "bf16" or (execution.precision == "auto" and fast_bf16)
    settings: dict[str, Any] = {"accelerator": device, "devices": 1}
    if bf16:
        settings["plugins"] = [UnconvertedInputs("bf16-mixed", device)]
    else:
        settings["precision"] = "32-true"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")  # of depthwise convolutions
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        settings["devices"] = here
        settings["num_nodes"] = int(os.environ["WORLD_SIZE"]) // here
        settings["strategy"] = DDPStrategy(process_group_backend="nccl" if on_gpu else "gloo")
    fabric = lightning_fabric.Fabric(**settings)
    fabric.launch()
    return fabric
