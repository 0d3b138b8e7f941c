"""What the tabs share: handlers that say what is wrong in a sentence, and the list of models."""

import functools
import json
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import gradio as gr

from distill.errors import for_the_user
from distill.ui.jobs import Jobs
from distill.ui.workspace import Workspace

P = ParamSpec("P")
R = TypeVar("R")


class Desk:
    """The folder, its jobs and its models, for all tabs."""

    def __init__(self, workspace: Workspace, jobs: Jobs) -> None:
        self.workspace, self.jobs = workspace, jobs
        self._models: list[dict[str, Any]] = []
        self._seen: object = None
        self._lock = threading.Lock()

    def models(self) -> list[dict[str, Any]]:
        """What `distill list` says of the models of the folder; asked again when a file there has changed."""
        with self._lock:
            seen = self._signature()
            if seen != self._seen:
                self._models, self._seen = self._listed(), seen
            return self._models

    def names(self, can_generate: bool = False) -> list[str]:
        """Names of the models that open, of those with a prior only where asked; the newest first."""
        listed = [one for one in self.models() if not one["problem"] and (one["can_generate"] or not can_generate)]
        return [one["file"] for one in sorted(listed, key=lambda one: one["date"], reverse=True)]

    def known(self, name: str | None) -> dict[str, Any]:
        """What is known of a model; {} where nothing is."""
        return next((one for one in self.models() if one["file"] == name), {})

    def preselected(self, now: str | None, kind: str, can_generate: bool = False) -> str | None:
        """The model that a form shows: `now`, or else that of the newest job of a kind, or else the newest model."""
        names, job = self.names(can_generate), self.jobs.newest(kind)
        wanted = now or (None if job is None else job.values.get("model"))
        return wanted if wanted in names else next(iter(names), None)

    def _signature(self) -> object:
        files = self.workspace.models.glob("*.distill") if self.workspace.models.is_dir() else ()
        return sorted((path.name, stat.st_mtime_ns, stat.st_size) for path in files for stat in (path.lstat(),))

    def _listed(self) -> list[dict[str, Any]]:
        if not self.workspace.models.is_dir():
            return []
        command = [sys.executable, "-P", "-m", "distill", "list", str(self.workspace.models), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        try:
            listed: list[dict[str, Any]] = json.loads(done.stdout)["models"]
        except (ValueError, KeyError):
            return []
        return [{**one, "file": Path(one["path"]).name} for one in listed]


def handled(function: Callable[P, R]) -> Callable[P, R]:
    """A handler that shows a DistillError as its sentence, and anything else as a defect, without its traceback."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except gr.Error:
            raise
        except Exception as error:
            if known := for_the_user(error):  # Gradio shows the text as HTML
                raise gr.Error(escape(str(known)), duration=None, title="Not done", print_exception=False) from error
            traceback.print_exc()
            raise gr.Error(
                "this is a defect of Distill; its report is in the window that distill ui runs in",
                duration=None,
                title="Failed",
                print_exception=False,
            ) from error

    return run


def optional(label: str, otherwise: str, elem_id: str | None = None) -> gr.Textbox:
    """A field for a number that may stay empty; the command that gets it says what is wrong with it.

    A number field of Gradio gives 0 where it is empty.
    """
    return gr.Textbox("", label=label, info=f"empty: {otherwise}", max_length=30, elem_id=elem_id)


def number(value: Any) -> str:
    """A number of a form as a flag's text."""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def flags(**values: Any) -> list[str]:
    """Flags of a command from the values of a form; None, "" and False are left out, True has no text."""
    made = []
    for name, value in values.items():
        if value is None or value is False or value == "":
            continue
        flag = "--" + name.strip("_").replace("_", "-")
        made += [flag] if value is True else [flag, number(value)]
    return made


def relative(path: Path, root: Path) -> str:
    """A path below the working folder as the command that runs there takes it, which is never a flag."""
    text = path.relative_to(root).as_posix()
    return f"./{text}" if text.startswith("-") else text
