"""Tab Train: recordings, settings, and training of a codec."""

import textwrap
import time
from pathlib import Path
from typing import Any

import gradio as gr

from distill.params import setting
from distill.text import several
from distill.ui import view
from distill.ui.forms import PRIVATE, QUIET, field, flags, optional
from distill.ui.training_tab import TrainingTab
from distill.ui.uploads import Uploads
from distill.ui.workspace import Workspace, preselected


def levels_of(quality: str) -> list[tuple[str, str]]:
    """Choices for the number of levels; the first is the quality's default."""
    by_quality = setting(f"qualities.{quality}.num_quantizers").default
    bounds = setting("vqvae.num_quantizers").bounds
    numbers = map(str, range(int(bounds["ge"]), int(bounds["le"]) + 1))
    return [
        (f"automatic: {by_quality}, by the quality", ""),
        *((number, number) for number in numbers),
    ]


NO_FOLDERS = "All are in one folder, so there are no labels."


class TrainTab(TrainingTab):
    """Recordings, settings, and training of a codec."""

    kind, endpoint = "train", "train"

    def __init__(self, work: Workspace, timer: gr.Timer, page: gr.Blocks) -> None:
        super().__init__(work, timer, page)
        page.load(self.restore, None, [*self._form.values(), self._start], **QUIET)

    def _build_upload(self, corpus: gr.Dropdown, is_open: bool) -> None:
        with gr.Accordion("Add recordings", open=is_open):
            gr.Markdown("Choose or drop sound files or folders. Folders can be labels.")
            folder = gr.Textbox("my-sounds", label="Folder to add them to", max_length=100)
            files = gr.File(file_count="multiple", label="Files", elem_id="files")
            directory = gr.File(file_count="directory", label="A whole folder", elem_id="directory")
            paths, added = gr.JSON(visible=False), gr.HTML()
        for uploads in (files, directory):
            inputs, shown = [folder, uploads, paths], [corpus, added, uploads]
            # Paths of files, which Gradio leaves out; the script in the page's head records them.
            recorded = f"window.places['{uploads.elem_id}'] || []"
            js = f"(folder, files) => [folder, files, {recorded}]"
            uploads.upload(self.add, inputs, shown, js=js, **PRIVATE)

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
            form["rvq_levels"] = self._build_levels(form["quality"])
            form["commitment_weight"] = field("vqvae.commitment_weight", "Commitment weight")
            form["epochs"] = field("vqvae.epochs", "Most epochs")
            form["learning_rate"] = field("vqvae.learning_rate", "Learning rate")
            form["sample_rate"] = field("corpus.sample_rate", "Sample rate, Hz")
            form["seed"] = field("seed", "Seed")
            form["codebook_size"] = field("vqvae.codebook_size", "Codebook size")
        return form

    def _build_levels(self, quality: gr.Dropdown) -> gr.Dropdown:
        help_text, choices = setting("vqvae.num_quantizers").help, levels_of(str(quality.value))
        levels = gr.Dropdown(
            choices, value="", label="RVQ levels", info=help_text, elem_id="levels"
        )
        quality.change(
            lambda chosen: gr.update(choices=levels_of(chosen)), quality, levels, **QUIET
        )
        return levels

    def labelled(self, name: str | None) -> bool:
        """Default of the checkbox for labels: on if the recordings are in several folders."""
        return bool(self._work.labels(name))

    def add(self, folder: str, uploads: list[str], paths: list[str] | None) -> list[Any]:
        """Add uploaded recordings to the folder with this name; `paths` are their paths in the browser."""
        files = [Path(upload) for upload in uploads]
        names = paths if paths and len(paths) == len(files) else [file.name for file in files]
        target = self._work.recordings_to(folder)
        target.add(list(zip(files, names, strict=True)))
        for file in files:  # they are copied; the next upload starts with an empty list
            file.unlink(missing_ok=True)
        corpus, corpora = self._work.relative(target.folder), self._work.corpora()
        chosen = gr.update(choices=corpora, value=corpus if corpus in corpora else None)
        return [chosen, self._report(target, corpus), None]

    def _report(self, target: Uploads, corpus: str) -> str:
        """Notes on added recordings, their labels, and the first of the files that were left out."""
        labels = textwrap.shorten(", ".join(self._work.labels(corpus)), 200, placeholder=" …")
        notes = [
            f"{several(target.count, 'recording')} added to {corpus}",
            f"Folders are labels, unless you decline: {labels}" if labels else NO_FOLDERS,
        ]
        listed = target.refused[:20]
        if more := len(target.refused) - len(listed):
            listed.append(f"and {more} more files were left out")
        warnings = [view.note(sentence, "warning") for sentence in listed]
        return "".join([*map(view.note, notes), *warnings])

    def _begin(self, form: dict[str, Any]) -> None:
        work = self._work
        folder = work.corpus(form["corpus"] or "")
        form["name"] = work.new_model(form["name"] or time.strftime("model-%Y%m%d-%H%M%S")).stem
        settings = {**form, "corpus": None, "labels": "folder" if form["labels"] else "none"}
        arguments = ["train", work.argument(folder), *flags(**settings, json=True)]
        work.jobs.start("train", f"training {form['name']} on {form['corpus']}", arguments, form)

    def restore(self) -> dict[Any, Any]:
        """Restore the form from the newest training, except the name."""
        before, corpora = self._work.jobs.newest(self.kind).values, self._work.corpora()
        chosen = preselected(corpora, before.get("corpus"))
        values = {"labels": self.labelled(chosen), **before}
        fields = {field: values[name] for name, field in self._form.items() if name in values}
        corpus = gr.update(choices=corpora, value=chosen)
        own = {self._form["corpus"]: corpus, self._form["name"]: ""}
        return {**fields, **own, self._start: gr.update(interactive=True)}
