"""The web API: Gradio endpoints for programs, one for each verb, and those that HARP calls.

`POST call/<verb>` takes one JSON object: the model, and settings by name. HARP (https://github.com/TEAMuP-dev/HARP) lets
audio editors send a recording to a model: it asks `controls` for the controls, uploads a recording, and calls `process`.
A call runs the command of its verb, as the page does.
"""

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from gradio_client.utils import is_file_obj_with_meta

from distill.errors import ParamsError
from distill.generate.settings import fields_of, flag_of
from distill.text import one_line
from distill.ui import view
from distill.ui.forms import Page, command_of
from distill.ui.jobs import OTHERS
from distill.ui.results import rows_of
from distill.ui.workspace import Workspace
from distill.verbs import VERBS
from distill.verbs.verb import Verb

MODEL, MAKE, STRENGTH, LABEL, START, END, SEED = (
    *("model", "make", "how much of a take is drawn again", "label"),
    *("begin of the gap, or seconds to add", "end of the gap", "seed, 0 for any"),
)
ANY = "any"
FOR_PROGRAMS = " for a program"  # ends the titles of jobs
Make = Callable[[str, Mapping[str, Any]], tuple[str, Mapping[str, Any]]]
# The verb and its settings, from a recording and the values of controls by label.
MAKES: Mapping[str, Make] = {
    "a take of the recording": lambda audio, of: (
        "vary",
        {"recording": audio, "n": 1, "strength": of[STRENGTH]},
    ),
    "a sound that follows it": lambda audio, _: ("generate", {"follow": audio, "n": 1}),
    "the recording, longer": lambda audio, of: (
        "extend",
        {"recording": audio, "n": 1, "after": of[START]},
    ),
    "the recording, a gap filled": lambda audio, of: (
        "fill",
        {"recording": audio, "n": 1, "start": of[START], "end": of[END]},
    ),
    "a new sound": lambda _, __: ("generate", {"n": 1}),
}


class Programs:
    """The endpoints of a working folder."""

    def __init__(self, workspace: Workspace) -> None:
        self._work = workspace

    def page(self) -> Page:
        """Build a page with an endpoint for each verb, and `controls`, `process` and `cancel` for HARP."""
        page: Page
        with Page(
            title="Distill for programs", analytics_enabled=False, delete_cache=(3600, 24 * 3600)
        ) as page:
            for verb in VERBS.values():
                gr.api(self._endpoint(verb), api_name=verb.name, api_description=verb.help)  # type: ignore[attr-defined]
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
            gr.Button("controls").click(
                lambda: self.controls(inputs, outputs), None, gr.JSON(), api_name="controls"
            )
            gr.Button("process").click(self.process, inputs, outputs, api_name="process")
            gr.Button("cancel").click(self.cancel, api_name="cancel")
        return page

    def _endpoint(self, verb: Verb) -> Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]:
        async def call(settings: dict[str, Any]) -> dict[str, Any]:
            with plain_sentences():
                return await self.call(verb, settings)

        return call

    async def call(self, verb: Verb, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Run a verb and return what its command prints with `--json`; the file of a sound is an address.

        `settings` have the names of Python's arguments, and `model` names a model, or a recording for verbs that need none.
        Files are uploaded before. Raises ParamsError for settings that are wrong, gr.Error for what the command says.
        """
        known = [
            "model",
            *verb.arguments,
            *(name for name in fields_of(verb.settings) if name != "out"),
        ]
        for name in settings:
            if name not in known:
                raise ParamsError(
                    f"{one_line(name, 60)}: expected one of {', '.join(known)}, found another; leave it out"
                )
        values = {name: self._uploaded(verb, name, value) for name, value in settings.items()}
        made = await self._made(verb, values.pop("model", ""), values)
        for name in verb.arguments:
            made[name] = _names(made[name])
        for row in rows_of(made):
            row["file"] = view.address(self._work.root / row["file"])
        return made

    def _uploaded(self, verb: Verb, name: str, value: Any) -> Any:
        """Return a value, with the paths of uploaded files in place of them. Raises ParamsError for other files."""
        if isinstance(value, list):
            return [self._uploaded(verb, name, own) for own in value]
        fields = verb.settings.model_fields
        paths = {own for own, field in fields.items() if flag_of(own, field).type is Path}
        recordings = {*verb.arguments, *paths}
        not_uploaded = ParamsError(f"{name}: expected an uploaded file, found none; upload one")
        if not is_file_obj_with_meta(value):
            if name in recordings:
                raise not_uploaded
            return value
        if name not in (recordings | {"model"} if verb.takes_recording_alone else recordings):
            raise ParamsError(f"{name}: expected a value, found a file; send a value")
        path = Path(value["path"])
        if not path.resolve().is_relative_to(self._work.uploads):
            raise not_uploaded
        return path

    async def _made(self, verb: Verb, model: Any, values: dict[str, Any]) -> dict[str, Any]:
        """Run the command of a verb with values by setting, and return what it prints as JSON."""
        fields = verb.settings.model_fields
        if isinstance(model, Path):
            paths = [str(model)]
        else:
            paths = [self._work.argument(self._work.model(str(model)))]
            for name in verb.arguments:
                if fields[name].is_required() and name not in values:
                    raise ParamsError(f"{name}: expected a recording, found none; upload one")
        given = [values.pop(name) for name in verb.arguments if name in values]
        for value in given:
            paths += map(str, value if isinstance(value, list) else [value])
        arguments = command_of(verb, paths, values)
        job = self._work.jobs.start(
            verb.name, verb.name + FOR_PROGRAMS, arguments, {"model": str(model)}
        )
        await job.ended()
        if job.state != "done":
            raise gr.Error(job.message.removeprefix("--"), print_exception=False)
        return job.report

    def controls(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> dict[str, Any]:
        """Return what HARP shows: a card, and the components in its words, with the models and labels that there are."""
        names = self._work.names(can_generate=True)
        labels = sorted({label for name in names for label in self._work.known(name)["labels"]})
        now = {MODEL: (names, next(iter(names), "")), LABEL: ([ANY, *labels], ANY)}
        shown = [control(component) for component in inputs]
        for told in shown:
            if told["label"] in now:
                choices, told["value"] = now[told["label"]]
                told["choices"] = [(choice, choice) for choice in choices]
        about = (
            "New sounds from a model of your own recordings, with a verdict on how new they are."
        )
        tags = ["generate", "vary", "follow", "extend", "fill"]
        return {
            "card": {"name": "Distill", "description": about, "author": "", "tags": tags},
            "inputs": shown,
            "outputs": [control(component) for component in outputs],
        }

    async def process(
        self, recording: str | None, model: str, make: str, *values: Any
    ) -> tuple[str, dict[str, Any]]:
        """Return the path of the sound that a verb makes, and HARP's labels for it. Raises gr.Error."""
        of = dict(zip((STRENGTH, LABEL, START, END, SEED), values, strict=True))
        with plain_sentences():
            return await self._process(recording, model, make, of)

    async def _process(
        self, recording: str | None, model: str, make: str, of: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        for label in (STRENGTH, START, END, SEED):
            if not isinstance(of[label], int | float) or not math.isfinite(of[label]):
                raise ParamsError(f"{label}: expected a number, found none; enter one")
        if recording is None and make != "a new sound":
            raise ParamsError(
                f"{make}: expected a recording, found none; choose one, or make a new sound"
            )
        name, settings = MAKES[make](str(recording), of)
        more = {"seed": int(of[SEED]) or None, "label": None if of[LABEL] == ANY else of[LABEL]}
        (row,) = rows_of(await self._made(VERBS[name], model, {**settings, **more}))
        return str(self._work.root / row["file"]), labels_of(row)

    def cancel(self) -> None:
        """Cancel what runs for programs: HARP's calls have no sessions."""
        for job in self._work.jobs.running(*OTHERS):
            if job.title.endswith(FOR_PROGRAMS):
                job.cancel()


@contextmanager
def plain_sentences() -> Iterator[None]:
    """Raise gr.Error with the sentence of a ParamsError as it is: programs show no HTML."""
    try:
        yield
    except ParamsError as error:
        raise gr.Error(str(error), print_exception=False) from error


def _names(paths: Any) -> Any:
    """Return the names of files in place of their paths on this computer."""
    return [_names(path) for path in paths] if isinstance(paths, list) else Path(paths).name


def control(component: Any) -> dict[str, Any]:
    """Return a component in HARP's words."""
    names = ("label", "info", "value", "minimum", "maximum", "step", "choices")
    values = {name: getattr(component, name, None) for name in names}
    known = {name: value for name, value in values.items() if value is not None}
    kind = component.get_block_name()
    kinds = {"audio": "audio_track", "number": "number_box"}
    return {"type": kinds.get(kind, kind), "required": False, "info": "", **known}


def labels_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return HARP's list of labels for a sound of a command's answer: how new it is, and why."""
    verdict, why = row["short"] or "novelty unknown", row["explanation"] or ""
    label = {
        "label_type": "AudioLabel",
        "t": 0.0,
        "duration": 0.0,
        "label": verdict,
        "description": why,
    }
    return {"meta": {"_type": "pyharp.LabelList"}, "labels": [label]}
