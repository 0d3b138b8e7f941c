"""Runs `distill` as people type it, in the process of the tests: see the fixture `shell`."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from distill.cli import main as cli


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str


class CommandLine:
    """Runs the command in this process, in the folder that it is in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["distill", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        captured = self._capsys.readouterr()
        return Done(int(caught.value.code or 0), captured.out, captured.err)

    def refused(self, *arguments: str) -> str:
        """The sentence with which a command is refused, having written nothing."""
        before = sorted(Path().rglob("*"))
        done = self(*arguments)
        assert (done.status, done.out) == (2, ""), done
        assert sorted(Path().rglob("*")) == before
        (line,) = done.err.splitlines()
        return line
