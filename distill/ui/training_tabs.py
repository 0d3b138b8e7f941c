"""Tabs Train, Prior and Compare: inputs of a training, its progress, and trainings side by side."""

import atexit
import os
import re
import signal
import socket
import subprocess
import textwrap
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import gradio as gr

from distill.errors import ParamsError
from distill.params import setting
from distill.text import several
from distill.training.events import HOW_TO_STOP
from distill.training.mlflow_store import (
    ENVIRONMENT,
    client_of,
    database_of,
    find_experiment,
    page_command,
    runs_address,
    tracking_uri,
)
from distill.ui import view
from distill.ui.forms import HIDDEN, PRIVATE, QUIET, field, flags, optional
from distill.ui.jobs import Job
from distill.ui.worker import STDOUT
from distill.ui.workspace import Workspace, preselected

# Paths of uploaded files, which Gradio leaves out; the script in the page's head records them.
WITH_PLACES = "(folder, files) => [folder, files, window.places['{}'] || []]"
NO_FOLDERS = "All are in one folder, so there are no labels."
NONE_YET = "A training has these metrics when it has ended: they are of the weights that it keeps."
OWN = "the codec's own recordings"
GENERATE = "generate"  # id of the tab Generate
STOP, USE = "Stop and use best checkpoint", "Generate with this model"
HOW_TO_STOP_HERE = (
    f"Training never stops by itself for this: “{STOP}” ends it with the best weights so far"
)
# Flags of `train-prior`, and their settings in section `prior`.
SIZES = {
    "epochs": "epochs",
    "hidden_size": "hidden_size",
    "layers": "num_layers",
    "heads": "num_heads",
}


class TrainingTab(ABC):
    """Form and state of the training on the left, its results on the right."""

    kind: str
    endpoint: str

    def __init__(self, work: Workspace, timer: gr.Timer, page: gr.Blocks) -> None:
        self._work = work
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                self._form = self._build_form()
                with gr.Row():
                    # Disabled until the form is restored, since that overwrites typed values.
                    self._start = gr.Button(
                        "Start", variant="primary", elem_id=f"{self.kind}-start", interactive=False
                    )
                    cancel = gr.Button("Cancel", elem_id=f"{self.kind}-cancel", visible=False)
                    stop = gr.Button(STOP, elem_id=f"{self.kind}-stop", visible=False)
                state = gr.HTML(elem_id=f"{self.kind}-state", elem_classes="beside")
                resume = gr.Button("Go on with this training", visible=False)
                self.use = gr.Button(
                    USE, variant="primary", elem_id=f"{self.kind}-use", visible=False
                )
            with gr.Column(min_width=320, scale=2, elem_classes="results"):
                parts = [
                    gr.HTML(elem_id=f"{self.kind}-{name}")
                    for name in ("found", "health", "charts", "previews")
                ]
        self.job = gr.State("")  # id of the displayed training
        form = list(self._form.values())
        shown = [self.job, state, cancel, stop, resume, self.use, *parts]
        # A second click must reach `Jobs`, which refuses a second training, even while the first is pending.
        self._start.click(
            self.begin, form, shown, api_name=self.endpoint, trigger_mode="multiple", **HIDDEN
        )
        for button, handler in ((cancel, self.cancel), (stop, self.stop), (resume, self.go_on)):
            button.click(handler, self.job, shown, **HIDDEN)
        for event in (timer.tick, page.load):
            event(self.show, None, shown, **QUIET)

    @abstractmethod
    def _build_form(self) -> dict[str, Any]:
        """Fields by name."""

    @abstractmethod
    def begin(self, *values: Any) -> list[Any]:
        """Start a training with the values of the form."""

    def show(self) -> list[Any]:
        """Show the newest training: id, state, buttons, recordings, codebooks, charts and previews."""
        job = self._work.jobs.newest(self.kind)
        shown = self._parts(job)
        # If a training started meanwhile, show it instead: Stop and Cancel must not act on the previous training.
        return shown if self._work.jobs.newest(self.kind) == job else self.show()

    def _parts(self, job: Job) -> list[Any]:
        state = view.progress(
            job, "No training yet. Fill in the form and press Start."
        ) + view.learned(job)
        is_at_work = job.state == "running" and not job.is_cancelled
        metrics = {task: job.events(task) for task in ("codec", "prior")}
        kept = {task: event["epoch"] for task in metrics for event in job.events(task, "kept")}
        last = [{}, *job.events("prior", "PriorEpochMetrics")][-1]
        message = str(last.get("memorization_message", ""))
        warnings = [view.note(text, "warning") for text in job.warnings if HOW_TO_STOP not in text]
        health = view.health(job.events("codec", "VQEpochMetrics")) + "".join(warnings)
        charts = view.note(message.replace(HOW_TO_STOP, HOW_TO_STOP_HERE), "alarm") + view.charts(
            metrics, kept
        )
        tier = (
            "" if job.values.get("codebook_size") else job.values.get("tier", "")
        )  # a codebook size overrides it
        recordings = view.ingest(job.read("ingest.json"), tier)
        can = (is_at_work, is_at_work, job.is_resumable, self.model_of(job) is not None)
        buttons = [gr.update(visible=is_visible) for is_visible in can]
        return [job.id, state, *buttons, recordings, health, charts, view.previews(job)]

    def chosen(self, shown: str) -> list[Any]:
        """Switch to the tab Generate, with the model of the displayed training."""
        return [
            gr.Tabs(selected=GENERATE),
            gr.update(
                choices=self._work.names(True), value=self.model_of(self._work.jobs.get(shown))
            ),
        ]

    def model_of(self, job: Job) -> str | None:
        """Name of a training's model file, or None if the training is not done or the model cannot generate."""
        name = Path(str(job.read(STDOUT).get("model", ""))).name
        return name if job.state == "done" and name in self._work.names(True) else None

    def cancel(self, shown: str) -> list[Any]:
        """Cancel the displayed training."""
        self._at_work(shown).cancel()
        return self.show()

    def stop(self, shown: str) -> list[Any]:
        """Stop the displayed training and keep its best weights so far."""
        self._at_work(shown)
        self._work.jobs.stop_file.touch()
        return self.show()

    def go_on(self, shown: str) -> list[Any]:
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


def levels_of(quality: str) -> list[tuple[str, str]]:
    """Choices for the number of levels; the first is the quality's default."""
    by_quality = setting(f"qualities.{quality}.num_quantizers").default
    bounds = setting("vqvae.num_quantizers").bounds
    numbers = map(str, range(int(bounds["ge"]), int(bounds["le"]) + 1))
    return [
        (f"automatic: {by_quality}, by the quality", ""),
        *((number, number) for number in numbers),
    ]


class TrainTab(TrainingTab):
    """Recordings, settings, and training of a codec."""

    kind, endpoint = "train", "train"

    def __init__(self, work: Workspace, timer: gr.Timer, page: gr.Blocks) -> None:
        super().__init__(work, timer, page)
        page.load(self.restored, None, [*self._form.values(), self._start], **QUIET)

    def _build_upload(self, corpus: gr.Dropdown, is_open: bool) -> None:
        with gr.Accordion("Add recordings", open=is_open):
            gr.Markdown("Choose or drop sound files or folders. Folders can be labels.")
            folder = gr.Textbox("my-sounds", label="Folder to add them to", max_length=100)
            files = gr.File(file_count="multiple", label="Files", elem_id="files")
            directory = gr.File(file_count="directory", label="A whole folder", elem_id="directory")
            places, added = gr.JSON(visible=False), gr.HTML()
        for uploads in (files, directory):
            js = WITH_PLACES.format(uploads.elem_id)
            uploads.upload(
                self.add, [folder, uploads, places], [corpus, added, uploads], js=js, **PRIVATE
            )

    def _build_form(self) -> dict[str, Any]:
        corpora = self._work.corpora()
        corpus = gr.Dropdown(
            corpora, label="Recordings", info="a folder of this page", elem_id="corpus"
        )
        self._build_upload(corpus, not corpora)
        form: dict[str, Any] = {"corpus": corpus}
        form["name"] = optional("Name of the model", "date and time", elem_id="name")
        form["labels"] = gr.Checkbox(
            label="Folders are labels",
            info="later you can ask for a sound by its folder",
            elem_id="labels",
        )
        corpus.change(self.labelled, corpus, form["labels"], **QUIET)
        form["prior"] = gr.Checkbox(
            True, label="Make new sounds", info="trains a prior; without one sounds are coded alone"
        )
        with gr.Accordion("More settings", open=False):
            form["tier"] = field("tier", "Preset")
            form["quality"] = field("vqvae.quality", "Quality")
            about, choices = setting("vqvae.num_quantizers").help, levels_of(form["quality"].value)
            levels = gr.Dropdown(
                choices, value="", label="RVQ levels", info=about, elem_id="levels"
            )
            form["quality"].change(
                lambda quality: gr.update(choices=levels_of(quality)),
                form["quality"],
                levels,
                **QUIET,
            )
            form["rvq_levels"] = levels
            more = {
                **{"vqvae.commitment_weight": "Commitment weight", "vqvae.epochs": "Most epochs"},
                **{
                    "vqvae.learning_rate": "Learning rate",
                    "corpus.sample_rate": "Sample rate, Hz",
                    "seed": "Seed",
                },
                "vqvae.codebook_size": "Codebook size",
            }
            form |= {path.rpartition(".")[2]: field(path, label) for path, label in more.items()}
        return form

    def labelled(self, name: str | None) -> bool:
        """Default of the checkbox for labels: on if the recordings are in several folders."""
        return bool(self._work.labels(name))

    def add(self, folder: str, uploads: list[str] | None, places: list[str] | None) -> list[Any]:
        """Add uploaded recordings to the folder with this name."""
        files = [Path(upload) for upload in uploads or []]
        if not files:
            return [gr.skip(), "", gr.skip()]
        names = places if places and len(places) == len(files) else [file.name for file in files]
        target = self._work.recordings_to(folder)
        target.add(list(zip(files, names, strict=True)))
        for file in files:  # they are copied; the next upload starts with an empty list
            file.unlink(missing_ok=True)
        corpus, corpora = (
            target.folder.relative_to(self._work.root).as_posix(),
            self._work.corpora(),
        )
        notes = view.note(f"{several(target.count, 'recording')} added to {corpus}")
        labels = textwrap.shorten(", ".join(self._work.labels(corpus)), 200, placeholder=" …")
        notes += view.note(
            f"Folders are labels, unless you decline: {labels}" if labels else NO_FOLDERS
        )
        most = 20  # files listed on the page
        more = [f"and {len(target.refused) - most} more files were left out"] * (
            len(target.refused) > most
        )
        notes += "".join(
            view.note(sentence, "warning") for sentence in [*target.refused[:most], *more]
        )
        return [
            gr.update(choices=corpora, value=corpus if corpus in corpora else None),
            notes,
            None,
        ]

    def begin(self, *values: Any) -> list[Any]:
        """Start a training with the values of the form."""
        form, work = dict(zip(self._form, values, strict=True)), self._work
        folder = work.corpus(form["corpus"] or "")
        form["name"] = work.new_model(form["name"] or time.strftime("model-%Y%m%d-%H%M%S")).stem
        settings = {**form, "corpus": None, "labels": "folder" if form["labels"] else "none"}
        arguments = ["train", work.argument(folder), *flags(**settings, json=True)]
        work.jobs.start("train", f"training {form['name']} on {form['corpus']}", arguments, form)
        return self.show()

    def restored(self) -> list[Any]:
        """Restore the form from the newest training, except the name."""
        job, corpora = self._work.jobs.newest(self.kind), self._work.corpora()
        chosen = preselected(corpora, job.values.get("corpus"))
        before = {**job.values, "labels": job.values.get("labels", self.labelled(chosen))}
        rest = [before.get(key, field.value) for key, field in list(self._form.items())[2:]]
        return [gr.update(choices=corpora, value=chosen), "", *rest, gr.update(interactive=True)]


class PriorTab(TrainingTab):
    """Train a prior for a model, and monitor memorization."""

    kind, endpoint = "prior", "train_prior"

    def __init__(self, work: Workspace, timer: gr.Timer, page: gr.Blocks, tab: gr.Tab) -> None:
        super().__init__(work, timer, page)
        model, data = self._form["model"], self._form["data"]
        for event in (tab.select, page.load):
            event(self.restored, model, [model, data, self._start], **QUIET)

    def _build_form(self) -> dict[str, Any]:
        form: dict[str, Any] = {
            "model": gr.Dropdown(self._work.names(), label="Model", elem_id="prior-model")
        }
        folders = [OWN, *self._work.corpora()]
        form["data"] = gr.Dropdown(folders, value=OWN, label="Recordings", elem_id="prior-data")
        for name, key in SIZES.items():
            form[name] = field(f"prior.{key}", name.replace("_", " ").capitalize(), f"prior-{name}")
        with gr.Accordion("More settings", open=False):
            form["architecture"] = field("prior.architecture", "Architecture")
            about = setting("corpus.labels")
            labels = [("as in the model", ""), *zip(about.choices, about.choices, strict=True)]
            form["labels"] = gr.Dropdown(labels, value="", label="Labels", info=about.help)
        form["copy"] = optional("Name of a copy to write it into", "into the model")
        form["replace"] = gr.Checkbox(
            label="Replace the prior that the model has", elem_id="prior-replace"
        )
        return form

    def begin(self, *values: Any) -> list[Any]:
        """Start a training with the values of the form."""
        form, work = dict(zip(self._form, values, strict=True)), self._work
        path = work.model(form["model"])
        settings = {key: form[key] for key in (*SIZES, "architecture", "labels", "replace")}
        if form["copy"]:
            settings["output"] = work.argument(work.new_model(form["copy"]))
        if form["data"] != OWN:
            settings["data"] = work.argument(work.corpus(form["data"]))
        arguments = ["train-prior", work.argument(path), *flags(**settings, json=True)]
        work.jobs.start("prior", f"training a prior of {path.stem}", arguments, form)
        return self.show()

    def restored(self, now: str | None) -> list[Any]:
        """Refresh the lists of models and recordings."""
        names = self._work.names()
        models = gr.update(choices=names, value=preselected(names, now))
        return [
            models,
            gr.update(choices=[OWN, *self._work.corpora()]),
            gr.update(interactive=True),
        ]


class CompareTab:
    """Trainings of the folder in MLflow, side by side."""

    def __init__(self, work: Workspace, tab: gr.Tab) -> None:
        self._root = work.root
        self._addresses: dict[subprocess.Popen[bytes], str] = {}  # of running MLflow servers
        runs = gr.CheckboxGroup([], label="Trainings", info="choose two or more", elem_id="runs")
        mlflow = gr.Button("Open MLflow")
        link, compared = gr.HTML(), gr.HTML(elem_id="compared")
        mlflow.click(self.open_mlflow, None, link, **PRIVATE)
        runs.change(self.compare, runs, compared, **PRIVATE)
        tab.select(self.show, None, [runs, compared], **PRIVATE)

    def show(self) -> list[Any]:
        """Refresh the list of trainings."""
        runs = self._runs()
        nothing = "" if runs else view.note("MLflow has no training of this folder yet.")
        return [gr.update(choices=[(_name_of(run), run.info.run_id) for run in runs]), nothing]

    def compare(self, chosen: list[str]) -> str:
        """Compare the chosen trainings: settings that differ, and metrics."""
        by_id = {run.info.run_id: run for run in self._runs()}
        runs = [by_id[run_id] for run_id in chosen if run_id in by_id]
        if len(runs) < 2:
            return view.note("Choose two trainings or more.")
        are_mixed = len({run.data.tags.get("dvc.stage") for run in runs}) > 1
        mixed = (
            "These are trainings of codecs and of priors: their losses cannot be compared."
            * are_mixed
        )
        kept = ("best/", "audition/")  # metrics of the best weights, and of their sounds
        metrics = [
            row for row in _rows([run.data.metrics for run in runs]) if row[0].startswith(kept)
        ]
        settings = [
            row for row in _rows([run.data.params for run in runs]) if len(set(row[1:])) > 1
        ]
        names = [_name_of(run) for run in runs]
        return (
            f"{view.note(mixed, 'warning')}<h2>Settings that differ</h2>"
            f"{view.table(('setting', *names), settings, 'All settings are the same.')}"
            f"<h2>Metrics of the weights that were kept</h2>{view.table(('metric', *names), metrics, NONE_YET)}"
        )

    def open_mlflow(self) -> str:
        """Link to MLflow's page; start its server unless it is running."""
        running = (address for server, address in self._addresses.items() if server.poll() is None)
        address = next(running, None) or self._start_mlflow()
        text = f'<a href="{address}" target="_blank" rel="noopener">{address}</a>'
        return f"<p>MLflow answers at {text} in a few seconds, on this computer alone, until this page is closed.</p>"

    def _start_mlflow(self) -> str:
        """Start an MLflow server, which ends with this process, and return its address."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = subprocess.Popen(
            page_command(self._root, port),
            env={**os.environ, **ENVIRONMENT},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        atexit.register(end_group, server)
        self._addresses[server] = runs_address(self._root, port)
        return self._addresses[server]

    def _runs(self) -> list[Any]:
        address = tracking_uri(self._root)
        database = database_of(address)
        if database is not None and not database.exists():
            return []
        client = client_of(address)
        experiment = find_experiment(client, self._root)
        return (
            list(client.search_runs([experiment.experiment_id], max_results=200))
            if experiment
            else []
        )


def _name_of(run: Any) -> str:
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.info.start_time / 1000))
    return f"{run.info.run_name}, {began}, {run.info.status.lower()}"


def _rows(columns: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A row for each key in any column, in natural order (2 before 10)."""

    def order(key: str) -> str:
        return re.sub(r"\d+", lambda number: f"{number[0]:>9}", key)

    def shown(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    keys = sorted({key for column in columns for key in column}, key=order)
    return [(key, *(shown(column.get(key, "–")) for column in columns)) for key in keys]


def end_group(server: "subprocess.Popen[bytes]") -> None:
    """End a process and its children."""
    if os.name == "nt":
        server.terminate()
    elif server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
