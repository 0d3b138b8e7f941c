"""What a stage makes of DISTILL_PROCESSES, and of how its processes ended."""

import os
import sys
from pathlib import Path

import pytest
import torch

from distill.errors import DistillError, ParamsError
from distill.params import Params, default_values
from stages.ops import processes
from stages.ops.processes import EndedError, _killed_by, _processes, _run, over_processes
from stages.running import LAUNCHED

PARAMS = Params.model_validate(default_values())


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "DISTILL_PROCESSES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISTILL_DEVICE", "cpu")


@pytest.mark.parametrize(
    "variables",
    [{}, {"DISTILL_PROCESSES": "1"}, {"DISTILL_PROCESSES": "auto"}, {"DISTILL_PROCESSES": "2", "WORLD_SIZE": "2"}],
)
def test_a_stage_runs_in_its_own_process(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By default, with one process, without GPUs, and where torchrun started it."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ran: list[int] = []
    over_processes("train_prior", lambda _: ran.append(os.getpid()))(PARAMS)
    assert ran == [os.getpid()]


def test_as_many_processes_as_asked_for_but_no_more_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILL_PROCESSES", "3")
    assert _processes() == 3
    monkeypatch.setenv("DISTILL_DEVICE", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ParamsError) as refused:
        _processes()
    assert str(refused.value) == (
        "DISTILL_PROCESSES: expected at most 2, one for each GPU here, found 3; lower it, or set DISTILL_DEVICE=cpu"
    )
    monkeypatch.setenv("DISTILL_PROCESSES", "auto")
    assert _processes() == 2


@pytest.mark.parametrize(
    ("exit_codes", "status"), [([1, 2], 1), ([2, 2], 2), ([2, 130], 130), ([143, 143], 143), ([1], 1)]
)
def test_processes_that_said_why_they_ended_are_not_started_again(exit_codes: list[int], status: int) -> None:
    with pytest.raises(EndedError, match="ended with its processes, which say above why") as ended:
        _killed_by(exit_codes)
    assert ended.value.exit_code == status
    assert _killed_by([*exit_codes, -9]) == "SIGKILL"


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_processes_that_are_killed_each_time_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "killed"
    program.write_text("#!/bin/sh\nkill -KILL $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(processes, "MAX_RESTARTS", 1)
    monkeypatch.setenv(LAUNCHED, "")  # set by what is tested, and taken back at the end
    with pytest.raises(DistillError) as given_up:
        _run("train_prior", 2)
    assert str(given_up.value) == (
        "processes: expected 2 of them to train to the end, found one killed by SIGKILL each of 2 times; if memory ran "
        "out, take a smaller batch_size or lower DISTILL_PROCESSES, and run again to continue"
    )
    said = "train_prior: a process was killed by SIGKILL; all start again from the last checkpoint"
    assert capsys.readouterr().err.splitlines().count(said) == 1
