"""Several processes of one training: the same loss curve as one, and one decision on when to stop."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest
from programs import run
from unit.training.curve import CURVES

from distill.execution import Execution
from distill.training.distributed import Distributed
from distill.training.fabric import make_fabric
from distill.training.interruption import Interruption


@pytest.mark.skipif(os.name == "nt", reason="gloo through torchrun is not supported on Windows")
@pytest.mark.parametrize(("what", "losses"), [("prior", 60), ("codec", 12)])
def test_two_processes_have_the_loss_curve_of_one(tmp_path: Path, what: str, losses: int) -> None:
    processes = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "unit.training.curve")
    done = run(tmp_path, *processes, what, str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    alone = CURVES[what](tmp_path / "alone")
    assert len(alone["train"]) == losses
    assert first["train"] == pytest.approx(alone["train"], rel=2e-4)
    assert first["val"] == pytest.approx(alone["val"], rel=2e-4)
    assert first["weights"] == pytest.approx(
        alone["weights"], rel=5e-3, abs=1e-3
    )  # where a gradient is 0, rounding moves weights
    assert {**second, "rank": [0]} == first
    if what == "prior":
        assert first["refused"] == (
            "expected the checkpoints of the first process for all 2 of them, found others or none for 1; run it on all "
            "computers in one folder that they share"
        )


def test_one_process_needs_no_communication() -> None:
    distributed = Distributed(make_fabric(Execution("cpu", "fp32")))
    interruption, cancel = Interruption(), threading.Event()
    distributed.poll(interruption, cancel)
    assert distributed.signal is None
    assert not distributed.cancelled
    interruption.signal = signal.SIGINT
    cancel.set()
    distributed.poll(interruption, cancel)
    assert distributed.signal == signal.SIGINT
    assert distributed.cancelled
    assert distributed.mean({"a": 1.5}) == distributed.from_first({"a": 1.5}) == {"a": 1.5}
