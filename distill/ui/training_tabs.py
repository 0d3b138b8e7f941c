"""The tabs Train, Prior and Compare: what a training is given, the one at work, and trainings side by side."""

import atexit
import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from distill.audio.read import SUPPORTED_SUFFIXES
from distill.errors import ParamsError
from distill.params import default_params, get_adaptive_prior_config
from distill.training.tracking import ENVIRONMENT, EXPERIMENT, client_of, database_of, page_command, tracking_uri
from distill.ui import view
from distill.ui.forms import PRIVATE, QUIET, field, flags, question
from distill.ui.jobs import Job
from distill.ui.workspace import Workspace

# The paths of the files in the folder that was chosen, which Gradio leaves out, noted by the script in the page's head.
WITH_PLACES = "(folder, files, places) => [folder, files, window.chosenFiles || []]"
OWN = "the codec's own recordings"
INTO, COPY = "into the model", "into a copy"
# Flags of `train-prior` and their settings.
SIZES = {"epochs": "epochs", "hidden_size": "hidden_size", "layers": "num_layers", "heads": "num_heads"}
MOST_RUNS = 200
CURVES = {
    "val_loss": "held-out loss",
    "val_perplexity": "held-out perplexity",
    "val_bits_per_second": "held-out bits per second",
}
LEFT_OUT = ("epoch", "learning_rate", "gradient_norm", "epoch_time_s", "step/")


class TrainingTab(ABC):
    """A form on the left, and on the right the newest training of its kind, which its buttons steer."""

    _work: Workspace
    _form: dict[str, Any]

    @abstractmethod
    def newest(self) -> Job | None:
        """The training that is shown."""

    @abstractmethod
    def show(self) -> list[Any]:
        """What is shown of it."""

    def _build_buttons(self, name: str, is_ready: bool = True) -> None:
        with gr.Row():
            start = gr.Button("Start", variant="primary", elem_id=f"{name}-start", interactive=is_ready)
            self._start, self._cancel = start, gr.Button("Cancel", elem_id=f"{name}-cancel")
            self._stop = gr.Button("Stop and use best checkpoint", elem_id=f"{name}-stop")

    def _listen_to_buttons(
        self, shown: list[Any], timer: gr.Timer, page: gr.Blocks, visibility: Literal["public", "private"]
    ) -> None:
        """Let buttons steer the training; the last of `shown` goes on with it."""
        for button, handler in ((self._cancel, self.cancel), (self._stop, self.stop), (shown[-1], self.go_on)):
            button.click(handler, None, shown, api_visibility=visibility)
        timer.tick(self.show, None, shown, **QUIET)
        page.load(self.show, None, shown, **QUIET)

    def cancel(self) -> list[Any]:
        """Cancel the training."""
        self._at_work().cancel()
        return self.show()

    def stop(self) -> list[Any]:
        """End the training with its best weights so far."""
        self._at_work()
        self._work.jobs.stop_file.touch()
        return self.show()

    def go_on(self) -> list[Any]:
        """Go on with the training."""
        if (job := self.newest()) is not None:
            self._work.jobs.resume(job)
        return self.show()

    def _at_work(self) -> Job:
        job = self.newest()
        if job is None or job.state != "running":
            raise ParamsError("expected a training at work, found none")
        return job

    def _given(self, values: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(self._form, values, strict=True))


class TrainTab(TrainingTab):
    """Recordings, settings, and the training of a codec."""

    def __init__(self, work: Workspace, timer: gr.Timer, page: gr.Blocks) -> None:
        self._work = work
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                corpora = work.corpora()
                corpus = gr.Dropdown(corpora, label="Recordings", info="a folder of this page", elem_id="corpus")
                self._build_upload(corpus, not corpora)
                self._form = {"corpus": corpus, **self._build_form()}
                # Off until the form is filled, which overwrites what was typed before.
                self._build_buttons("train", is_ready=False)
            with gr.Column(min_width=320, scale=2):
                state = gr.HTML(elem_id="train-state")
                resume = gr.Button("Go on with this training", visible=False)
                found, codebooks = gr.HTML(), gr.HTML(elem_id="train-health")
                charts, previews = gr.HTML(elem_id="train-charts"), gr.HTML(elem_id="train-previews")
        form, shown = list(self._form.values()), [state, found, codebooks, charts, previews, resume]
        name, tier = self._form["name"], self._form["tier"]
        for changed in (corpus, tier):
            changed.change(self.codebook, [corpus, tier], self._size, queue=False, **QUIET)
        self._start.click(self.begin, form, shown, api_name="train").success(_new_name, None, name, **PRIVATE)
        page.load(self.restored, None, [*form, self._size, self._start], **QUIET)
        self._listen_to_buttons(shown, timer, page, "public")

    def _build_upload(self, corpus: gr.Dropdown, is_open: bool) -> None:
        with gr.Accordion("Add recordings", open=is_open):
            gr.Markdown("Sound files, or a folder. Folders within it can be labels.")
            folder = gr.Textbox("my-sounds", label="Folder to add them to", max_length=100)
            files = gr.File(file_count="multiple", label="Files", elem_id="files")
            directory = gr.File(file_count="directory", label="A whole folder", elem_id="directory")
            places, added = gr.JSON(visible=False), gr.HTML()
        for uploads, js in ((files, None), (directory, WITH_PLACES)):
            uploads.upload(self.add, [folder, uploads, places], [corpus, added, uploads], js=js, **PRIVATE)

    def _build_form(self) -> dict[str, Any]:
        form: dict[str, Any] = {"name": gr.Textbox(label="Name of the model", max_length=100, elem_id="name")}
        form["tier"] = field("tier", "Preset")
        form["quality"] = field("vqvae.quality", "Quality")
        form["rvq_levels"] = field("vqvae.num_quantizers", "RVQ levels")
        self._size = gr.HTML(self.codebook(None, "auto"))
        prior = gr.Checkbox(True, label="Also train a prior", info="without one the model cannot generate")
        with gr.Accordion("More settings", open=False):
            form["commitment_weight"] = field("vqvae.commitment_weight", "Commitment weight")
            form["epochs"] = field("vqvae.epochs", "Most epochs")
            form["learning_rate"] = field("vqvae.learning_rate", "Learning rate")
            form["sample_rate"] = field("corpus.sample_rate", "Sample rate, Hz")
            form["labels"] = field("corpus.labels", "Labels")
            form["seed"] = field("seed", "Seed")
        return {**form, "prior": prior}

    def newest(self) -> Job | None:
        """The newest training of a codec."""
        return self._work.jobs.newest("train")

    def show(self) -> list[Any]:
        """State, recordings, codebooks, charts and previews of the newest training, and whether it can go on."""
        job = self.newest()
        if job is None:
            text = view.note("No training yet. Choose recordings and press Start.")
            return [text, "", "", "", "", gr.update(visible=False)]
        codec = job.events("codec")
        health = view.health(codec) + "".join(view.note(text, "warning") for text in job.warnings)
        charts = view.codec_losses(codec) + view.prior_curves(job.events("prior"))
        found, resume = view.ingest(job.read("ingest.json")), gr.update(visible=job.is_resumable)
        return [view.progress(job, ""), found, health, charts, view.previews(job.previews), resume]

    def add(self, folder: str, uploads: list[str] | None, places: list[str] | None) -> list[Any]:
        """Add uploaded recordings to the folder of this name."""
        if not uploads:
            return [gr.skip(), "", gr.skip()]
        files = [Path(one) for one in uploads]
        names = [file.name for file in files]
        if places and len(places) == len(files):  # but for the folder that was chosen itself
            names = ["/".join([*place.split("/")[1:-1], name]) for place, name in zip(places, names, strict=True)]
        target, count, refused = self._work.add_recordings(folder, zip(files, names, strict=True))
        said = [view.note(f"{count} recordings added to {target}")]
        said += [view.note(sentence, "warning") for sentence in refused[:20]]
        for file in files:  # the folder has them now, and the next ones are added to an empty list
            file.unlink(missing_ok=True)
        corpora = self._work.corpora()
        chosen = next((one for one in corpora if f"{one}/".startswith(f"{target}/")), None)
        return [gr.update(choices=corpora, value=chosen), "".join(said), None]

    def begin(self, *values: Any) -> list[Any]:
        """Start a training with the values of the form."""
        given = self._given(values)
        folder, path = self._work.corpus(given["corpus"] or ""), self._work.new_model(given["name"])
        settings = {key: value for key, value in given.items() if key != "corpus"}
        arguments = ["train", self._work.argument(folder), *flags(**{**settings, "name": path.stem})]
        self._work.jobs.start("train", f"training {path.stem} on {given['corpus']}", arguments, given)
        return self.show()

    def restored(self) -> list[Any]:
        """The form as it was filled in for the newest training, with a new name."""
        job, corpora = self.newest(), self._work.corpora()
        values = {} if job is None else job.values
        chosen = values.get("corpus") if values.get("corpus") in corpora else next(iter(corpora), None)
        rest = {key: _kept(one, values.get(key)) for key, one in list(self._form.items())[2:]}
        size = self.codebook(chosen, rest["tier"])
        corpus, start = gr.update(choices=corpora, value=chosen), gr.update(interactive=True)
        return [corpus, _new_name(), *rest.values(), size, start]

    def codebook(self, corpus: str | None, tier: str) -> str:
        """The codebook size that the preset gives."""
        files = (self._work.root / corpus).rglob("*") if corpus in self._work.corpora() else ()
        count = sum(path.suffix.lower() in SUPPORTED_SUFFIXES for path in files if path.is_file())
        sizes = "64, 128 or 256 by the number of recordings"
        if count or tier != "auto":
            size = default_params(tier=tier).vqvae_config(count).codebook_size
            sizes = f"{size}" + (f" ({count} sound files)" if count else "")
        return f'<p class="small">Codebook size: {sizes}</p>'


def _kept(one: Any, value: Any) -> Any:
    """A value for a field; its default where there is none, or where another version had more choices."""
    choices = [choice for _, choice in getattr(one, "choices", ())]
    return one.value if value is None or (choices and value not in choices) else value


def _new_name() -> str:
    return time.strftime("model-%Y%m%d-%H%M%S")


class PriorTab(TrainingTab):
    """Give a model a prior, and watch whether it memorises."""

    def __init__(self, work: Workspace, timer: gr.Timer, page: gr.Blocks, tab: gr.Tab) -> None:
        self._work = work
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                self._form = self._build_form()
                self._build_buttons("prior")
                group, asked, yes = question("Replace it", "Leave it", "prior-question")
            with gr.Column(min_width=320, scale=2):
                alarm = gr.HTML(elem_id="memorisation")
                state, charts = gr.HTML(elem_id="prior-state"), gr.HTML(elem_id="prior-charts")
                resume = gr.Button("Go on with this training", visible=False)
        form, shown = list(self._form.values()), [alarm, state, charts, resume]
        model, data, where, copy = (self._form[key] for key in ("model", "data", "where", "copy"))
        sizes = [self._form[key] for key in SIZES]
        where.change(lambda value: gr.update(visible=value == COPY), where, copy, queue=False, **QUIET)
        model.change(self.fill, model, sizes, queue=False, **QUIET)
        self._start.click(self.begin, form, [group, asked, *shown], api_name="train_prior")
        yes.click(self.replace, form, [group, *shown], **PRIVATE)
        for event in (tab.select, page.load):
            event(self.restored, model, [model, data, *sizes], **QUIET)
        self._listen_to_buttons(shown, timer, page, "private")

    def _build_form(self) -> dict[str, Any]:
        form: dict[str, Any] = {"model": gr.Dropdown(self._work.names(), label="Model", elem_id="prior-model")}
        folders = [OWN, *self._work.corpora()]
        form["data"] = gr.Dropdown(folders, value=OWN, label="Recordings", elem_id="prior-data")
        form |= {name: field(f"prior.{key}", name.replace("_", " ").capitalize()) for name, key in SIZES.items()}
        with gr.Accordion("More settings", open=False):
            form["architecture"] = field("prior.architecture", "Architecture")
        form["where"] = gr.Radio([INTO, COPY], value=INTO, label="Write the prior")
        form["copy"] = gr.Textbox(label="Name of the copy", visible=False, max_length=100)
        return form

    def newest(self) -> Job | None:
        """The newest training of a prior, alone or with its codec."""
        job = self._work.jobs.newest("prior", "train")
        is_codec_alone = job is not None and job.kind == "train" and not job.events("prior")
        return self._work.jobs.newest("prior") if is_codec_alone else job

    def show(self) -> list[Any]:
        """Memorisation, state and charts of the newest training, and whether it can go on here."""
        job = self.newest()
        if job is None:
            text = view.note("No prior was trained here yet. Choose a model and press Start.")
            return ["", text, "", gr.update(visible=False)]
        epochs = job.events("prior", "PriorEpochMetrics")
        is_memorizing = bool(epochs) and epochs[-1].get("is_memorizing")
        alarm = view.note(str(epochs[-1]["memorization_message"]), "alarm") if is_memorizing else ""
        resume = gr.update(visible=job.kind == "prior" and job.is_resumable)
        return [alarm, view.progress(job, ""), view.prior_curves(job.events("prior")), resume]

    def begin(self, *values: Any) -> list[Any]:
        """Start a training with the values of the form, or ask whether it may replace a prior."""
        given = self._given(values)
        self._work.jobs.check_room("prior")
        if given["where"] == INTO and self._work.known(given["model"]).get("can_generate"):
            text = f"{given['model']} has a prior. Replace it?"
            return [gr.update(visible=True), view.note(text, "warning"), *self.show()]
        self._train(given, replace=False)
        return [gr.update(visible=False), "", *self.show()]

    def replace(self, *values: Any) -> list[Any]:
        """Start a training that replaces a prior."""
        self._train(self._given(values), replace=True)
        return [gr.update(visible=False), *self.show()]

    def _train(self, given: dict[str, Any], replace: bool) -> None:
        work, path = self._work, self._work.model(given["model"])
        output = work.argument(work.new_model(given["copy"])) if given["where"] == COPY else None
        data = None if given["data"] == OWN else work.argument(work.corpus(given["data"]))
        sizes = {name: given[name] for name in SIZES}
        more = flags(data=data, architecture=given["architecture"], **sizes, output=output, replace=replace)
        arguments = ["train-prior", work.argument(path), *more]
        work.jobs.start("prior", f"training a prior of {path.stem}", arguments, given)

    def fill(self, name: str | None) -> list[str]:
        """Sizes by the number of recordings of the codec."""
        config = get_adaptive_prior_config(int(self._work.known(name).get("recordings") or 1))
        return [str(getattr(config, key)) for key in SIZES.values()]

    def restored(self, now: str | None) -> list[Any]:
        """The lists of models and of recordings, and sizes for the model that is chosen."""
        chosen = self._work.preselected(now, "prior")
        folders = gr.update(choices=[OWN, *self._work.corpora()])
        return [gr.update(choices=self._work.names(), value=chosen), folders, *self.fill(chosen)]


class CompareTab:
    """The trainings of the folder as MLflow has them, and those chosen side by side."""

    def __init__(self, work: Workspace, tab: gr.Tab) -> None:
        self._root = work.root
        self._server: tuple[subprocess.Popen[bytes], int] | None = None
        runs = gr.CheckboxGroup([], label="Trainings", info="choose two or more", elem_id="runs")
        with gr.Row():
            refresh, mlflow = gr.Button("Look again"), gr.Button("Open MLflow")
        link, compared = gr.HTML(), gr.HTML(elem_id="compared")
        mlflow.click(self.open_mlflow, None, link, **PRIVATE)
        runs.change(self.compare, runs, compared, **PRIVATE)
        for event in (refresh.click, tab.select):
            event(self.show, None, [runs, compared], **PRIVATE)

    def show(self) -> list[Any]:
        """The list of trainings."""
        found = self._runs()
        said = "" if found else view.note("MLflow has no training of this folder yet.")
        return [gr.update(choices=[(_name_of(run), run.info.run_id) for run in found]), said]

    def compare(self, chosen: list[str]) -> str:
        """Settings that differ, curves and metrics of the trainings that are chosen."""
        by_id = {run.info.run_id: run for run in self._runs()}
        runs = [by_id[one] for one in chosen if one in by_id]
        if len(runs) < 2:
            return view.note("Choose two trainings or more.")
        names = [_name_of(run) for run in runs]
        text = "These are trainings of codecs and of priors: their losses cannot be compared."
        kinds = {(run.info.run_name or "").partition(" ")[0] for run in runs}
        mixed = view.note(text, "warning") if len(kinds) > 1 else ""
        differing = [row for row in _rows([run.data.params for run in runs]) if len(set(row[1:])) > 1]
        same = view.table(("setting", *names), differing) if differing else view.note("All settings are the same.")
        curves = "".join(self._curve(key, title, runs) for key, title in CURVES.items())
        metrics = [row for row in _rows([run.data.metrics for run in runs]) if not row[0].startswith(LEFT_OUT)]
        measured = view.table(("metric", *names), metrics)
        return f"{mixed}<h3>Settings that differ</h3>{same}{curves}<h3>Metrics</h3>{measured}"

    def open_mlflow(self) -> str:
        """Start MLflow's page, unless it runs."""
        if self._server is None or self._server[0].poll() is not None:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            command, environment = page_command(self._root, port), {**os.environ, **ENVIRONMENT}
            self._server = subprocess.Popen(command, env=environment, start_new_session=True, **quiet), port
            atexit.register(end_group, self._server[0])
        address = f"http://127.0.0.1:{self._server[1]}"
        text = f'<a href="{address}" target="_blank" rel="noopener">{address}</a>'
        return f"<p>MLflow answers at {text} in a few seconds, on this computer alone, until this page is closed.</p>"

    def _runs(self) -> list[Any]:
        database = database_of(tracking_uri(self._root))
        if database is not None and not database.exists():
            return []
        client = client_of(tracking_uri(self._root))
        experiment = client.get_experiment_by_name(EXPERIMENT)
        return [] if experiment is None else list(client.search_runs([experiment.experiment_id], max_results=MOST_RUNS))

    def _curve(self, key: str, title: str, runs: list[Any]) -> str:
        """A chart of a metric of the trainings that have it."""
        client, lines = client_of(tracking_uri(self._root)), {}
        for number, run in enumerate(runs):
            if key in run.data.metrics:
                history = client.get_metric_history(run.info.run_id, key)
                lines[f"{number + 1}: {_name_of(run)}"] = [(one.step + 1, one.value) for one in history]
        return view.line_chart(title, lines, "epoch")


def _name_of(run: Any) -> str:
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.info.start_time / 1000))
    return f"{run.info.run_name}, {began}, {run.info.status.lower()}"


def _rows(columns: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A row for each key of any column."""
    shown = [{key: f"{one:.4g}" if isinstance(one, float) else str(one) for key, one in row.items()} for row in columns]
    return [(key, *(row.get(key, "–") for row in shown)) for key in sorted({key for row in shown for key in row})]


def end_group(server: "subprocess.Popen[bytes]") -> None:
    """End a process with those that it started."""
    if os.name == "nt":
        server.terminate()
    elif server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
