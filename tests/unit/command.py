"""Runs `distill` as people type it, in the process of the tests."""

import sys
from dataclasses import dataclass

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
