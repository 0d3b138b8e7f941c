"""The tab Prior: give a model a prior, and watch whether it memorises."""

from typing import Any

import gradio as gr

from distill.params import get_adaptive_prior_config
from distill.prior.architectures import ARCHITECTURES, DEFAULT
from distill.ui import view
from distill.ui.handlers import Desk, flags, handled, optional, relative
from distill.ui.jobs import Job
from distill.ui.train_tab import stop_and_use_best

OWN = "the codec's own recordings"
INTO, COPY = "into the model", "into a copy"
FIELDS = ("model", "data", "architecture", "epochs", "hidden_size", "layers", "heads", "where", "copy")


def build(desk: Desk, timer: gr.Timer, page: gr.Blocks, tab: gr.Tab) -> None:
    """Build the tab."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            model = gr.Dropdown(desk.names(), label="Model", elem_id="prior-model")
            data = gr.Dropdown([OWN, *desk.workspace.corpora()], value=OWN, label="Recordings")
            epochs = optional("Epochs", "by the number of recordings")
            hidden_size = optional("Hidden size", "by the number of recordings")
            layers = optional("Layers", "by the number of recordings")
            heads = optional("Heads", "by the number of recordings")
            with gr.Accordion("More settings", open=False):
                architecture = gr.Dropdown(list(ARCHITECTURES), value=DEFAULT, label="Architecture")
            where = gr.Radio([INTO, COPY], value=INTO, label="Write the prior")
            copy = gr.Textbox(label="Name of the copy", visible=False, max_length=100)
            with gr.Row():
                start = gr.Button("Start", variant="primary", elem_id="prior-start")
                cancel = gr.Button("Cancel", elem_id="prior-cancel")
            with gr.Group(visible=False) as question:
                asked = gr.HTML(elem_id="prior-question")
                with gr.Row():
                    yes, no = gr.Button("Replace it", variant="stop"), gr.Button("Leave it")
        with gr.Column(min_width=320, scale=2):
            alarm = gr.HTML(elem_id="memorisation")
            stop = gr.Button("Stop and use best checkpoint", elem_id="prior-stop")
            state, charts = gr.HTML(elem_id="prior-state"), gr.HTML(elem_id="prior-charts")
            resume = gr.Button("Go on with this training", visible=False)

    form = [model, data, architecture, epochs, hidden_size, layers, heads, where, copy]
    shown = [alarm, state, charts, resume]
    sizes = [epochs, hidden_size, layers, heads]

    @handled
    def show() -> list[Any]:
        job = desk.jobs.newest("prior", "train")
        if job is not None and job.kind == "train" and not job.events("prior"):
            job = desk.jobs.newest("prior")
        resumable = job is not None and job.kind == "prior" and job.state in ("interrupted", "gone")
        return [*_live(job), gr.update(visible=resumable)]

    @handled
    def begin(*values: Any) -> list[Any]:
        given = dict(zip(FIELDS, values, strict=True))
        desk.jobs.check_idle()
        if given["where"] == INTO and desk.known(given["model"]).get("can_generate"):
            text = f"{given['model']} has a prior. Replace it?"
            return [gr.update(visible=True), view.note(text, "warning"), *show()]
        _start(desk, given, replace=False)
        return [gr.update(visible=False), "", *show()]

    @handled
    def replace_it(*values: Any) -> list[Any]:
        _start(desk, dict(zip(FIELDS, values, strict=True)), replace=True)
        return [gr.update(visible=False), *show()]

    @handled
    def cancel_it() -> list[Any]:
        running = desk.jobs.training()
        if running is not None:
            running.cancel()
        return show()

    @handled
    def stop_it() -> list[Any]:
        running = desk.jobs.training()
        if running is None:
            raise gr.Error("expected a training at work, found none", print_exception=False)
        stop_and_use_best(desk, running)
        return show()

    @handled
    def go_on() -> list[Any]:
        job = desk.jobs.newest("prior")
        if job is not None:
            desk.jobs.resume(job)
        return show()

    @handled
    def fill(name: str | None) -> list[Any]:
        """Defaults by the number of recordings of the codec."""
        recordings = desk.known(name).get("recordings")
        config = get_adaptive_prior_config(int(recordings or 1))
        return [str(one) for one in (config.epochs, config.hidden_size, config.num_layers, config.num_heads)]

    @handled
    def restored(now: str | None) -> list[Any]:
        chosen = desk.preselected(now, "prior")
        folders = gr.update(choices=[OWN, *desk.workspace.corpora()])
        return [gr.update(choices=desk.names(), value=chosen), folders, *fill(chosen)]

    where.change(
        lambda value: gr.update(visible=value == COPY),
        where,
        copy,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    model.change(fill, model, sizes, queue=False, show_progress="hidden", api_visibility="private")
    start.click(begin, form, [question, asked, *shown], api_name="train_prior")
    yes.click(replace_it, form, [question, *shown], api_visibility="private")
    no.click(lambda: gr.update(visible=False), None, question, queue=False, api_visibility="private")
    cancel.click(cancel_it, None, shown, api_visibility="private")
    stop.click(stop_it, None, shown, api_visibility="private")
    resume.click(go_on, None, shown, api_visibility="private")
    timer.tick(show, None, shown, show_progress="hidden", api_visibility="private")
    tab.select(restored, model, [model, data, *sizes], show_progress="hidden", api_visibility="private")
    page.load(restored, model, [model, data, *sizes], show_progress="hidden", api_visibility="private")
    page.load(show, None, shown, show_progress="hidden", api_visibility="private")


def _start(desk: Desk, given: dict[str, Any], replace: bool) -> None:
    path = desk.workspace.model(given["model"] or "")
    output = desk.workspace.new_model(given["copy"] or "") if given["where"] == COPY else None
    data = None if given["data"] == OWN else desk.workspace.corpus(given["data"])
    arguments = ["train-prior", relative(path, desk.workspace.root)]
    arguments += flags(
        data=None if data is None else relative(data, desk.workspace.root),
        architecture=given["architecture"],
        epochs=given["epochs"],
        hidden_size=given["hidden_size"],
        layers=given["layers"],
        heads=given["heads"],
        output=None if output is None else relative(output, desk.workspace.root),
        replace=replace,
    )
    desk.jobs.start("prior", f"training a prior of {path.stem}", arguments, given)


def _live(job: Job | None) -> list[str]:
    """Memorisation, state and charts of a training."""
    if job is None:
        return ["", view.note("No prior was trained here yet. Choose a model and press Start."), ""]
    metrics, epochs = job.events("prior"), job.events("prior", "PriorEpochMetrics")
    alarm = ""
    if epochs and epochs[-1].get("is_memorizing"):
        alarm = view.note(str(epochs[-1].get("memorization_message")), "alarm")
    return [alarm, view.progress(job, ""), view.prior_curves(metrics)]
