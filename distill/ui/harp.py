"""An endpoint for HARP, which lets editors of sound and studio programs call models: https://github.com/TEAMuP-dev/HARP.

HARP asks `controls` what there is to set, uploads a recording, and calls `process`. A call runs a command, as the page
does, and answers with a sound and a label that says how new it is.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from distill.errors import ParamsError
from distill.ui.forms import Page, flags
from distill.ui.generate_tab import rows_of
from distill.ui.jobs import OTHERS
from distill.ui.worker import STDOUT
from distill.ui.workspace import Workspace

MODEL, MAKE, STRENGTH, LABEL, START, END, SEED = (
    *("model", "make", "how much of a take is drawn again", "label"),
    *("begin of the gap, or seconds to add", "end of the gap", "seed, 0 for any"),
)
ANY, FOR_HARP = "any", ", for HARP"
CARD = {
    "name": "Distill",
    "description": "New sounds from a model of your own recordings, with a verdict on how new they are.",
    "author": "",
    "tags": ["generate", "vary", "follow", "extend", "fill"],
}
# Arguments of the command that makes it, of a model, a recording, and values by label.
MAKES: Mapping[str, Callable[[str, str, Mapping[str, Any]], Sequence[str]]] = {
    "a take of the recording": lambda model, audio, of: ["vary", model, audio, *flags(count=1, strength=of[STRENGTH])],
    "a sound that follows it": lambda model, audio, _: ["generate", model, *flags(count=1, follow=audio)],
    "the recording, longer": lambda model, audio, of: ["extend", model, audio, *flags(count=1, after=of[START])],
    "the recording, a gap filled": lambda model, audio, of: (
        ["fill", model, audio, *flags(count=1, **{"from": of[START], "to": of[END]})]
    ),
    "a new sound": lambda model, _, __: ["generate", model, *flags(count=1)],
}
TYPES = {"audio": "audio_track", "slider": "slider", "dropdown": "dropdown", "number": "number_box", "json": "json"}
SHOWN = ("label", "info", "value", "minimum", "maximum", "step", "choices")


class Harp:
    """The endpoint of a working folder."""

    def __init__(self, workspace: Workspace) -> None:
        self._work = workspace

    def page(self) -> Page:
        """A page with the endpoints `controls`, `process` and `cancel`, and a field for each control."""
        page: Page
        with Page(title="Distill for HARP", analytics_enabled=False, delete_cache=(3600, 24 * 3600)) as page:
            inputs = [
                gr.Audio(type="filepath", label="recording"),
                gr.Dropdown(label=MODEL, allow_custom_value=True),
                gr.Dropdown(list(MAKES), value=next(iter(MAKES)), label=MAKE),
                gr.Slider(0, 1, 0.3, step=0.05, label=STRENGTH),
                gr.Dropdown([ANY], value=ANY, label=LABEL, allow_custom_value=True),
                gr.Number(0.5, minimum=0, maximum=60, step=0.01, label=START),
                gr.Number(1.0, minimum=0, maximum=60, step=0.01, label=END),
                gr.Number(0, minimum=0, maximum=2**31, step=1, label=SEED),
            ]
            outputs = [gr.Audio(type="filepath", label="sound"), gr.JSON(label="how new")]
            gr.Button("controls").click(lambda: self.controls(inputs, outputs), None, gr.JSON(), api_name="controls")
            gr.Button("process").click(self.process, inputs, outputs, api_name="process")
            gr.Button("cancel").click(self.cancel, api_name="cancel")
        return page

    def controls(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> dict[str, Any]:
        """What HARP shows: a card, and these components in its words, with the models and labels that there are now."""
        names = self._work.names(can_generate=True)
        labels = sorted({label for name in names for label in self._work.known(name)["labels"]})
        now = {MODEL: (names, next(iter(names), "")), LABEL: ([ANY, *labels], ANY)}
        shown = [control(component) for component in inputs]
        for about in shown:
            if about["label"] in now:
                choices, about["value"] = now[about["label"]]
                about["choices"] = [(choice, choice) for choice in choices]
        return {"card": CARD, "inputs": shown, "outputs": [control(component) for component in outputs]}

    async def process(self, recording: str | None, model: str, make: str, *values: Any) -> tuple[str, dict[str, Any]]:
        """The path of the sound that a command makes, and labels for it. Raises gr.Error with the sentence of a refusal."""
        of = dict(zip((STRENGTH, LABEL, START, END, SEED), values, strict=True))
        try:
            for label in (STRENGTH, START, END, SEED):
                if not isinstance(of[label], int | float) or not math.isfinite(of[label]):
                    raise ParamsError(f"{label}: expected a number, found none; enter one")
            if recording is None and make != "a new sound":
                raise ParamsError(f"{make}: expected a recording, found none; choose one, or make a new sound")
            path = self._work.argument(self._work.model(str(model)))
            more = flags(seed=int(of[SEED]) or None, label=None if of[LABEL] == ANY else of[LABEL])
            audio = recording and self._work.argument(Path(recording))
            arguments = [*MAKES[make](path, str(audio), of), *more]
            job = self._work.jobs.start(arguments[0], make + FOR_HARP, arguments, {"model": model})
            await job.ended()
        except ParamsError as error:
            raise gr.Error(str(error), print_exception=False) from error
        if job.state != "done":
            raise gr.Error(job.message, print_exception=False)
        row = rows_of(job.read(STDOUT))[0]
        return str(self._work.root / row["file"]), labels_of(row)

    def cancel(self) -> None:
        """End what runs for HARP, whoever asked for it: HARP's calls have no sessions."""
        for job in self._work.jobs.running(*OTHERS):
            if job.title.endswith(FOR_HARP):
                job.cancel()


def control(component: Any) -> dict[str, Any]:
    """A component in HARP's words."""
    about = {name: getattr(component, name) for name in SHOWN if getattr(component, name, None) is not None}
    return {"type": TYPES[component.get_block_name()], "required": False, "info": "", **about}


def labels_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """HARP's list of labels for a sound of a command's answer: how new it is, and beside which recording."""
    verdict, why = row["short"] or "novelty unknown", row["explanation"] or ""
    label = {"label_type": "AudioLabel", "t": 0.0, "duration": 0.0, "label": verdict, "description": why}
    return {"meta": {"_type": "pyharp.LabelList"}, "labels": [label]}
