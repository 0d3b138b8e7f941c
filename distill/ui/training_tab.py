"""A training on the page: its form, buttons that act on it, and its results."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from distill.errors import ParamsError
from distill.training.events import HOW_TO_STOP
from distill.ui import view
from distill.ui.chart import charts
from distill.ui.forms import HIDDEN, QUIET
from distill.ui.jobs import Job
from distill.ui.workspace import Workspace

GENERATE = "generate"  # id of the tab Generate
STOP = "Stop and use best checkpoint"


class TrainingTab(ABC):
    """Form and state of the training on the left, its results on the right."""

    kind: str
    endpoint: str

    def __init__(self, work: Workspace, timer: gr.Timer, page: gr.Blocks) -> None:
        self._work = work
        self.job = gr.State("")  # id of the displayed training
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                self._form = self._build_form()
                self._build_buttons()
            with gr.Column(min_width=320, scale=2, elem_classes="results"):
                names = ("found", "health", "charts", "previews")
                self._results = {name: gr.HTML(elem_id=f"{self.kind}-{name}") for name in names}
        shown = [
            self.job,
            self._state,
            self._cancel,
            self._stop,
            self._resume,
            self.use,
            *self._results.values(),
        ]
        # A second click must reach `Jobs`, which refuses a second training, even while the first is pending.
        always: dict[str, Any] = {"trigger_mode": "multiple", **HIDDEN}
        form = {*self._form.values()}
        self._start.click(self.begin, form, shown, api_name=self.endpoint, **always)
        self._cancel.click(self.cancel, self.job, shown, **HIDDEN)
        self._stop.click(self.stop, self.job, shown, **HIDDEN)
        self._resume.click(self.go_on, self.job, shown, **HIDDEN)
        for event in (timer.tick, page.load):
            event(self.show, None, shown, **QUIET)

    def _build_buttons(self) -> None:
        name = self.kind
        with gr.Row():
            # Disabled until the form is restored, since that overwrites typed values.
            self._start = gr.Button(
                "Start", variant="primary", elem_id=f"{name}-start", interactive=False
            )
            self._cancel = gr.Button("Cancel", elem_id=f"{name}-cancel", visible=False)
            self._stop = gr.Button(STOP, elem_id=f"{name}-stop", visible=False)
        self._state = gr.HTML(elem_id=f"{name}-state", elem_classes="beside")
        self._resume = gr.Button("Go on with this training", visible=False)
        text = "Generate with this model"
        self.use = gr.Button(text, variant="primary", elem_id=f"{name}-use", visible=False)

    @abstractmethod
    def _build_form(self) -> dict[str, Any]:
        """Fields by name."""

    @abstractmethod
    def _begin(self, form: dict[str, Any]) -> None:
        """Start a training with the values of the form, by name."""

    def begin(self, values: Mapping[Any, Any]) -> dict[Any, Any]:
        """Start a training with the values of the form, by field."""
        self._begin({name: values[field] for name, field in self._form.items()})
        return self.show()

    def show(self) -> dict[Any, Any]:
        """Show the newest training: id, state, buttons, recordings, codebooks, charts and previews."""
        job = self._work.jobs.newest(self.kind)
        shown = self._shown(job)
        # If a training started meanwhile, show it instead: Stop and Cancel must not act on the previous training.
        return shown if self._work.jobs.newest(self.kind) == job else self.show()

    def _shown(self, job: Job) -> dict[Any, Any]:
        nothing = "No training yet. Fill in the form and press Start."
        is_at_work = gr.update(visible=job.is_at_work)
        results = {
            "found": view.ingest(job.read("ingest.json"), _preset_of(job)),
            "health": _health(job),
            "charts": _charts(job),
            "previews": view.previews(job),
        }
        return {
            self.job: job.id,
            self._state: view.progress(job, nothing) + view.learned(job),
            self._cancel: is_at_work,
            self._stop: is_at_work,
            self._resume: gr.update(visible=job.is_resumable),
            self.use: gr.update(visible=self.model_of(job) in self._work.names(True)),
            **{self._results[name]: html for name, html in results.items()},
        }

    def chosen(self, shown: str) -> list[Any]:
        """Switch to the tab Generate, with the model of the displayed training."""
        model = self.model_of(self._work.jobs.get(shown))
        choices = gr.update(choices=self._work.names(True), value=model)
        return [gr.Tabs(selected=GENERATE), choices]

    def model_of(self, job: Job) -> str:
        """Name of the model file of a training that is done, or ""."""
        return Path(job.report.get("model", "")).name

    def cancel(self, shown: str) -> dict[Any, Any]:
        """Cancel the displayed training."""
        self._at_work(shown).cancel()
        return self.show()

    def stop(self, shown: str) -> dict[Any, Any]:
        """Stop the displayed training and keep its best weights so far."""
        self._at_work(shown)
        self._work.jobs.stop_file.touch()
        return self.show()

    def go_on(self, shown: str) -> dict[Any, Any]:
        """Resume the displayed training."""
        job = self._work.jobs.get(shown)
        if job.is_resumable:
            self._work.jobs.run(job)
        return self.show()

    def _at_work(self, shown: str) -> Job:
        """Displayed training if it is running, or the newest for API clients. Raises ParamsError if none is running."""
        job = self._work.jobs.get(shown) if shown else self._work.jobs.newest(self.kind)
        if job.state != "running":
            raise ParamsError("expected a training at work, found none")
        return job


def _preset_of(job: Job) -> str:
    """Preset that gives the size of the codebooks, or "" if the form gives it."""
    return "" if job.values.get("codebook_size") else job.values.get("tier", "")


def _health(job: Job) -> str:
    """Codebooks, and warnings."""
    warnings = [view.note(text, "warning") for text in job.warnings if HOW_TO_STOP not in text]
    return view.health(job.events("codec", "VQEpochMetrics")) + "".join(warnings)


def _charts(job: Job) -> str:
    """Charts of the metrics, below an alarm if the prior memorises its recordings."""
    metrics = {task: job.events(task) for task in ("codec", "prior")}
    kept = {task: event["epoch"] for task in metrics for event in job.events(task, "kept")}
    last = [{}, *job.events("prior", "PriorEpochMetrics")][-1]
    here = f"Training never stops by itself for this: “{STOP}” ends it with the best weights so far"
    alarm = str(last.get("memorization_message", "")).replace(HOW_TO_STOP, here)
    return view.note(alarm, "alarm") + charts(metrics, kept)
