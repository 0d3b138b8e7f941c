"""The tab Generate: new sounds, their verdicts, variations and kits."""

import json
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from distill.errors import ParamsError
from distill.ui import view
from distill.ui.handlers import Desk, flags, handled, optional, relative
from distill.ui.jobs import Job
from distill.ui.reading import read_end, read_text

MOST_SOUNDS = 32
NATURAL, EXACT = "ends by itself", "exactly as long"
NOVELTY = {"any": None, "no copies": "close", "new only": "new"}
KINDS = ("generate", "vary", "kit")
KEPT = "kept.json"
MOST_TEXT = 100_000  # bytes shown of the text of a kit
# One listener for all cards: buttons in the page's HTML, which say what to do with which sound.
CLICKS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-do]');
  if (button) { trigger('click', {action: button.dataset.do, sound: button.dataset.sound}); }
});
"""


def build(desk: Desk, timer: gr.Timer, page: gr.Blocks, tab: gr.Tab) -> None:
    """Build the tab."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            model = gr.Dropdown(desk.names(True), label="Model", elem_id="generate-model")
            count = gr.Slider(1, MOST_SOUNDS, 4, step=1, label="Sounds")
            ending = gr.Radio([NATURAL, EXACT], value=NATURAL, label="Length")
            seconds = gr.Number(1.0, label="Seconds", minimum=0.05, visible=False)
            seed = optional("Seed", "another one each time", elem_id="generate-seed")
            temperature = gr.Slider(0.1, 2.0, 1.0, step=0.05, label="Temperature", info="below 1 tamer, above 1 wilder")
            label = gr.Dropdown([], label="Label", info="of models trained with labels")
            novelty = gr.Radio(list(NOVELTY), value="any", label="Least novelty", info="others are drawn again")
            with gr.Accordion("More settings", open=False):
                top_k = gr.Number(0, label="Top-k", info="0: all codes", precision=0, minimum=0)
                top_p = gr.Slider(0.05, 1.0, 1.0, step=0.05, label="Top-p")
                guidance = optional("Guidance", "2, with a label")
                prompt = gr.Audio(
                    sources=["upload", "microphone"], type="filepath", label="Prompt: a sound to continue"
                )
            with gr.Row():
                generate = gr.Button("Generate", variant="primary", elem_id="generate-start")
                cancel = gr.Button("Cancel", elem_id="generate-cancel")
            with gr.Accordion("Variations and kits", open=False):
                strength = gr.Slider(0.0, 1.0, 0.3, step=0.05, label="Strength of variations")
                source = gr.Audio(sources=["upload", "microphone"], type="filepath", label="A sound to vary")
                vary = gr.Button("Make variations")
                per_label = gr.Slider(1, 16, 4, step=1, label="Sounds of each kind in a kit")
                kit = gr.Button("Make a kit", elem_id="kit-start")
        with gr.Column(min_width=320, scale=2):
            chosen = gr.Dropdown([], label="Made", info="the newest first", elem_id="made")
            state = gr.HTML(elem_id="generate-state")
            cards = gr.HTML(elem_id="cards", js_on_load=CLICKS)
            # What the page shows. `cards` itself is no input: of a component that is one and gets an update, Gradio keeps
            # every version until the page is closed.
            seen = gr.State("")

    form = [model, count, ending, seconds, seed, temperature, label, novelty, top_k, top_p, guidance, prompt]
    shown = [chosen, state, cards, seen]

    @handled
    def show(name: str | None) -> list[Any]:
        job = desk.jobs.get(name) if name else None
        cards = _cards(desk, job)
        return [gr.update(choices=_made(desk)), view.progress(job, "Nothing was made yet."), cards, cards]

    @handled
    def newest() -> list[Any]:
        job = desk.jobs.newest(*KINDS)
        name = None if job is None else job.id
        cards = _cards(desk, job)
        return [
            gr.update(choices=_made(desk), value=name),
            view.progress(job, "Nothing was made yet."),
            cards,
            cards,
        ]

    @handled
    def tick(name: str | None, now: str) -> list[Any]:
        job = desk.jobs.get(name) if name else None
        cards = _cards(desk, job)
        return [view.progress(job, "Nothing was made yet."), gr.skip() if cards == now else cards, cards]

    @handled
    def begin(*values: Any) -> list[Any]:
        names = (
            "model",
            "n",
            "ending",
            "seconds",
            "seed",
            "temperature",
            "label",
            "novelty",
            "top_k",
            "top_p",
            "guidance",
            "prompt",
        )
        given = dict(zip(names, values, strict=True))
        _generate(desk, {**given, "model": given["model"] or shown_model()})
        return newest()

    @handled
    def vary_it(name: str | None, path: str | None, strength: float, seed: str) -> list[Any]:
        if path is None:
            raise ParamsError("a sound to vary: expected one, found none; choose a file or record one")
        _vary(desk, name or shown_model(), Path(path), strength, seed)
        return newest()

    @handled
    def kit_it(name: str | None, per_label: float, seed: str) -> list[Any]:
        _kit(desk, name or shown_model(), int(per_label), seed)
        return newest()

    @handled
    def act(name: str | None, strength: float, event: gr.EventData) -> list[Any]:
        job = desk.jobs.get(name) if name else None
        if job is None:
            return newest()
        action, sound = str(event._data.get("action")), Path(str(event._data.get("sound"))).name
        path = desk.workspace.generated / job.id / sound
        if path.suffix != ".wav" or not path.is_file():
            raise ParamsError(f"{sound}: expected a sound of this page, found none")
        if action == "keep":
            kept = set(_kept(job)) ^ {sound}
            (job.folder / KEPT).write_text(json.dumps(sorted(kept)), encoding="utf-8")
        elif action == "discard":
            for one in path.parent.glob(path.stem + ".*"):
                one.unlink(missing_ok=True)
            (path.parent / f"{path.stem}_nearest.wav").unlink(missing_ok=True)
        elif action == "vary":
            _vary(desk, str(job.values["model"]), path, strength, "")
            return newest()
        return show(name)

    @handled
    def labels_of(name: str | None) -> Any:
        return gr.update(choices=desk.known(name).get("labels") or [], value=None)

    def shown_model() -> str | None:
        """The model that the form will show when the list of models, which takes a moment, is read."""
        return desk.preselected(None, "generate", can_generate=True)

    @handled
    def models(now: str | None) -> list[Any]:
        model = desk.preselected(now, "generate", can_generate=True)
        labels = desk.known(model).get("labels") or []
        return [gr.update(choices=desk.names(True), value=model), gr.update(choices=labels)]

    @handled
    def restored(now: str | None) -> list[Any]:
        return [*models(now), *newest()]

    @handled
    def cancel_it(name: str | None) -> list[Any]:
        job = desk.jobs.get(name) if name else None
        if job is not None:
            job.cancel()
        return show(name)

    ending.change(
        lambda value: gr.update(visible=value == EXACT),
        ending,
        seconds,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    model.change(labels_of, model, label, queue=False, show_progress="hidden", api_visibility="private")
    generate.click(begin, form, shown, api_name="generate")
    vary.click(vary_it, [model, source, strength, seed], shown, api_name="vary")
    kit.click(kit_it, [model, per_label, seed], shown, api_name="kit")
    chosen.input(show, chosen, shown, api_visibility="private")
    cancel.click(cancel_it, chosen, shown, api_visibility="private")
    cards.click(act, [chosen, strength], shown, api_visibility="private")
    timer.tick(tick, [chosen, seen], [state, cards, seen], show_progress="hidden", api_visibility="private")
    tab.select(models, model, [model, label], show_progress="hidden", api_visibility="private")
    page.load(restored, model, [model, label, *shown], show_progress="hidden", api_visibility="private")


def _generate(desk: Desk, given: dict[str, Any]) -> None:
    path = desk.workspace.model(given["model"] or "")
    arguments = ["generate", relative(path, desk.workspace.root), "-n", str(int(given["n"]))]
    arguments += flags(
        seconds=given["seconds"] if given["ending"] == EXACT else None,
        seed=given["seed"],
        temperature=given["temperature"],
        top_k=given["top_k"],
        top_p=given["top_p"],
        label=given["label"],
        guidance=given["guidance"] if given["label"] else None,
        prompt=given["prompt"],
        min_novelty=NOVELTY[given["novelty"]],
        pictures=True,
    )
    values = {key: value for key, value in given.items() if key != "prompt"}
    desk.jobs.start_in_folder("generate", f"{int(given['n'])} sounds of {path.stem}", arguments, values)


def _vary(desk: Desk, name: str | None, sound: Path, strength: float, seed: str) -> None:
    path = desk.workspace.model(name or "")
    arguments = ["vary", relative(path, desk.workspace.root), str(sound), "-n", "8", "--strength", f"{strength:g}"]
    arguments += flags(seed=seed, pictures=True)
    desk.jobs.start_in_folder("vary", f"8 variations of {sound.name}", arguments, {"model": name})


def _kit(desk: Desk, name: str | None, per_label: int, seed: str) -> None:
    path = desk.workspace.model(name or "")
    arguments = ["kit", relative(path, desk.workspace.root), "--per-label", str(per_label), *flags(seed=seed)]
    desk.jobs.start_in_folder("kit", f"a kit of {path.stem}", arguments, {"model": name})


def _made(desk: Desk) -> list[tuple[str, str]]:
    return [(f"{job.title}, {job.id[:15]}", job.id) for job in desk.jobs.all(*KINDS)]


def _kept(job: Job) -> list[str]:
    try:
        kept = json.loads(read_text(job.folder / KEPT))
    except (OSError, ValueError, RecursionError):
        return []
    return [str(one) for one in kept] if isinstance(kept, list) else []


def _cards(desk: Desk, job: Job | None) -> str:
    """A card for each sound: players, spectrogram, verdict, buttons."""
    if job is None or job.state != "done":
        return ""
    made, folder = job.output, desk.workspace.generated / job.id
    if not isinstance(made, dict):
        return ""
    if job.kind == "kit":
        return _kit_card(job, folder)
    kept, cards = set(_kept(job)), []
    for number, one in enumerate(made.get("sounds") or made.get("takes") or []):
        name = Path(str(one.get("file"))).name
        if (folder / name).is_file():
            cards.append(_card(job, folder, name, number, one, name in kept))
    archive = (
        f'<p><a href="/job/{job.id}/all.zip" download>Download all as zip</a>; seed {escape(str(made.get("seed")))}</p>'
    )
    faults = "".join(f"<p>{escape(str(line))}</p>" for line in (made.get("faults") or {}).get("in_words") or [])
    return f'{archive}{faults}<div class="cards">{"".join(cards)}</div>'


def _card(job: Job, folder: Path, name: str, number: int, one: dict[str, Any], is_kept: bool) -> str:
    stem, base = Path(name).stem, f"/job/{job.id}/"
    novelty = one.get("novelty") or {}
    verdict = str(novelty.get("verdict", ""))
    said = str(one.get("explanation") or "Novelty unknown: the model has no codes of its recordings.")
    if one.get("faults"):
        said = f"{said}. Faulty: {', '.join(map(str, one['faults']))}"
    own = one.get("similarity") or {}
    if own:
        said = f"Beside the given sound: {own['equal_codes']:.0%} of codes equal, {own['difference_db']:.1f} dB apart. {said}"
    parts = [view.player(base + quote(name), f"sound {number + 1}, {float(one.get('seconds', 0)):.2f} s")]
    if (folder / f"{stem}_nearest.wav").is_file():
        parts.append(view.player(base + quote(f"{stem}_nearest.wav"), "its nearest training recording"))
    if (folder / f"{stem}.png").is_file():
        parts.append(f'<img loading="lazy" src="{base}{quote(stem)}.png" alt="spectrogram of sound {number + 1}">')
    buttons = "".join(
        f'<button type="button" data-do="{what}" data-sound="{escape(name)}" aria-label="{escape(f"{text}: sound {number + 1}")}">{escape(text)}</button>'
        for what, text in (("keep", "Kept ✓" if is_kept else "Keep"), ("discard", "Discard"), ("vary", "Variations"))
    )
    link = f'<a href="{base}{quote(name)}" download>Download</a>'
    shown = f'<span class="verdict {escape(verdict)}">{escape(verdict)}</span> ' if verdict else ""
    return (
        f'<section class="card{" kept" if is_kept else ""}"><p>{shown}{escape(said)}</p>{"".join(parts)}'
        f'<div class="buttons">{buttons}{link}</div></section>'
    )


def _kit_card(job: Job, folder: Path) -> str:
    text = read_end(folder / "kit.txt", MOST_TEXT)
    picture = f'<img src="/job/{job.id}/kit.png" alt="picture of the kit">' if (folder / "kit.png").is_file() else ""
    link = f'<p><a href="/job/{job.id}/all.zip" download id="kit-download">Download the kit as zip</a></p>'
    sounds = [
        view.player(f"/job/{job.id}/samples/{quote(path.name)}", path.stem)
        for path in sorted((folder / "samples").glob("*.wav"))
    ]
    players = f'<details><summary>Hear its {len(sounds)} sounds</summary><div class="players">{"".join(sounds)}</div></details>'
    return f'{link}{picture}{players}<pre class="wide">{escape(text)}</pre>'
