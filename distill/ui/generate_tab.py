"""The tab Generate: new sounds, their verdicts, variations and kits."""

import shutil
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from distill.errors import ParamsError
from distill.generate.requests import GenerateSettings, KitSettings, VarySettings, fields_of
from distill.ui import view
from distill.ui.forms import PRIVATE, QUIET, flags, request_field, request_flags, sound
from distill.ui.jobs import NO_JOB, OTHERS, STDOUT, Job, read_end
from distill.ui.workspace import Workspace, preselected

MOST_SOUNDS = 32
NOTHING = "Nothing was made yet. Without a model, give one recording as the sound to vary: its variations take seconds."
NOVELTY = [("any", ""), ("no copies", "close"), ("new only", "new")]
# One listener for all cards: buttons in the page's HTML, which say what to do with which sound.
CLICKS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-do]');
  if (button) { trigger('click', {action: button.dataset.do, sound: button.dataset.sound}); }
});
"""
# When the archive is made, the hidden button that has it is pressed.
PRESS = "() => setTimeout(() => document.querySelector('#archive').click(), 300)"


class GenerateTab:
    """The form on the left, what was made on the right."""

    def __init__(self, work: Workspace, timer: gr.Timer, page: gr.Blocks, tab: gr.Tab) -> None:
        self._work = work
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                self._form = self._build_form()
                with gr.Row():
                    self._generate = gr.Button("Generate", variant="primary", elem_id="generate-start")
                    self._cancel = gr.Button("Cancel", elem_id="generate-cancel")
                self._build_variations()
            with gr.Column(min_width=320, scale=2):
                self._chosen = gr.Dropdown([], label="Made", info="the newest first", elem_id="made")
                self._state = gr.HTML(elem_id="generate-state")
                self._download = gr.Button("Download all as zip", visible=False, elem_id="download")
                self._archive = gr.DownloadButton(visible="hidden", elem_id="archive")
                self._cards = gr.HTML(elem_id="cards", js_on_load=CLICKS)
                # What the page shows. The cards themselves are no input: of a component that is one and gets an update,
                # Gradio keeps every version until the page is closed.
                self._seen = gr.State("")
        self._shown = [self._chosen, self._state, self._download, self._cards, self._seen]
        self._listen(timer, page, tab)

    def _build_form(self) -> dict[str, Any]:
        form: dict[str, Any] = {"model": gr.Dropdown(self._work.names(True), label="Model", elem_id="generate-model")}
        usual = ("n", "seconds", "seed", "temperature", "label", "note", "min_novelty")
        own: dict[str, Callable[[], Any]] = {
            "n": lambda: gr.Slider(1, MOST_SOUNDS, 4, step=1, label="Sounds"),
            "temperature": lambda: gr.Slider(0.1, 2.0, 1.0, step=0.05, label="Temperature", info="above 1 more random"),
            "label": lambda: gr.Dropdown([], label="Label", info="of models trained with labels"),
            "min_novelty": lambda: gr.Radio(NOVELTY, value="", label="Least novelty", info="others are drawn again"),
        }

        def build(names: Iterable[str]) -> None:
            form.update({name: own[name]() if name in own else request_field(GenerateSettings, name) for name in names})

        build(usual)
        with gr.Accordion("More settings", open=False):
            build([name for name in fields_of(GenerateSettings) if name not in usual])
        return form

    def _build_variations(self) -> None:
        with gr.Accordion("Variations and kits", open=not self._work.names(True)):
            self._source = sound("A sound to vary", "source")
            self._alone = gr.Checkbox(
                label="Of this sound alone, without a model", info="at once: nothing is trained", elem_id="alone"
            )
            self._strength = request_field(VarySettings, "strength", "Strength of variations")
            self._transpose = request_field(VarySettings, "transpose", "Transpose by semitones")
            self._vary = gr.Button("Make variations")
            self._per_label = request_field(KitSettings, "per_label", "Sounds of each kind in a kit")
            self._kit = gr.Button("Make a kit", elem_id="kit-start")
            self._notes = request_field(KitSettings, "notes", "Notes of an instrument", "C2:C6")
            self._every = request_field(KitSettings, "every", "Every so many-th note", 3)
            self._instrument = gr.Button("Make an instrument", elem_id="instrument-start")

    def _listen(self, timer: gr.Timer, page: gr.Blocks, tab: gr.Tab) -> None:
        form, chosen, shown = self._form, self._chosen, self._shown
        model, label, seed = form["model"], form["label"], form["seed"]
        model.change(lambda name: gr.update(choices=self._labels(name), value=None), model, label, queue=False, **QUIET)
        self._generate.click(self.generate, list(form.values()), shown, api_name="generate")
        of = [model, self._alone, self._source]
        self._vary.click(self.vary, [*of, self._strength, self._transpose, seed], shown, api_name="vary")
        self._kit.click(self.kit, [*of, self._per_label, seed], shown, api_name="kit")
        played = [*of, label, self._notes, self._every, self._per_label, seed]
        self._instrument.click(self.instrument, played, shown, api_name="instrument")
        self._cancel.click(self.cancel, chosen, shown, **PRIVATE)
        self._cards.click(self.act, [chosen, self._strength, self._transpose], shown, **PRIVATE)
        zipped = self._download.click(self.zip, chosen, self._archive, **PRIVATE)
        zipped.success(None, None, None, js=PRESS, **PRIVATE)
        chosen.input(self.show, chosen, shown, **PRIVATE)
        timer.tick(self.tick, [chosen, self._seen], shown[1:], **QUIET)
        for event in (tab.select, page.load):
            event(self.models, model, [model, label], **QUIET)
        page.load(self.newest, None, shown, **QUIET)

    def show(self, name: str | None) -> list[Any]:
        """What was made, and of one of these its state and its sounds."""
        made = [(f"{job.title}, {job.id[:15]}", job.id) for job in self._work.jobs.all(*OTHERS)]
        return [gr.update(choices=made, value=name), *self.tick(name, None)]

    def newest(self) -> list[Any]:
        """The newest of what was made."""
        return self.show(next((job.id for job in self._work.jobs.all(*OTHERS)), None))

    def tick(self, name: str | None, now: str | None) -> list[Any]:
        """State of a job, and the sounds of what is done; those that are shown `now` stay as they are."""
        cards = self._cards_of(self._done(name))
        same = gr.skip() if cards == now else cards
        state = view.progress(self._work.jobs.get(name), NOTHING)
        return [state, gr.update(visible=bool(cards)), same, cards]

    def _done(self, name: str | None) -> Job:
        """The job of this name; where it is at work or made nothing, the newest before it that is done."""
        until_then = (job for job in self._work.jobs.all(*OTHERS) if job.id <= (name or ""))
        return next((job for job in until_then if job.state == "done"), NO_JOB)

    def generate(self, *values: Any) -> list[Any]:
        """Start `distill generate` with the values of the form."""
        given = dict(zip(self._form, values, strict=True))
        model, *names = given
        settings = {name: given[name] for name in names}
        self._work.model(given[model])  # without one nothing is generated
        arguments = [*request_flags(GenerateSettings, settings), *flags(pictures=True)]
        return self._begin("generate", f"{given['n']} sounds", given, arguments)

    def vary(self, name: str | None, alone: bool, path: str | None, *values: Any) -> list[Any]:
        """Start `distill vary` with a sound, and values of strength, semitones and seed."""
        if path is None:
            raise ParamsError("a sound to vary: expected one, found none; choose a file or record one")
        settings = {"n": 8, **dict(zip(("strength", "transpose", "seed"), values, strict=True))}
        arguments = [path, *request_flags(VarySettings, settings), *flags(pictures=True)]
        return self._begin("vary", f"8 variations of {Path(path).name}", {"model": None if alone else name}, arguments)

    def kit(self, name: str | None, alone: bool, path: str | None, per_label: float, seed: str) -> list[Any]:
        """Start `distill kit`."""
        return self._begin_kit("a kit", name, alone, path, {"per_label": per_label, "seed": seed})

    def instrument(
        self, name: str | None, alone: bool, path: str | None, label: str | None, notes: str, *values: Any
    ) -> list[Any]:
        """Start `distill kit` at notes, with values of every, sounds and seed."""
        if not notes.strip():
            raise ParamsError("notes of an instrument: expected some, found none; give notes such as C1:C6")
        settings = dict(zip(("every", "per_label", "seed"), values, strict=True))
        settings |= {"notes": notes, "labels": None if alone else label}
        return self._begin_kit("an instrument", name, alone, path, settings)

    def _begin_kit(
        self, title: str, name: str | None, alone: bool, path: str | None, settings: dict[str, Any]
    ) -> list[Any]:
        arguments = request_flags(KitSettings, settings)
        if name is not None and not alone:
            return self._begin("kit", title, {"model": name}, arguments)
        if path is None:
            raise ParamsError("a kit: expected a model or a sound to vary, found neither; choose a sound or record one")
        return self._begin("kit", f"{title} of {Path(path).name}", {"model": None}, [path, *arguments])

    def _begin(self, kind: str, title: str, given: dict[str, Any], arguments: list[str]) -> list[Any]:
        """Start a command with a model, or without one where `given` names none."""
        model = []
        if given["model"] is not None:
            path = self._work.model(given["model"])
            model, title = [self._work.argument(path)], f"{title} by {path.stem}"
        self._work.jobs.start(kind, title, [kind, *model, *arguments], given)
        return self.newest()

    def act(self, name: str | None, strength: str, transpose: str, event: gr.EventData) -> list[Any]:
        """Discard or vary a sound, as a button on its card says."""
        job = self._done(name)
        sound = Path(str(event.sound)).name
        path = self._work.generated / job.id / sound
        if path.suffix != ".wav" or not path.is_file():
            raise ParamsError(f"{sound}: expected a sound of this page, found none")
        if event.action == "vary":
            return self.vary(job.values["model"], False, str(path), strength, transpose, "")
        for file in (path, path.with_suffix(".png"), path.with_stem(f"{path.stem}_nearest")):
            file.unlink(missing_ok=True)
        return self.show(name)

    def zip(self, name: str | None) -> str:
        """An archive of all sounds that are shown."""
        job = self._done(name)
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

    def _labels(self, name: str | None) -> list[str]:
        return self._work.known(name).get("labels") or []

    def models(self, now: str | None) -> list[Any]:
        """The list of models and the labels of the one that is chosen."""
        names = self._work.names(True)
        model = preselected(names, now)
        return [gr.update(choices=names, value=model), gr.update(choices=self._labels(model))]

    def _cards_of(self, job: Job) -> str:
        """A card for each sound, or that of a kit."""
        if not job.kind:
            return ""
        folder, made = self._work.generated / job.id, job.read(STDOUT)
        head = f"<h3>{escape(job.title)}</h3>" + "".join(view.note(text, "warning") for text in job.warnings)
        if job.kind == "kit":
            return head + _kit_card(folder, self._work.check_inside(folder / "kit.txt"))
        sounds = made.get("sounds") or made.get("takes") or []
        untrained = str(made.get("untrained") or "")
        unknown = "" if untrained else "Novelty unknown: the model has no codes of its recordings."
        cards = [_card(folder / Path(row["file"]).name, number, row, unknown) for number, row in enumerate(sounds, 1)]
        reports = (made.get(name) or {} for name in ("tuning", "faults"))
        lines = "".join(f"<p>{escape(line)}</p>" for report in reports for line in report.get("in_words") or [])
        head += f"{view.note(untrained)}<p>seed {escape(str(made.get('seed')))}</p>"
        return f'{head}{lines}<div class="cards">{"".join(cards)}</div>'


def _card(path: Path, number: int, row: dict[str, Any], unknown: str) -> str:
    """A card of a sound: players, spectrogram, verdict or `unknown`, buttons; "" where it was discarded."""
    if not path.is_file():
        return ""
    verdict, own = str((row.get("novelty") or {}).get("verdict", "")), row.get("similarity")
    sentences = [
        own and f"Beside the given sound: {own['equal_codes']:.0%} of codes equal, {own['difference_db']:.1f} dB apart",
        row.get("heard"),
        row.get("explanation") or unknown,
        row.get("faults") and f"Faulty: {', '.join(row['faults'])}",
    ]
    said = ". ".join(filter(None, sentences))
    parts = [view.player(path, f"sound {number}, {row.get('seconds', 0):.2f} s")]
    nearest, picture = path.with_stem(f"{path.stem}_nearest"), path.with_suffix(".png")
    parts += [view.player(nearest, "its nearest training recording")] * nearest.is_file()
    parts += [view.picture(picture, f"spectrogram of sound {number}")] * picture.is_file()
    buttons = "".join(
        f'<button type="button" data-do="{what}" data-sound="{escape(path.name)}" '
        f'aria-label="{text}: sound {number}">{text}</button>'
        for what, text in (("discard", "Discard"), ("vary", "Variations"))
    )
    shown = f'<span class="verdict {escape(verdict)}">{escape(verdict)}</span> ' * bool(verdict)
    return (
        f'<section class="card"><p>{shown}{escape(said)}</p>{"".join(parts)}'
        f'<div class="buttons">{buttons}<a href="{view.address(path)}" download>Download</a></div></section>'
    )


def _kit_card(folder: Path, text: Path) -> str:
    picture = view.picture(folder / "kit.png", "picture of the kit") * (folder / "kit.png").is_file()
    sounds = [view.player(path, path.stem) for path in sorted((folder / "samples").glob("*.wav"))]
    return (
        f'{picture}<details><summary>Hear its {len(sounds)} sounds</summary><div class="players">{"".join(sounds)}</div>'
        f'</details><pre class="wide">{escape(read_end(text))}</pre>'
    )
