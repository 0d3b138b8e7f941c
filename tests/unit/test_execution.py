"""Execution settings come from the environment and are checked there."""

from functools import partial
from pathlib import Path

import pytest

from distill.errors import ParamsError
from distill.execution import (
    Execution,
    execution_from_environment,
    group_limits,
    number_from_environment,
    processors,
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEVICE", "PRECISION", "WORKERS", "PROCESSES", "CLUSTER"):
        monkeypatch.delenv(f"DISTILL_{name}", raising=False)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert execution_from_environment() == Execution(workers=min(16, processors()))
    assert number_from_environment("DISTILL_PROCESSES", "1") == 1
    values = {"DEVICE": "cpu", "PRECISION": "bf16", "WORKERS": "3", "CLUSTER": " a ", "PROCESSES": "4"}
    for name, value in values.items():
        monkeypatch.setenv(f"DISTILL_{name}", value)
    assert execution_from_environment() == Execution("cpu", "bf16", 3, "a")
    assert number_from_environment("DISTILL_PROCESSES", "1") == 4
    monkeypatch.setenv("DISTILL_PROCESSES", "auto")
    assert number_from_environment("DISTILL_PROCESSES", "1") is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DISTILL_DEVICE", "gpu", "auto, cpu or cuda"),
        ("DISTILL_PRECISION", "fp8", "auto, fp32 or bf16"),
        ("DISTILL_WORKERS", "0", "auto or a whole number from 1 to 1024"),
        ("DISTILL_PROCESSES", "-2", "auto or a whole number from 1 to 1024"),
    ],
)
def test_refusals(monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str) -> None:
    monkeypatch.setenv(name, value)
    read = partial(number_from_environment, name, "1") if name == "DISTILL_PROCESSES" else execution_from_environment
    with pytest.raises(ParamsError) as caught:
        read()
    assert str(caught.value) == f"{name}: expected {expected}, found {value!r}; correct or unset it"


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
