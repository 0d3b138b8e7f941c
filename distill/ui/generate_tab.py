"""The tab Generate: new sounds, their verdicts, variations and kits."""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, get_origin

import gradio as gr

from distill.errors import ParamsError
from distill.generate.settings import Guided, SoundSettings, fields_of
from distill.kit.settings import KitSettings
from distill.notes import read_notes
from distill.text import several
from distill.ui import keyboard, view
from distill.ui.forms import PRIVATE, QUIET, command_of, flags, sound, verb_field
from distill.ui.jobs import NO_JOB, OTHERS, Job, read_end
from distill.ui.worker import STDOUT
from distill.ui.workspace import Workspace, preselected
from distill.verbs import VERBS
from distill.verbs.generate import GenerateSettings
from distill.verbs.verb import Verb

MOST_SOUNDS = 32
MIDI = "midi"  # the field of the form for a MIDI file to follow
NEAREST = "_nearest"  # ends the name of a sound's nearest recording
NOTHING = "Nothing was made yet. Without a model, give one recording as the sound to vary: its variations take seconds."
NOVELTY = [("any", ""), ("no copies", "close"), ("new only", "new")]
FOLLOWED = 5.0  # seconds for which the answer to a click shows what its command makes; from then on the timer does
STARTS: dict[str, Any] = {
    "trigger_mode": "multiple",
    **QUIET,
}  # no click is ignored for one that is still answered
ROWS = ("sounds", "takes", "steps")  # of what commands make
COUNT, AT_EACH = "How many sounds", "How many at each note"
USUAL = ("n", "label", "note", "seconds")
FOLLOWING = ("follow", "loose", "track", "program")
PATTERN = ("pattern", "bpm", "bars", "swing", "stems")
OWN_FORMS = ("generate", "vary", "kit")  # verbs whose forms are laid out here
SHARED = {*SoundSettings.model_fields, *Guided.model_fields, "n", "seed", "temperature"} - {
    "delivery"
}
OF_CARDS = ("n", "strength", "transpose", "width")  # settings of the button Variations of a card
KITS: Mapping[str, tuple[Verb, str, dict[str, Any]]] = {
    "kit": (VERBS["kit"], "kit", {}),
    "one_key": (VERBS["kit"], "variations on one key", {"one_key": True}),
    "instrument": (VERBS["kit"], "instrument", {}),
}
STEPS = 16  # of a bar in the grid of a pattern
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
# A box above cards. The page's style sheet puts them in order where it is checked.
BY_LIKENESS = (
    '<label class="by-likeness"><input type="checkbox"> Most like your recordings first</label>'
)
# When the archive is made, the hidden button that has it is pressed.
PRESS = "() => setTimeout(() => document.querySelector('#archive').click(), 300)"


def rows_of(made: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the command's JSON report, a row for each sound."""
    return [row for key in ROWS for row in made.get(key) or []]


class GenerateTab:
    """The form on the left, what was made on the right."""

    def __init__(self, work: Workspace, timer: gr.Timer, page: gr.Blocks, tab: gr.Tab) -> None:
        self._work = work
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                self._form = self._build_form()
                with gr.Row():
                    self._generate = gr.Button(
                        "Generate", variant="primary", elem_id="generate-start", interactive=False
                    )
                    self._cancel = gr.Button("Cancel", elem_id="generate-cancel", visible=False)
                self._state = gr.HTML(elem_id="generate-state", elem_classes="beside")
                self._fields: dict[str, dict[str, Any]] = {}  # by verb and setting
                self._buttons: dict[str, gr.Button] = {}
                self._build_verbs()
                self._build_kits()
            with gr.Column(min_width=320, scale=2, elem_classes="results"):
                self._chosen = gr.Dropdown(
                    [], label="Made", info="the newest first", elem_id="made"
                )
                self._keyboard = gr.HTML(elem_id="keyboard")
                self._download = gr.Button("Download all as zip", visible=False, elem_id="download")
                self._archive = gr.DownloadButton(visible="hidden", elem_id="archive")
                self._cards = gr.HTML(elem_id="cards", js_on_load=CLICKS)
                # HTML that the page shows now. The cards are no input: Gradio keeps every version of an input component
                # until the page is closed.
                self._seen = gr.State("")
        self._shown = [
            self._chosen,
            self._state,
            self._cancel,
            self._keyboard,
            self._download,
            self._cards,
            self._seen,
        ]
        self._listen(timer, page, tab)

    @property
    def model(self) -> gr.Dropdown:
        """The model that sounds are made with."""
        chosen: gr.Dropdown = self._form["model"]
        return chosen

    def _build_form(self) -> dict[str, Any]:
        form: dict[str, Any] = {
            "model": gr.Dropdown(self._work.names(True), label="Model", elem_id="generate-model")
        }
        own: dict[str, Callable[[], Any]] = {
            "n": lambda: gr.Slider(1, MOST_SOUNDS, 4, step=1, label=COUNT, elem_id="count"),
            "temperature": lambda: gr.Slider(
                0.1, 2.0, 1.0, step=0.05, label="Temperature", info="above 1 more random"
            ),
            "label": lambda: gr.Dropdown(
                [], label="Label", info="the kind of sound", visible=False, elem_id="label"
            ),
            "min_novelty": lambda: gr.Radio(
                NOVELTY, value="", label="Least novelty", info="others are drawn again"
            ),
            "follow": lambda: sound("A recording to follow, such as your voice", "follow"),
            "pattern": _grid,
        }

        def build(names: Iterable[str]) -> None:
            form.update(
                {
                    name: own[name]() if name in own else verb_field(GenerateSettings, name)
                    for name in names
                }
            )

        build(USUAL)
        with gr.Accordion("Follow a voice or notes", open=False):
            form[MIDI] = gr.File(
                label="Or a MIDI file", file_types=[".mid", ".midi", ".rmi"], elem_id="midi"
            )
            build(FOLLOWING)
        with gr.Accordion("A pattern of hits", open=False):
            build(PATTERN)
        with gr.Accordion("More settings", open=False):
            build(
                [
                    name
                    for name in fields_of(GenerateSettings)
                    if name not in (*USUAL, *FOLLOWING, *PATTERN)
                ]
            )
        return form

    def _build_verbs(self) -> None:
        """Build a form for each verb but `generate`: its recordings, the settings that are its own, and a button."""
        with gr.Accordion("Variations of a recording", open=not self._work.names(True)):
            self._source = sound("A sound to vary", "source")
            self._alone = gr.Checkbox(
                label="Of this sound alone, without a model",
                info="at once: nothing is trained",
                elem_id="alone",
            )
            self._build_verb(VERBS["vary"])
        for verb in VERBS.values():
            if verb.name not in OWN_FORMS:
                with gr.Accordion(f"{verb.name.capitalize()} this recording", open=False):
                    self._build_verb(verb)

    def _build_verb(self, verb: Verb) -> None:
        gr.Markdown(verb.help)
        settings = verb.settings.model_fields
        fields = {name: self._form[name] for name in settings if name in SHARED}
        for position, name in enumerate(verb.arguments):
            fields[name] = self._recording_fields(verb, name) if position else self._source
        for name in fields_of(verb.settings):
            if name not in SHARED:
                fields[name] = verb_field(verb.settings, name, elem_id=f"{verb.name}_{name}")
        self._fields[verb.name] = fields
        self._buttons[verb.name] = gr.Button(verb.name.capitalize(), elem_id=f"{verb.name}-start")

    def _recording_fields(self, verb: Verb, name: str) -> Any:
        """Build the field of a recording after the first, or two fields for a list of recordings."""
        label = f"{verb.name.capitalize()}: {verb.arguments[name].help}"
        is_list = get_origin(verb.settings.model_fields[name].annotation) is Sequence
        made = [sound(label, f"{verb.name}_{name}_{number}") for number in range(1 + is_list)]
        return made if is_list else made[0]

    def _build_kits(self) -> None:
        with gr.Accordion("Kits and instruments", open=False):
            gr.Markdown("Of the model, or of the sound to vary alone.")
            per_label = verb_field(KitSettings, "per_label", "Sounds of each kind, or at each note")
            self._buttons["kit"] = gr.Button("Make a kit", elem_id="kit-start")
            round_robins = verb_field(KitSettings, "round_robins", "Variations of one sound", 8)
            self._buttons["one_key"] = gr.Button(
                "Make variations on one key", elem_id="one-key-start"
            )
            notes = verb_field(KitSettings, "notes", "Notes of an instrument", "C2:C6")
            every = verb_field(KitSettings, "every", "Every so many-th note", 3)
            self._buttons["instrument"] = gr.Button(
                "Make an instrument", elem_id="instrument-start"
            )
        shared = {name: self._form[name] for name in ("seed", "width")}
        labelled = {**shared, "labels": self._form["label"]}
        self._fields["kit"] = {**shared, "per_label": per_label}
        self._fields["one_key"] = {**labelled, "round_robins": round_robins}
        self._fields["instrument"] = {
            **labelled,
            "notes": notes,
            "every": every,
            "per_label": per_label,
        }

    def _listen(self, timer: gr.Timer, page: gr.Blocks, tab: gr.Tab) -> None:
        form, chosen, shown = self._form, self._chosen, self._shown
        model, label, count = (form[name] for name in ("model", "label", "n"))
        model.change(
            lambda name: {**self.labels(name), "value": None}, model, label, queue=False, **QUIET
        )
        model.change(self.rows, model, form["pattern"], queue=False, **QUIET)
        page.load(
            lambda: self.rows(preselected(self._work.names(True), None)),
            None,
            form["pattern"],
            **QUIET,
        )
        form["note"].change(self.counted, [form["note"], count], count, queue=False, **QUIET)
        self._generate.click(
            self.generate, {*form.values()}, shown, api_name="generate_form", **STARTS
        )
        for name, button in self._buttons.items():
            verb, title, fixed = KITS.get(name) or (VERBS[name], name, {})
            start = partial(self.start, verb, title, self._fields[name], fixed)
            inputs = {model, self._alone, self._source, *_flat(self._fields[name].values())}
            button.click(start, inputs, shown, api_name=f"{name}_form", **STARTS)
        self._cancel.click(self.cancel, chosen, shown, **QUIET)
        varied = [self._fields["vary"][name] for name in OF_CARDS]
        self._cards.click(self.act, [chosen, *varied], shown, **QUIET)
        zipped = self._download.click(self.zip, chosen, self._archive, **PRIVATE)
        zipped.success(None, None, None, js=PRESS, **PRIVATE)
        chosen.input(self.show, chosen, shown, **QUIET)
        timer.tick(self.tick, [chosen, self._seen], shown[1:], **QUIET)
        tab.select(self.models, model, [model, label], **QUIET)
        page.load(self.models, model, [model, label], **QUIET).then(self.warm, model, None, **QUIET)
        model.change(self.warm, model, None, **QUIET)
        # Off until what was made before is shown: what comes after a click is played.
        shows = page.load(self.newest, None, shown, **QUIET)
        shows.then(lambda: gr.update(interactive=True), None, self._generate, **QUIET)

    def show(self, name: str | None) -> list[Any]:
        """List the jobs with results, and show the state and the sounds of one job."""
        jobs = [
            job for job in self._work.jobs.all(*OTHERS) if job.id == name or self._has_made(job)
        ]
        made = [(f"{job.title}, {job.id[:15]}", job.id) for job in jobs]
        return [gr.update(choices=made, value=name), *self.tick(name, None)]

    def newest(self) -> list[Any]:
        """The newest of what was made."""
        return self.show(next((job.id for job in self._work.jobs.all(*OTHERS)), None))

    def tick(self, name: str | None, now: str | None) -> list[Any]:
        """State of a job, and the sounds that it made; those that are shown `now` stay as they are."""
        job = self._work.jobs.get(name)
        keyboard, cards = self._sounds_of(self._made(name))
        seen = keyboard + cards
        same = [gr.skip()] * 3 if seen == now else [keyboard, gr.update(visible=bool(cards)), cards]
        cancel = gr.update(visible=job.state == "running" and not job.is_cancelled)
        return [view.progress(job, NOTHING), cancel, *same, seen]

    def _made(self, name: str | None) -> Job:
        """The job of this name where it made something, else the newest before it that did."""
        until_then = (job for job in self._work.jobs.all(*OTHERS) if job.id <= (name or ""))
        return next(filter(self._has_made, until_then), NO_JOB)

    def _has_made(self, job: Job) -> bool:
        return job.state == "done" or bool(self._files(job))

    def _files(self, job: Job) -> list[Path]:
        """The sounds that a job made until now; a kit is there at once, at its end."""
        paths = sorted((self._work.generated / job.id).glob("*.wav"))
        return [path for path in paths if not path.stem.endswith(NEAREST)]

    def warm(self, name: str | None) -> None:
        """Load a model beforehand, so that a click is answered at once."""
        if name is not None:
            model = self._work.argument(self._work.model(name))
            self._work.jobs.warm(["generate", model, "-n", "1", "--seed", "0"])

    def counted(self, notes: str, count: float) -> Any:
        """The field of how many: with notes it is one at each, unless somebody says more."""
        at_each = bool(notes.strip())
        return gr.update(label=AT_EACH if at_each else COUNT, value=1 if at_each else max(count, 4))

    def generate(self, values: Mapping[Any, Any]) -> Iterator[list[Any]]:
        """Start `distill generate` with the values of the form, by component."""
        given = {name: values[component] for name, component in self._form.items()}
        settings = {name: value for name, value in given.items() if name != "model"}
        self._work.model(given["model"])  # without one nothing is generated
        settings["follow"] = settings.pop(MIDI) or settings["follow"]
        settings["pattern"] = pattern_of(settings["pattern"])
        with suppress(ParamsError):  # the command says what is wrong with notes
            settings["n"] *= len(read_notes(settings["note"])) if settings["note"] else 1
        title = several(int(settings["n"]), "sound")
        yield from self._begin(VERBS["generate"], title, given["model"], [], settings, given)

    def start(
        self,
        verb: Verb,
        title: str,
        fields: Mapping[str, Any],
        fixed: Mapping[str, Any],
        values: Mapping[Any, Any],
    ) -> Iterator[list[Any]]:
        """Start the command of a verb with values by component, and `fixed` values by setting."""
        settings = {name: _value_of(component, values) for name, component in fields.items()} | {
            **fixed
        }
        model, source = values[self.model], values[self._source]
        given = {name: settings.pop(name) for name in verb.arguments}
        if verb.takes_recording_alone and (values[self._alone] or model is None):
            if source is None:
                raise ParamsError(
                    f"{title}: expected a model or a sound to vary, found neither; choose a sound or record one"
                )
            named = {
                name: value
                for name, value in settings.items()
                if name not in ("label", "labels", "guidance")
            }
            yield from self._begin(verb, f"{title} {Path(source).name}", None, [source], named)
            return
        for name, path in given.items():
            if path is None:
                expected = verb.arguments[name].help
                raise ParamsError(
                    f"{verb.name}: expected {expected}, found none; choose a file or record one"
                )
        self._work.model(model)  # without one nothing is generated
        recordings = list(filter(None, _flat(given.values())))
        names = " ".join([title, *(Path(path).name for path in recordings[:1])])
        yield from self._begin(verb, names, model, recordings, settings)

    def _begin(
        self,
        verb: Verb,
        title: str,
        name: str | None,
        recordings: Sequence[str],
        settings: Mapping[str, Any],
        given: Mapping[str, Any] | None = None,
    ) -> Iterator[list[Any]]:
        """Start a command with a model, or without one, and show what it makes as it comes."""
        model = None
        if name is not None:
            path = self._work.model(name)
            model, title = self._work.argument(path), f"{title} by {path.stem}"
        arguments = [
            *command_of(verb, model, recordings, settings),
            *flags(pictures=bool(verb.out)),
        ]
        job = self._work.jobs.start(verb.name, title, arguments, given or {"model": name})
        yield self.show(job.id)
        seen, until = None, time.monotonic() + FOLLOWED
        while job.state == "running" and not job.read(STDOUT) and time.monotonic() < until:
            time.sleep(0.1)
            parts = self.tick(job.id, seen)
            seen = parts[-1]
            yield [gr.skip(), *parts]
        yield self.show(job.id)

    def act(
        self,
        name: str | None,
        count: float,
        strength: str,
        transpose: str,
        width: float,
        event: gr.EventData,
    ) -> Iterator[list[Any]]:
        """Discard or vary a sound, as a button on its card says."""
        job = self._made(name)
        sound = Path(str(event.sound)).name
        path = self._work.generated / job.id / sound
        if path.suffix != ".wav" or not path.is_file():
            raise ParamsError(f"{sound}: expected a sound of this page, found none")
        if event.action == "vary":
            settings = {"n": count, "strength": strength, "transpose": transpose, "width": width}
            yield from self._begin(
                VERBS["vary"], f"vary {sound}", job.values["model"], [str(path)], settings
            )
            return
        for file in (path, path.with_suffix(".png"), path.with_stem(f"{path.stem}{NEAREST}")):
            file.unlink(missing_ok=True)
        yield self.show(name)

    def zip(self, name: str | None) -> str:
        """An archive of all sounds that are shown."""
        job = self._made(name)
        made = self._work.generated / job.id
        if not made.is_dir():
            raise ParamsError("download: expected sounds, found none; wait until they are made")
        for path in made.rglob("*"):
            self._work.check_inside(path)
        return shutil.make_archive(str(self._work.uploads / job.id), "zip", made)

    def cancel(self, name: str | None) -> list[Any]:
        """Cancel what is shown."""
        self._work.jobs.get(name).cancel()
        return self.show(name)

    def labels(self, name: str | None) -> Any:
        """The field of labels, where a model learned some."""
        labels = self._work.known(name).get("labels") or []
        return gr.update(choices=labels, visible=bool(labels))

    def rows(self, name: str | None) -> Any:
        """The grid of a pattern: a row for each label of a model, which has no grid without labels."""
        labels = self._work.known(name).get("labels") or []
        return gr.update(
            value=[[label, *[False] * STEPS] for label in labels] or None, visible=bool(labels)
        )

    def models(self, now: str | None) -> list[Any]:
        """List of models, and the labels of the chosen model."""
        names = self._work.names(True)
        model = preselected(names, now)
        return [gr.update(choices=names, value=model), self.labels(model)]

    def _sounds_of(self, job: Job) -> tuple[str, str]:
        """Keys that play the sounds of a job, and a card for each sound or for a kit."""
        if not job.kind:
            return "", ""
        folder, made = self._work.generated / job.id, job.read(STDOUT)
        head = f'<h2 data-job="{job.id}">{escape(job.title)}</h2>' + "".join(
            view.note(text, "warning") for text in job.warnings
        )
        if job.kind == "kit":
            text = self._work.check_inside(folder / "kit.txt")
            return keyboard.of_kit(folder, made), head + _kit_card(folder, text)
        rows = rows_of(made) if made else [{"file": one.name} for one in self._files(job)]
        untrained = str(made.get("untrained") or "")
        unknown = "Novelty unknown: the model has no codes of its recordings." * bool(
            made and not untrained
        )
        paths = [folder / Path(row["file"]).name for row in rows]
        names = names_of(len(rows), made.get("columns"))
        scores = [row.get("above_recordings", 0.0) for row in rows]
        ranks = [sorted(scores, reverse=True).index(score) for score in scores]
        cards = [
            _card(*of_sound, unknown) for of_sound in zip(paths, names, rows, ranks, strict=True)
        ]
        reports = (made.get(name) or {} for name in ("tuning", "loudness", "faults"))
        said = [line for report in reports for line in report.get("in_words") or []] + made.get(
            "remarks", []
        )
        lines = "".join(f"<p>{escape(line)}</p>" for line in said)
        seed = f"<p>seed {escape(str(made['seed']))}</p>" if made.get("seed") is not None else ""
        box = BY_LIKENESS * (len(set(scores)) > 1)
        body = f'{head}{view.note(untrained)}{seed}{lines}{box}<div class="cards">{"".join(cards)}</div>'
        if "columns" in made:
            return keyboard.of_grid(paths, names, made["columns"]), body
        return keyboard.of_sounds(paths, rows), body


def _flat(values: Iterable[Any]) -> list[Any]:
    """Flatten values: replace each list by its items."""
    return [own for value in values for own in (value if isinstance(value, list) else [value])]


def _value_of(component: Any, values: Mapping[Any, Any]) -> Any:
    """Return the value of a component, or the values of several."""
    return [values[own] for own in component] if isinstance(component, list) else values[component]


def _grid() -> gr.Dataframe:
    """A grid of steps for a pattern: a row for each label, a column for each sixteenth of a bar."""
    heads = ["label", *map(str, range(1, STEPS + 1))]
    kinds: Any = ["str", *["bool"] * STEPS]
    widths: Any = ["100px", *["52px"] * STEPS]
    return gr.Dataframe(
        headers=heads,
        datatype=kinds,
        type="array",
        label="Steps of a bar",
        column_widths=widths,
        pinned_columns=1,
        elem_id="pattern",
    )


def pattern_of(rows: Sequence[Sequence[Any]] | None) -> str:
    """The text of a grid; "" where no step is chosen. A label without steps is left out."""
    lines = [
        (str(label), "".join("x" if step in (True, "true") else "." for step in steps))
        for label, *steps in rows or []
    ]
    return " ".join(f"{label}:{steps}" for label, steps in lines if label and "x" in steps)


def names_of(count: int, columns: int | None) -> list[str]:
    """Names of sounds: numbers, or in a morph of a single row the percentage of the way to the last recording."""
    if columns == count > 1:
        return [f"{number / (count - 1):.0%}" for number in range(count)]
    return [f"sound {number}" for number in range(1, count + 1)]


def _card(path: Path, name: str, row: dict[str, Any], rank: int, unknown: str) -> str:
    """A card of a sound: players, spectrogram, verdict or `unknown`, buttons; "" where it was discarded.

    `rank` is its place, from 0, among the sounds by how like the recordings they are.
    """
    if not path.is_file():
        return ""
    verdict, own, why = (
        str((row.get("novelty") or {}).get("verdict", "")),
        row.get("similarity"),
        row.get("explanation"),
    )
    sentences = [
        own
        and f"{1 - own['equal_codes']:.0%} of codes changed, {own['coding_db']:.1f} dB by coding alone",
        row.get("heard"),
        row.get("faults") and f"Faulty: {', '.join(row['faults'])}",
        row.get("like_recordings"),
        None if why else unknown,
    ]
    said = f"<p>{escape('. '.join(filter(None, sentences)))}</p>"
    length = f", {row['seconds']:.2f} s" if "seconds" in row else ""
    parts = [view.player(path, f"{name}{length}")]
    nearest, picture = path.with_stem(f"{path.stem}{NEAREST}"), path.with_suffix(".png")
    parts += [view.player(nearest, "its nearest training recording")] * nearest.is_file()
    parts += [view.picture(picture, f"spectrogram of {name}")] * picture.is_file()
    address = view.address(path)
    buttons = "".join(
        f'<button type="button" data-do="{what}" data-sound="{escape(path.name)}" '
        f'aria-label="{text}: {name}">{text}</button>'
        for what, text in (("discard", "Discard"), ("vary", "Variations"))
    )
    judged = f'<summary class="verdict {escape(verdict)}">{escape(str(row.get("short")))}</summary>{escape(str(why))}'
    said += f"<details>{judged}</details>" * bool(why)
    return (
        f'<section class="card" style="--rank: {rank}" draggable="true" data-file="{escape(path.name)}" '
        f'data-address="{address}">'
        f'{said}{"".join(parts)}<div class="buttons">'
        f'<button type="button" data-keys="{address}" aria-label="Play on keys: {name}">On keys</button>'
        f'{buttons}<a href="{address}" download>Download</a></div></section>'
    )


def _kit_card(folder: Path, text: Path) -> str:
    picture = (
        view.picture(folder / "kit.png", "picture of the kit") * (folder / "kit.png").is_file()
    )
    sounds = [view.player(path, path.stem) for path in sorted((folder / "samples").glob("*.wav"))]
    return (
        f'{picture}<details><summary>Hear its {len(sounds)} sounds</summary><div class="players">{"".join(sounds)}</div>'
        f'</details><pre class="wide">{escape(read_end(text))}</pre>'
    )
