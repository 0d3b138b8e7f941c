"""Tab Prior: training of a prior for a model, and its memorisation."""

from typing import Any

import gradio as gr

from distill.params import setting
from distill.ui.forms import QUIET, field, flags, optional
from distill.ui.training_tab import TrainingTab
from distill.ui.workspace import Workspace, preselected

OWN = "the codec's own recordings"
# Flags of `train-prior`, and their settings in section `prior`.
SIZES = {
    "epochs": "epochs",
    "hidden_size": "hidden_size",
    "layers": "num_layers",
    "heads": "num_heads",
}


class PriorTab(TrainingTab):
    """Train a prior for a model, and monitor memorization."""

    kind, endpoint = "prior", "train_prior"

    def __init__(self, work: Workspace, timer: gr.Timer, page: gr.Blocks, tab: gr.Tab) -> None:
        super().__init__(work, timer, page)
        model, data = self._form["model"], self._form["data"]
        for event in (tab.select, page.load):
            event(self.refresh, model, [model, data, self._start], **QUIET)

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

    def _begin(self, form: dict[str, Any]) -> None:
        work = self._work
        path = work.model(form["model"])
        settings = {key: form[key] for key in (*SIZES, "architecture", "labels", "replace")}
        if form["copy"]:
            settings["output"] = work.argument(work.new_model(form["copy"]))
        if form["data"] != OWN:
            settings["data"] = work.argument(work.corpus(form["data"]))
        arguments = ["train-prior", work.argument(path), *flags(**settings, json=True)]
        work.jobs.start("prior", f"training a prior of {path.stem}", arguments, form)

    def refresh(self, now: str | None) -> list[Any]:
        """Refresh the lists of models and recordings."""
        names = self._work.names()
        models = gr.update(choices=names, value=preselected(names, now))
        return [
            models,
            gr.update(choices=[OWN, *self._work.corpora()]),
            gr.update(interactive=True),
        ]
