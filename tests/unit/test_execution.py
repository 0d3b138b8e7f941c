"""Execution settings come from the environment and are checked there."""

import os
from pathlib import Path

import pytest

from distill.errors import ParamsError
from distill.execution import (
    execution_from_environment,
    group_limits,
    processes_from_environment,
    processors,
    usable_memory,
)


def test_defaults() -> None:
    execution = execution_from_environment({})
    assert (execution.device, execution.precision) == ("auto", "auto")
    assert execution.workers >= 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DISTILL_DEVICE", "gpu", "DISTILL_DEVICE: expected auto, cpu or cuda, found 'gpu'"),
        ("DISTILL_PRECISION", "fp8", "DISTILL_PRECISION: expected auto, fp32 or bf16, found 'fp8'"),
        ("DISTILL_WORKERS", "0", "DISTILL_WORKERS: expected auto or a whole number from 1 to 1024, found '0'"),
        ("DISTILL_WORKERS", "two", "DISTILL_WORKERS: expected auto or a whole number from 1 to 1024, found 'two'"),
    ],
)
def test_refusals(name: str, value: str, message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        execution_from_environment({name: value})
    assert str(caught.value) == message


def test_processes() -> None:
    assert processes_from_environment({}) == 1
    assert processes_from_environment({"DISTILL_PROCESSES": "4"}) == 4
    assert processes_from_environment({"DISTILL_PROCESSES": "auto"}) is None
    with pytest.raises(ParamsError) as caught:
        processes_from_environment({"DISTILL_PROCESSES": "-2"})
    assert str(caught.value) == "DISTILL_PROCESSES: expected auto or a whole number from 1 to 1024, found '-2'"


@pytest.mark.parametrize(
    ("own", "files", "limits"),
    [
        ("0::/job/step", {"job/memory.max": "2147483648", "job/step/memory.max": "max"}, [1 << 31]),
        ("0::/", {"memory.max": "1073741824"}, [1 << 30]),
        ("3:cpu,memory:/job", {"memory/job/memory.limit_in_bytes": "9", "memory/memory.limit_in_bytes": "99"}, [9, 99]),
        ("3:cpu:/job\n0::/", {"job/memory.max": "9", "memory/job/memory.limit_in_bytes": "9"}, []),
        ("", {}, []),
    ],
)
def test_limits_of_control_groups(tmp_path: Path, own: str, files: dict[str, str], limits: list[int]) -> None:
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    (tmp_path / "own").write_text(own)
    assert list(group_limits(tmp_path / "own", tmp_path / "groups")) == limits
    assert list(group_limits(tmp_path / "missing", tmp_path / "groups")) == []


def test_what_this_process_may_use() -> None:
    assert 1 <= processors() <= (os.cpu_count() or 1)
    assert 1 << 28 < usable_memory() <= 1 << 62
