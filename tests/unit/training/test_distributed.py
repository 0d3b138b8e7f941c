"""Several processes of one training have the curve of one; device and precision are those of execution settings."""

import json
import os
from pathlib import Path
from socket import socket
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distill.errors import ParamsError
from distill.execution import Execution
from distill.training.distributed import device_of, make_fabric
from programs import fork
from unit.training.curve import curve

HAS_CUDA = torch.cuda.is_available()


@pytest.mark.skipif(os.name == "nt", reason="gloo is not supported on Windows")
@pytest.mark.parametrize(
    ("what", "losses", "refused"),
    [
        (
            "prior",
            24,
            "expected the checkpoints of the first process for all 2 of them, found others or none for 1; run it on "
            "all computers in one folder that they share",
        ),
        (
            "codec",
            8,
            "expected at least 2, a crop for each process, found 1; raise it or start fewer processes",
        ),
    ],
    ids=["prior", "codec"],
)
def test_two_processes_have_the_loss_curve_of_one(tmp_path: Path, what: str, losses: int, refused: str) -> None:
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        both: dict[str, Any] = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    both |= {"TORCHELASTIC_RUN_ID": "curve", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}  # as of torchrun
    command = ("unit.training.curve", what, str(tmp_path))
    for process in [fork(tmp_path, *command, **both, RANK=rank, LOCAL_RANK=rank) for rank in "01"]:
        assert process.end().returncode == 0, process.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    alone = curve(what, tmp_path / "alone")
    assert len(alone["train"]) == losses
    assert first["train"] == pytest.approx(alone["train"], rel=5e-4)  # where rounding changes a code
    assert first["val"] == pytest.approx(alone["val"], rel=2e-4)
    assert first["weights"] == pytest.approx(
        alone["weights"], rel=5e-3, abs=1e-3
    )  # where a gradient is 0, rounding moves weights
    assert {**second, "rank": [0]} == first
    assert first["refused"] == refused


class Recorder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen = [x, self.layer(x)]
        return self.seen[1]


@pytest.mark.parametrize(("precision", "inside"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_a_network_gets_its_input_unconverted(precision: str, inside: torch.dtype) -> None:
    fabric = make_fabric(Execution("cpu", precision))  # type: ignore[arg-type]
    recorder = Recorder()
    wrapped, _ = fabric.setup(recorder, torch.optim.SGD(recorder.parameters()))
    audio = torch.tensor([[1.0, 1.0 + 2**-20, 2**-14, 1 / 3]])
    output = wrapped(audio)
    assert torch.equal(recorder.seen[0], audio)
    assert (recorder.seen[1].dtype, output.dtype) == (inside, torch.float32)


@pytest.mark.parametrize(("asked", "device"), [("cpu", "cpu"), ("auto", "cuda" if HAS_CUDA else "cpu")])
def test_training_and_encoding_take_the_same_device(asked: str, device: str) -> None:
    execution = Execution(asked)  # type: ignore[arg-type]
    assert device_of(execution).type == make_fabric(execution).device.type == device


@pytest.mark.skipif(HAS_CUDA, reason="this computer has a CUDA device")
def test_a_missing_gpu_is_an_error() -> None:
    with pytest.raises(ParamsError, match="DISTILL_DEVICE: expected a CUDA device, found none on this computer"):
        make_fabric(Execution("cuda"))
