"""What the tabs share: the folder's models, handlers that say what is wrong in a sentence, and values as flags."""

import functools
import json
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import gradio as gr

from distill.errors import ParamsError, for_the_user
from distill.params import setting
from distill.ui.jobs import Job, Jobs
from distill.ui.workspace import MODEL_SUFFIX, Workspace

P = ParamSpec("P")
R = TypeVar("R")
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}  # of events that nobody waits for


def distill(*arguments: str, seconds: float | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a short command of Distill and wait for what it says."""
    command = [sys.executable, "-P", "-m", "distill", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=seconds
    )


class Desk:
    """The folder, its jobs and its models, for all tabs."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.jobs = workspace, Jobs(workspace.root)
        self._models: list[dict[str, Any]] = []
        self._seen: object = None
        self._lock = threading.Lock()

    def models(self) -> list[dict[str, Any]]:
        """What `distill list` says of the models of the folder; asked again when a file there has changed."""
        with self._lock:
            files = self.workspace.models.glob(f"*{MODEL_SUFFIX}")
            seen = sorted((path.name, stat.st_mtime_ns, stat.st_size) for path in files for stat in (path.lstat(),))
            if seen != self._seen:
                self._models, self._seen = self._listed() if seen else [], seen
            return self._models

    def _listed(self) -> list[dict[str, Any]]:
        try:
            listed = json.loads(distill("list", str(self.workspace.models), "--json").stdout)["models"]
        except ValueError:
            return []
        return [{**one, "file": Path(one["path"]).name} for one in listed]

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

    def path(self, path: Path) -> str:
        """A path below the folder as a command that runs there takes it, which is never a flag."""
        text = path.relative_to(self.workspace.root).as_posix()
        return f"./{text}" if text.startswith("-") else text


def handled(function: Callable[P, R]) -> Callable[P, R]:
    """A handler that shows a DistillError as its sentence, and anything else as a defect, without its traceback."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except gr.Error:  # of a handler that this one calls
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


def steer(
    newest: Callable[[], Job | None],
    desk: Desk,
    show: Callable[[], list[Any]],
    shown: list[gr.components.Component],
    buttons: tuple[gr.Button, gr.Button, gr.Button],
    visibility: Literal["public", "private"],
) -> None:
    """Let three buttons cancel the training that is shown, end it with its best weights so far, and go on with it."""

    def at_work() -> Job:
        job = newest()
        if job is None or job.state != "running":
            raise ParamsError("expected a training at work, found none")
        return job

    @handled
    def cancel() -> list[Any]:
        at_work().cancel()
        return show()

    @handled
    def stop() -> list[Any]:
        at_work()
        desk.jobs.stop_file.touch()
        return show()

    @handled
    def go_on() -> list[Any]:
        job = newest()
        if job is not None:
            desk.jobs.resume(job)
        return show()

    for button, handler in zip(buttons, (cancel, stop, go_on), strict=True):
        button.click(handler, None, shown, api_visibility=visibility)


def field(path: str, label: str) -> Any:
    """A field for a setting of `params.yaml`, such as "vqvae.epochs": its choices, bounds, help and default."""
    about = setting(path)
    if about.auto_by:
        return optional(label, about.auto_by, f"{about.help}; ")
    if about.type is str:
        return gr.Dropdown(list(about.choices), value=about.default, label=label, info=about.help)
    if about.choices:  # beside numbers
        return gr.Textbox(str(about.default), label=label, info=about.help, max_length=30)
    low, high, whole = about.bounds.get("ge"), about.bounds.get("le"), 0 if about.type is int else None
    return gr.Number(about.default, label=label, info=about.help, minimum=low, maximum=high, precision=whole)


def optional(label: str, otherwise: str, text: str = "", elem_id: str | None = None) -> gr.Textbox:
    """A field for a number that may stay empty; the command that gets it says what is wrong with it.

    A number field of Gradio gives 0 where it is empty.
    """
    return gr.Textbox("", label=label, info=f"{text}empty: {otherwise}", max_length=30, elem_id=elem_id)


def flags(**values: Any) -> list[str]:
    """Flags of a command from the values of a form; None, "" and False are left out, True has no text."""
    made = []
    for name, value in values.items():
        if value is None or value is False or value == "":
            continue
        flag = "--" + name.replace("_", "-")
        text = f"{value:.10g}" if isinstance(value, float) else str(value)
        made += [flag] if value is True else [flag, text]
    return made
