"""Device, precision and processes of a training, with Lightning Fabric. A single process communicates nothing."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from distill.errors import ParamsError
from distill.execution import Execution
from distill.training.interruption import SIGNALS, Interruption

if TYPE_CHECKING:
    from lightning_fabric import Fabric  # slow to import, and not needed to read codes


def device_of(execution: Execution) -> torch.device:
    """Choose the device: the GPU if there is one and `execution` allows it, else the CPU.

    Raises ParamsError if the device is missing.
    """
    has_cuda = torch.cuda.is_available()
    if execution.device == "cuda" and not has_cuda:
        raise ParamsError(
            "DISTILL_DEVICE: expected a CUDA device, found none on this computer; use auto or cpu"
        )
    return torch.device("cuda" if has_cuda and execution.device != "cpu" else "cpu")


@contextmanager
def usual_tensors() -> Iterator[None]:
    """Make float32 and the CPU PyTorch's defaults for new tensors, whatever defaults the calling program has set.

    The type changes for all threads until the context ends.
    """
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    torch.set_default_dtype(torch.float32)
    try:
        with nullcontext() if device.type == "cpu" else torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)


def make_fabric(execution: Execution) -> "Fabric":
    """Make a Fabric with the device and precision of `execution`; under `torchrun`, with DDP over its processes.

    Raises ParamsError if the device is missing.
    """
    device = device_of(execution).type
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(
        logging.WARNING
    )  # it announces its precision on stderr
    fabric = Fabric(accelerator=device, **_precision(execution, device), **_processes(device))
    fabric.launch()
    return fabric


def _precision(execution: Execution, device: str) -> dict[str, Any]:
    """Settings of Fabric for bf16, if `execution` asks for it or leaves it open and it is fast here, or for fp32."""
    from lightning_fabric.plugins.precision import MixedPrecision

    class UnconvertedInputs(MixedPrecision):
        """Mixed precision with inputs as they are: Fabric would round waveforms to bf16, with noise at -50 dB."""

        def convert_input(self, data: Any) -> Any:
            return data

    is_fast = (
        torch.cuda.is_bf16_supported if device == "cuda" else torch.cpu._is_avx512_bf16_supported
    )
    if execution.precision == "bf16" or (execution.precision == "auto" and is_fast()):
        return {"plugins": [UnconvertedInputs("bf16-mixed", device)]}
    return {"precision": "32-true"}


def _processes(device: str) -> dict[str, Any]:
    """Settings of Fabric for one device, or for the processes that `torchrun` started."""
    from lightning_fabric.strategies.ddp import DDPStrategy

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1:
        return {"devices": 1}
    warnings.filterwarnings(
        "ignore", "Grad strides do not match bucket view strides"
    )  # of depthwise convolutions
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    strategy = DDPStrategy(process_group_backend="nccl" if device == "cuda" else "gloo")
    return {"devices": here, "num_nodes": processes // here, "strategy": strategy}


WHOLE = slice(0, None, 1)  # what a single process takes of a batch


def share_of(fabric: "Fabric") -> slice:
    """Slice of a batch for this process: with n processes, every n-th item."""
    return slice(fabric.global_rank, None, fabric.world_size)


class Distributed:
    """Reductions over processes. Every process calls the same methods in the same order.

    `signal` and `cancelled` are the requests to stop that the last `poll` found: a signal's number, 0 without one.
    """

    def __init__(self, fabric: "Fabric") -> None:
        self.fabric = fabric
        self.signal = 0
        self.cancelled = False

    def poll(self, interruption: Interruption, cancel: Callable[[], bool]) -> None:
        """Set `signal` and `cancelled` if any of the processes was asked to stop."""
        flags = [*(interruption.signal == number for number in SIGNALS), cancel()]
        *signals, cancelled = self.sum(torch.tensor(flags, dtype=torch.float32)).tolist()
        received = (number for number, sent in zip(SIGNALS, signals, strict=True) if sent)
        self.signal = next(received, 0)
        self.cancelled = cancelled > 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes, on the CPU."""
        if self.fabric.world_size == 1:
            return values
        summed = self.fabric.all_reduce(values.to(self.fabric.device), reduce_op="sum")
        assert isinstance(summed, Tensor)
        return summed.cpu()

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Means of `values` over all processes."""
        sums = (
            self.sum(torch.tensor(list(values.values()), dtype=torch.float64))
            / self.fabric.world_size
        )
        return dict(zip(values, sums.tolist(), strict=True))

    def from_first(self, values: Mapping[str, float]) -> dict[str, float]:
        """Send values of the first process to all, so that all decide the same."""
        own = [value if self.fabric.global_rank == 0 else 0.0 for value in values.values()]
        return dict(
            zip(values, self.sum(torch.tensor(own, dtype=torch.float64)).tolist(), strict=True)
        )

    def decide(self, value: float) -> float:
        """Send one value of the first process to all."""
        return self.from_first({"value": value})["value"]
