"""The tab Prior: give a model a prior, and watch whether it memorises."""

from typing import Any

import gradio as gr

from distill.params import get_adaptive_prior_config
from distill.ui import view
from distill.ui.desk import QUIET, Desk, field, flags, handled, steer
from distill.ui.jobs import Job

OWN = "the codec's own recordings"
INTO, COPY = "into the model", "into a copy"
# Flags of `train-prior` and their settings.
SIZES = {"epochs": "epochs", "hidden_size": "hidden_size", "layers": "num_layers", "heads": "num_heads"}


class PriorTab:
    """The form on the left, the newest training of a prior on the right."""

    def __init__(self, desk: Desk, timer: gr.Timer, page: gr.Blocks, tab: gr.Tab) -> None:
        self._desk = desk
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                self._form = self._build_form()
                with gr.Row():
                    self._start = gr.Button("Start", variant="primary", elem_id="prior-start")
                    cancel = gr.Button("Cancel", elem_id="prior-cancel")
                    stop = gr.Button("Stop and use best checkpoint", elem_id="prior-stop")
                with gr.Group(visible=False) as self._question:
                    self._asked = gr.HTML(elem_id="prior-question")
                    with gr.Row():
                        self._yes, self._no = gr.Button("Replace it", variant="stop"), gr.Button("Leave it")
            with gr.Column(min_width=320, scale=2):
                alarm = gr.HTML(elem_id="memorisation")
                state, charts = gr.HTML(elem_id="prior-state"), gr.HTML(elem_id="prior-charts")
                resume = gr.Button("Go on with this training", visible=False)
        self._shown = [alarm, state, charts, resume]
        steer(self._newest, desk, self.show, self._shown, (cancel, stop, resume), "private")
        self._listen(timer, page, tab)

    def _build_form(self) -> dict[str, Any]:
        form: dict[str, Any] = {"model": gr.Dropdown(self._desk.names(), label="Model", elem_id="prior-model")}
        form["data"] = gr.Dropdown(
            [OWN, *self._desk.workspace.corpora()], value=OWN, label="Recordings", elem_id="prior-data"
        )
        form |= {name: field(f"prior.{key}", name.replace("_", " ").capitalize()) for name, key in SIZES.items()}
        with gr.Accordion("More settings", open=False):
            form["architecture"] = field("prior.architecture", "Architecture")
        form["where"] = gr.Radio([INTO, COPY], value=INTO, label="Write the prior")
        form["copy"] = gr.Textbox(label="Name of the copy", visible=False, max_length=100)
        return form

    def _listen(self, timer: gr.Timer, page: gr.Blocks, tab: gr.Tab) -> None:
        form, shown, question = list(self._form.values()), self._shown, self._question
        model, data, where, copy = (self._form[key] for key in ("model", "data", "where", "copy"))
        sizes = [self._form[key] for key in SIZES]
        where.change(lambda value: gr.update(visible=value == COPY), where, copy, queue=False, **QUIET)
        model.change(self.fill, model, sizes, queue=False, **QUIET)
        self._start.click(self.begin, form, [question, self._asked, *shown], api_name="train_prior")
        self._yes.click(self.replace, form, [question, *shown], api_visibility="private")
        self._no.click(lambda: gr.update(visible=False), None, question, queue=False, api_visibility="private")
        timer.tick(self.show, None, shown, **QUIET)
        tab.select(self.restored, model, [model, data, *sizes], **QUIET)
        page.load(self.restored, model, [model, data, *sizes], **QUIET)
        page.load(self.show, None, shown, **QUIET)

    def _newest(self) -> Job | None:
        """The newest training of a prior, alone or with its codec."""
        job = self._desk.jobs.newest("prior", "train")
        is_codec_alone = job is not None and job.kind == "train" and not job.events("prior")
        return self._desk.jobs.newest("prior") if is_codec_alone else job

    @handled
    def show(self) -> list[Any]:
        """Memorisation, state and charts of the newest training, and whether it can go on here."""
        job = self._newest()
        if job is None:
            text = view.note("No prior was trained here yet. Choose a model and press Start.")
            return ["", text, "", gr.update(visible=False)]
        epochs = job.events("prior", "PriorEpochMetrics")
        is_memorizing = bool(epochs) and epochs[-1].get("is_memorizing")
        alarm = view.note(str(epochs[-1]["memorization_message"]), "alarm") if is_memorizing else ""
        resume = gr.update(visible=job.kind == "prior" and job.is_resumable)
        return [alarm, view.progress(job, ""), view.prior_curves(job.events("prior")), resume]

    @handled
    def begin(self, *values: Any) -> list[Any]:
        """Start a training with the values of the form, or ask whether it may replace a prior."""
        given = dict(zip(self._form, values, strict=True))
        self._desk.jobs.check_idle()
        if given["where"] == INTO and self._desk.known(given["model"]).get("can_generate"):
            text = f"{given['model']} has a prior. Replace it?"
            return [gr.update(visible=True), view.note(text, "warning"), *self.show()]
        self._train(given, replace=False)
        return [gr.update(visible=False), "", *self.show()]

    @handled
    def replace(self, *values: Any) -> list[Any]:
        """Start a training that replaces a prior."""
        self._train(dict(zip(self._form, values, strict=True)), replace=True)
        return [gr.update(visible=False), *self.show()]

    def _train(self, given: dict[str, Any], replace: bool) -> None:
        desk = self._desk
        path = desk.workspace.model(given["model"] or "")
        output = desk.path(desk.workspace.new_model(given["copy"] or "")) if given["where"] == COPY else None
        data = None if given["data"] == OWN else desk.path(desk.workspace.corpus(given["data"]))
        sizes = {name: given[name] for name in SIZES}
        more = flags(data=data, architecture=given["architecture"], **sizes, output=output, replace=replace)
        desk.jobs.start("prior", f"training a prior of {path.stem}", ["train-prior", desk.path(path), *more], given)

    @handled
    def fill(self, name: str | None) -> list[str]:
        """Sizes by the number of recordings of the codec."""
        config = get_adaptive_prior_config(int(self._desk.known(name).get("recordings") or 1))
        return [str(getattr(config, key)) for key in SIZES.values()]

    @handled
    def restored(self, now: str | None) -> list[Any]:
        """The lists of models and of recordings, and sizes for the model that is chosen."""
        chosen = self._desk.preselected(now, "prior")
        folders = gr.update(choices=[OWN, *self._desk.workspace.corpora()])
        return [gr.update(choices=self._desk.names(), value=chosen), folders, *self.fill(chosen)]
