"""Tab Generate: forms of all verbs, and the sounds that they make."""

import itertools
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from distill.errors import ParamsError
from distill.ui import view
from distill.ui.forms import PRIVATE, QUIET, command_of, flags, sound
from distill.ui.generate_form import AT_EACH, COUNT, GenerateForm, build_fields, empty_rows
from distill.ui.results import NEAREST, Results
from distill.ui.verb_form import VerbForm, build_kits, build_verb
from distill.ui.worker import STDOUT
from distill.ui.workspace import Workspace, preselected
from distill.verbs import VERBS
from distill.verbs.verb import Verb

NOTHING = "Nothing was made yet. Without a model, give one recording as the sound to vary: its variations take seconds."
# One listener for all cards: buttons in the page's HTML, which say what to do with which sound.
CLICKS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-do]');
  const {do: action, sound} = button?.dataset || {};
  if (action && (action !== 'discard' || confirm(`Discard ${sound}? It cannot be brought back.`))) {
    trigger('click', {action, sound});
  }
});
"""


class GenerateTab:
    """Forms on the left, results on the right."""

    def __init__(self, work: Workspace, timer: gr.Timer, page: gr.Blocks, tab: gr.Tab) -> None:
        self._work, self._results = work, Results(work)
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                self._generate = self._build_generate()
                self._vary, *others = self._build_verbs()
                with gr.Accordion("Kits and instruments", open=False):
                    kits = list(build_kits(self._generate.fields))
            with gr.Column(min_width=320, scale=2, elem_classes="results"):
                self._build_results()
        # The cards are no input: Gradio keeps every version of an input component until the page is closed.
        self._seen = gr.State("")  # HTML that the page shows now
        self._shown = [
            self._state,
            self._cancel,
            self._keyboard,
            self._download,
            self._cards,
            self._seen,
        ]
        self._listen_to_forms(page, [self._generate, self._vary, *others, *kits])
        self._listen_to_models(page, tab)
        self._listen_to_results(timer)

    def _build_generate(self) -> GenerateForm:
        """Build the fields of `generate`, the buttons below, and the state of what they start."""
        self.model = gr.Dropdown(self._work.names(True), label="Model", elem_id="generate-model")
        fields = build_fields()
        with gr.Row():
            button = gr.Button(
                "Generate", variant="primary", elem_id="generate-start", interactive=False
            )
            self._cancel = gr.Button("Cancel", elem_id="generate-cancel", visible=False)
        self._state = gr.HTML(elem_id="generate-state", elem_classes="beside")
        verb = VERBS["generate"]
        return GenerateForm(verb, verb.name, "", button, fields)

    def _build_verbs(self) -> Iterator[VerbForm]:
        """Build the forms of the verbs that change a recording, first `vary`."""
        shared = self._generate.fields
        with gr.Accordion("Variations of a recording", open=not self._work.names(True)):
            self._source = sound("A sound to vary", "source")
            self._alone = gr.Checkbox(
                label="Of this sound alone, without a model",
                info="at once: nothing is trained",
                elem_id="alone",
            )
            yield build_verb(VERBS["vary"], self._source, shared)
        for verb in VERBS.values():
            if verb.name not in ("generate", "vary", "kit"):
                with gr.Accordion(f"{verb.name.capitalize()} this recording", open=False):
                    yield build_verb(verb, self._source, shared)

    def _build_results(self) -> None:
        self._chosen = gr.Dropdown([], label="Made", info="the newest first", elem_id="made")
        self._keyboard = gr.HTML(elem_id="keyboard")
        self._download = gr.Button("Download all as zip", visible=False, elem_id="download")
        self._archive = gr.DownloadButton(visible="hidden", elem_id="archive")
        self._cards = gr.HTML(elem_id="cards", js_on_load=CLICKS)

    def _listen_to_forms(self, page: gr.Blocks, forms: Sequence[VerbForm]) -> None:
        shown = [self._chosen, *self._shown]
        # No click is ignored because an earlier one is still answered.
        always: dict[str, Any] = {"trigger_mode": "multiple", **QUIET}
        for form in forms:
            fields = itertools.chain(*form.fields.values())
            inputs = {self.model, self._alone, self._source, *fields}
            form.button.click(
                partial(self.start, form), inputs, shown, api_name=f"{form.name}_form", **always
            )
        (note,), (count,) = self._generate.fields["note"], self._generate.fields["n"]
        note.change(self.counted, [note, count], count, queue=False, **QUIET)
        # Off until what was made before is shown: what comes after a click is played.
        shows = page.load(lambda: self.show(self._results.newest()), None, shown, **QUIET)
        start = self._generate.button
        shows.then(lambda: gr.update(interactive=True), None, start, **QUIET)

    def _listen_to_models(self, page: gr.Blocks, tab: gr.Tab) -> None:
        model, fields = self.model, self._generate.fields
        (label,), (grid,) = fields["label"], fields["pattern"]
        model.change(
            lambda name: {**self.labels(name), "value": None}, model, label, queue=False, **QUIET
        )
        model.change(self.steps, model, grid, queue=False, **QUIET)
        page.load(
            lambda: self.steps(preselected(self._work.names(True), None)), None, grid, **QUIET
        )
        tab.select(self.models, model, [model, label], **QUIET)
        page.load(self.models, model, [model, label], **QUIET).then(self.warm, model, None, **QUIET)
        model.change(self.warm, model, None, **QUIET)

    def _listen_to_results(self, timer: gr.Timer) -> None:
        chosen, shown = self._chosen, [self._chosen, *self._shown]
        self._cancel.click(self.cancel, chosen, shown, **QUIET)
        names = ("n", "strength", "transpose", "width")
        varied = itertools.chain(*(self._vary.fields[name] for name in names))
        self._cards.click(self.act, [chosen, *varied], shown, **QUIET)
        zipped = self._download.click(self.zip, chosen, self._archive, **PRIVATE)
        # When the archive is made, the hidden button that has it is pressed.
        press = "() => setTimeout(() => document.querySelector('#archive').click(), 300)"
        zipped.success(None, None, None, js=press, **PRIVATE)
        chosen.input(self.show, chosen, shown, **QUIET)
        timer.tick(self.tick, [chosen, self._seen], self._shown, **QUIET)

    def show(self, name: str | None) -> dict[Any, Any]:
        """List the jobs with results, and show the state and the sounds of one job."""
        choices = [(f"{job.title}, {job.id[:15]}", job.id) for job in self._results.jobs(name)]
        return {self._chosen: gr.update(choices=choices, value=name), **self.tick(name, None)}

    def tick(self, name: str | None, now: str | None) -> dict[Any, Any]:
        """Show the state of a job, and the sounds that it made unless they are shown `now`."""
        job = self._work.jobs.get(name)
        keyboard, cards = self._results.html(self._results.job(name))
        shown = {
            self._state: view.progress(job, NOTHING),
            self._cancel: gr.update(visible=job.is_at_work),
            self._seen: keyboard + cards,
        }
        if shown[self._seen] != now:
            shown |= {self._keyboard: keyboard, self._cards: cards}
            shown[self._download] = gr.update(visible=bool(cards))
        return shown

    def warm(self, name: str | None) -> None:
        """Load a model beforehand, so that a click is answered at once."""
        if name is not None:
            model = self._work.argument(self._work.model(name))
            self._work.jobs.warm(["generate", model, "-n", "1", "--seed", "0"])

    def counted(self, notes: str, count: float) -> Any:
        """The field for the number of sounds: with notes one at each, which can be changed."""
        label, value = (AT_EACH, 1) if notes.strip() else (COUNT, max(count, 4))
        return gr.update(label=label, value=value)

    def start(self, form: VerbForm, values: Mapping[Any, Any]) -> Iterator[dict[Any, Any]]:
        """Start the command of a form with values by component."""
        verb, settings = form.verb, form.settings(values)
        title, recordings = (
            form.title_of(settings),
            {name: settings.pop(name) for name in verb.arguments},
        )
        model = values[self.model]
        if verb.takes_recording_alone and (values[self._alone] or model is None):
            yield from self._start_alone(verb, title, values[self._source], settings)
            return
        for name, paths in recordings.items():
            if paths == [None]:
                raise ParamsError(
                    f"{verb.name}: expected {verb.arguments[name].help}, found none; choose a file or record one"
                )
        self._work.model(model)  # without one nothing is generated
        paths = list(filter(None, itertools.chain(*recordings.values())))
        title = " ".join([title, *(Path(path).name for path in paths[:1])])
        yield from self._begin(verb, title, model, paths, settings)

    def _start_alone(
        self, verb: Verb, title: str, source: str | None, settings: dict[str, Any]
    ) -> Iterator[dict[Any, Any]]:
        """Start the command of a verb with a recording in place of a model."""
        if source is None:
            raise ParamsError(
                f"{title}: expected a model or a sound to vary, found neither; choose a sound or record one"
            )
        for name in ("label", "labels", "guidance"):
            settings.pop(name, None)
        yield from self._begin(verb, f"{title} {Path(source).name}", None, [source], settings)

    def _begin(
        self,
        verb: Verb,
        title: str,
        name: str | None,
        recordings: Sequence[str],
        settings: Mapping[str, Any],
    ) -> Iterator[dict[Any, Any]]:
        """Start a command with a model, or without one, and show its sounds as they come."""
        paths = [*recordings]
        if name is not None:
            model = self._work.model(name)
            paths.insert(0, self._work.argument(model))
            title = f"{title} by {model.stem}"
        arguments = [*command_of(verb, paths, settings), *flags(pictures=bool(verb.out))]
        job = self._work.jobs.start(verb.name, title, arguments, {"model": name})
        yield self.show(job.id)
        # For some seconds this answer shows what the command makes; from then on the timer does.
        seen, until = None, time.monotonic() + 5.0
        while job.state == "running" and not job.read(STDOUT) and time.monotonic() < until:
            time.sleep(0.1)
            shown = self.tick(job.id, seen)
            seen = shown[self._seen]
            yield shown
        yield self.show(job.id)

    def act(
        self,
        name: str | None,
        count: float,
        strength: str,
        transpose: str,
        width: float,
        event: gr.EventData,
    ) -> Iterator[dict[Any, Any]]:
        """Discard or vary a sound, as a button on its card says."""
        job = self._results.job(name)
        path = self._results.folder(job) / Path(str(event.sound)).name
        if path.suffix != ".wav" or not path.is_file():
            raise ParamsError(f"{path.name}: expected a sound of this page, found none")
        if event.action == "vary":
            settings = {"n": count, "strength": strength, "transpose": transpose, "width": width}
            title, model = f"vary {path.name}", job.values["model"]
            yield from self._begin(VERBS["vary"], title, model, [str(path)], settings)
            return
        for file in (path, path.with_suffix(".png"), path.with_stem(f"{path.stem}{NEAREST}")):
            file.unlink(missing_ok=True)
        yield self.show(name)

    def zip(self, name: str | None) -> str:
        """An archive of all sounds that are shown."""
        job = self._results.job(name)
        folder = self._results.folder(job)
        if not folder.is_dir():
            raise ParamsError("download: expected sounds, found none; wait until they are made")
        for path in folder.rglob("*"):
            self._work.check_inside(path)
        return shutil.make_archive(str(self._work.uploads / job.id), "zip", folder)

    def cancel(self, name: str | None) -> dict[Any, Any]:
        """Cancel the job that is shown."""
        self._work.jobs.get(name).cancel()
        return self.show(name)

    def labels(self, name: str | None) -> Any:
        """The field of labels, shown if the model has labels."""
        labels = self._work.labels_of(name)
        return gr.update(choices=labels, visible=bool(labels))

    def steps(self, name: str | None) -> Any:
        """The grid of a pattern, shown if the model has labels."""
        labels = self._work.labels_of(name)
        return gr.update(value=empty_rows(labels) or None, visible=bool(labels))

    def models(self, now: str | None) -> list[Any]:
        """List of models, and the labels of the chosen model."""
        names = self._work.names(True)
        model = preselected(names, now)
        return [gr.update(choices=names, value=model), self.labels(model)]
