"""The tab Train: recordings, settings, and the training at work."""

import time
from pathlib import Path
from typing import Any

import gradio as gr

from distill.audio.read import SUPPORTED_SUFFIXES
from distill.params import default_params
from distill.ui import view
from distill.ui.desk import QUIET, Desk, field, flags, handled, steer
from distill.ui.jobs import Job

# The paths of the files in the folder that was chosen, which Gradio leaves out, noted by the script in the page's head.
WITH_PLACES = "(folder, files, places) => [folder, files, window.chosenFiles || []]"


class TrainTab:
    """The form on the left, the newest training on the right."""

    def __init__(self, desk: Desk, timer: gr.Timer, page: gr.Blocks) -> None:
        self._desk = desk
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                corpora = desk.workspace.corpora()
                corpus = gr.Dropdown(corpora, label="Recordings", info="a folder of this page", elem_id="corpus")
                self._build_upload(corpus)
                self._form = {"corpus": corpus, **self._build_form()}
                with gr.Row():
                    # Off until the form is filled, which overwrites what was typed before.
                    self._start = gr.Button("Start", variant="primary", elem_id="train-start", interactive=False)
                    cancel = gr.Button("Cancel", elem_id="train-cancel")
                    stop = gr.Button("Stop and use best checkpoint", elem_id="train-stop")
            with gr.Column(min_width=320, scale=2):
                state = gr.HTML(elem_id="train-state")
                resume = gr.Button("Go on with this training", visible=False)
                found, codebooks = gr.HTML(), gr.HTML(elem_id="train-health")
                charts, previews = gr.HTML(elem_id="train-charts"), gr.HTML(elem_id="train-previews")
        self._shown = [state, found, codebooks, charts, previews, resume]
        steer(self._newest, desk, self.show, self._shown, (cancel, stop, resume), "public")
        self._listen(timer, page)

    def _build_upload(self, corpus: gr.Dropdown) -> None:
        with gr.Accordion("Add recordings", open=not self._desk.workspace.corpora()):
            gr.Markdown("Sound files, or a folder. Folders within it can be labels.")
            folder = gr.Textbox("my-sounds", label="Folder to add them to", max_length=100)
            files = gr.File(file_count="multiple", label="Files", elem_id="files")
            directory = gr.File(file_count="directory", label="A whole folder", elem_id="directory")
            places, added = gr.JSON(visible=False), gr.HTML()
        for uploads, js in ((files, None), (directory, WITH_PLACES)):
            uploads.upload(
                self.add, [folder, uploads, places], [corpus, added, uploads], js=js, api_visibility="private"
            )

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

    def _listen(self, timer: gr.Timer, page: gr.Blocks) -> None:
        form, shown = list(self._form.values()), self._shown
        corpus, name, tier = (self._form[key] for key in ("corpus", "name", "tier"))
        for changed in (corpus, tier):
            changed.change(self.codebook, [corpus, tier], self._size, queue=False, **QUIET)
        started = self._start.click(self.begin, form, shown, api_name="train")
        started.success(_new_name, None, name, api_visibility="private")
        timer.tick(self.show, None, shown, **QUIET)
        page.load(self.restored, None, [*form, self._size, self._start], **QUIET)
        page.load(self.show, None, shown, **QUIET)

    def _newest(self) -> Job | None:
        return self._desk.jobs.newest("train")

    @handled
    def show(self) -> list[Any]:
        """State, recordings, codebooks, charts and previews of the newest training, and whether it can go on."""
        job = self._newest()
        if job is None:
            text = view.note("No training yet. Choose recordings and press Start.")
            return [text, "", "", "", "", gr.update(visible=False)]
        codec = job.events("codec")
        warnings = "".join(view.note(text, "warning") for text in job.warnings)
        charts = view.codec_losses(codec) + view.prior_curves(job.events("prior"))
        health = view.health(codec) + warnings
        resume = gr.update(visible=job.is_resumable)
        return [view.progress(job, ""), view.ingest(job.recordings), health, charts, _previews(job), resume]

    @handled
    def add(self, folder: str, uploads: list[str] | None, places: list[str] | None) -> list[Any]:
        """Add uploaded recordings to the folder of this name."""
        if not uploads:
            return [gr.skip(), "", gr.skip()]
        files = [Path(one) for one in uploads]
        names = [file.name for file in files]
        if places and len(places) == len(files):  # but for the folder that was chosen itself
            names = ["/".join([*place.split("/")[1:-1], name]) for place, name in zip(places, names, strict=True)]
        done = self._desk.workspace.add_recordings(folder, zip(files, names, strict=True))
        text = view.note(f"{done.count} recordings added to {done.folder}")
        refused = "".join(view.note(sentence, "warning") for sentence in done.refused[:20])
        for file in files:  # the folder has them now, and the next ones are added to an empty list
            file.unlink(missing_ok=True)
        corpora = self._desk.workspace.corpora()
        chosen = next((one for one in corpora if f"{one}/".startswith(f"{done.folder}/")), None)
        return [gr.update(choices=corpora, value=chosen), text + refused, None]

    @handled
    def begin(self, *values: Any) -> list[Any]:
        """Start a training with the values of the form."""
        given = dict(zip(self._form, values, strict=True))
        folder = self._desk.workspace.corpus(given["corpus"] or "")
        path = self._desk.workspace.new_model(given["name"] or "")
        settings = {key: value for key, value in given.items() if key != "corpus"}
        arguments = ["train", self._desk.path(folder), *flags(**{**settings, "name": path.stem})]
        self._desk.jobs.start("train", f"training {path.stem} on {given['corpus']}", arguments, given)
        return self.show()

    @handled
    def restored(self) -> list[Any]:
        """The form as it was filled in for the newest training, with a new name."""
        job, corpora = self._newest(), self._desk.workspace.corpora()
        values = {} if job is None else job.values
        chosen = values.get("corpus") if values.get("corpus") in corpora else next(iter(corpora), None)
        rest = {key: _kept(one, values.get(key)) for key, one in list(self._form.items())[2:]}
        size = self.codebook(chosen, rest["tier"])
        corpus, start = gr.update(choices=corpora, value=chosen), gr.update(interactive=True)
        return [corpus, _new_name(), *rest.values(), size, start]

    def codebook(self, corpus: str | None, tier: str) -> str:
        """The codebook size that the preset gives."""
        folder = self._desk.workspace.root / corpus if corpus in self._desk.workspace.corpora() else None
        files = folder.rglob("*") if folder is not None else ()
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


def _previews(job: Job) -> str:
    rows = []
    for original, decoded in job.previews:
        players = view.player(original, "original") + view.player(decoded, "reconstruction")
        rows.append(f'<div class="players">{players}</div>')
    return f"<h3>Held-out recordings, before and after the codec</h3>{''.join(rows)}" if rows else ""


def _new_name() -> str:
    return time.strftime("model-%Y%m%d-%H%M%S")
