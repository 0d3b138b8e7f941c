"""The tab Train: recordings, settings, and the training at work."""

import time
from pathlib import Path
from typing import Any, get_args

import gradio as gr

from distill.audio.read import SUPPORTED_SUFFIXES
from distill.params import QualityName, TierName, default_params, default_values
from distill.ui import view
from distill.ui.handlers import Desk, flags, handled, optional, relative
from distill.ui.jobs import Job
from distill.ui.reading import read_json

TIERS = ["auto", *get_args(TierName)]
RATES = ["auto", "24000", "32000", "44100", "48000"]
QUALITIES = list(get_args(QualityName))
LEVELS = "0: by the quality. Fewer levels = faster, more levels = finer detail"
DEFAULTS: dict[str, Any] = {
    "tier": "auto",
    "quality": default_values()["vqvae"]["quality"],
    "rvq_levels": 0,
    "commitment_weight": 0.25,
    "epochs": "",
    "learning_rate": "",
    "sample_rate": "auto",
    "labels": False,
    "seed": 0,
    "prior": True,
}


def build(desk: Desk, timer: gr.Timer, page: gr.Blocks) -> None:
    """Build the tab."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            corpus = gr.Dropdown(
                desk.workspace.corpora(), label="Recordings", info="a folder of this page", elem_id="corpus"
            )
            with gr.Accordion("Add recordings", open=not desk.workspace.corpora()):
                gr.Markdown("Sound files, or a zip archive of them. Folders in an archive can be labels.")
                folder_name = gr.Textbox("my-sounds", label="Folder to add them to", max_length=100)
                files = gr.File(file_count="multiple", label="Files or zip archives", elem_id="files")
                directory = gr.File(file_count="directory", label="A whole folder")
                added = gr.HTML()
            name = gr.Textbox(label="Name of the model", max_length=100, elem_id="name")
            tier = gr.Dropdown(
                TIERS,
                value="auto",
                label="Preset",
                info="auto: by the number of recordings",
            )
            quality = gr.Dropdown(QUALITIES, value=DEFAULTS["quality"], label="Quality", info="higher needs more time")
            levels = gr.Slider(0, 16, DEFAULTS["rvq_levels"], step=1, label="RVQ levels", info=LEVELS)
            codebook = gr.HTML(_codebook(desk, None, "auto"))
            prior = gr.Checkbox(True, label="Also train a prior", info="without one the model cannot generate")
            with gr.Accordion("More settings", open=False):
                commitment = gr.Number(0.25, label="Commitment weight", minimum=0, step=0.05)
                epochs = optional("Most epochs", "by the preset")
                rate = optional("Learning rate", "by the preset")
                sample_rate = gr.Dropdown(RATES, value=DEFAULTS["sample_rate"], label="Sample rate, Hz")
                labels = gr.Checkbox(False, label="Labels from folders", info="a recording's folder is its label")
                seed = gr.Number(0, label="Seed", precision=0, minimum=0)
            with gr.Row():
                # Off until the form is filled, which overwrites what was typed before.
                start = gr.Button("Start", variant="primary", elem_id="train-start", interactive=False)
                cancel = gr.Button("Cancel", elem_id="train-cancel")
                stop = gr.Button("Stop and use best checkpoint", elem_id="train-stop")
        with gr.Column(min_width=320, scale=2):
            state = gr.HTML(elem_id="train-state")
            resume = gr.Button("Go on with this training", visible=False)
            found, codebooks = gr.HTML(), gr.HTML(elem_id="train-health")
            charts, previews = gr.HTML(elem_id="train-charts"), gr.HTML(elem_id="train-previews")

    shown = [state, found, codebooks, charts, previews, resume]
    form = [corpus, name, tier, quality, levels, commitment, epochs, rate, sample_rate, labels, seed, prior]

    @handled
    def show() -> list[Any]:
        job = desk.jobs.newest("train")
        resumable = job is not None and job.state in ("interrupted", "gone")
        return [*_live(job), gr.update(visible=resumable)]

    @handled
    def add(folder: str, uploads: list[str] | None) -> list[Any]:
        if not uploads:
            return [gr.skip(), "", gr.skip()]
        done = desk.workspace.add_recordings(folder, [Path(one) for one in uploads])
        text = view.note(f"{done.count} recordings added to {done.folder}")
        refused = "".join(view.note(sentence, "warning") for sentence in done.refused[:20])
        for one in uploads:  # the folder has them now, and the next ones are added to an empty list
            Path(one).unlink(missing_ok=True)
        chosen = gr.update(choices=desk.workspace.corpora(), value=done.folder if done.count else None)
        return [chosen, text + refused, None]

    @handled
    def begin(*values: Any) -> list[Any]:
        given = dict(zip(("corpus", "name", *list(DEFAULTS)), values, strict=True))
        _start(desk, given)
        return show()

    @handled
    def cancel_it() -> list[Any]:
        _ask(desk.jobs.newest("train")).cancel()
        return show()

    @handled
    def stop_it() -> list[Any]:
        stop_and_use_best(desk, _ask(desk.jobs.newest("train")))
        return show()

    @handled
    def go_on() -> list[Any]:
        job = desk.jobs.newest("train")
        if job is not None:
            desk.jobs.resume(job)
        return show()

    @handled
    def restored() -> list[Any]:
        job = desk.jobs.newest("train")
        values = {} if job is None else dict(job.values)
        corpora = desk.workspace.corpora()
        chosen = values.get("corpus") if values.get("corpus") in corpora else (corpora[0] if corpora else None)
        kept = {key: values.get(key, default) for key, default in DEFAULTS.items()}
        for key, choices in (("tier", TIERS), ("quality", QUALITIES), ("sample_rate", RATES)):
            if kept[key] not in choices:  # another version had more of them
                kept[key] = DEFAULTS[key]
        size = _codebook(desk, chosen, kept["tier"])
        return [
            gr.update(choices=corpora, value=chosen),
            _new_name(),
            *kept.values(),
            size,
            gr.update(interactive=True),
        ]

    for uploads in (files, directory):
        uploads.upload(add, [folder_name, uploads], [corpus, added, uploads], api_visibility="private")
    for changed in (corpus, tier):
        changed.change(
            lambda one, two: _codebook(desk, one, two),
            [corpus, tier],
            codebook,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
    start.click(begin, form, shown, api_name="train").success(_new_name, None, name, api_visibility="private")
    cancel.click(cancel_it, None, shown, api_name="cancel")
    stop.click(stop_it, None, shown, api_name="stop")
    resume.click(go_on, None, shown, api_visibility="private")
    timer.tick(show, None, shown, show_progress="hidden", api_visibility="private")
    page.load(restored, None, [*form, codebook, start], show_progress="hidden", api_visibility="private")
    page.load(show, None, shown, show_progress="hidden", api_visibility="private")


def stop_and_use_best(desk: Desk, job: Job) -> None:
    """Let a training end with its best weights so far."""
    if job.state == "running":
        (desk.workspace.state / "stop").touch()


def _start(desk: Desk, given: dict[str, Any]) -> None:
    folder = desk.workspace.corpus(given["corpus"] or "")
    path = desk.workspace.new_model(given["name"] or "")
    arguments = ["train", relative(folder, desk.workspace.root), "--name", path.stem]
    arguments += flags(
        tier=given["tier"],
        quality=given["quality"],
        rvq_levels=int(given["rvq_levels"]) or None,
        commitment_weight=given["commitment_weight"],
        epochs=given["epochs"],
        learning_rate=given["learning_rate"],
        sample_rate=given["sample_rate"],
        labels="folder" if given["labels"] else None,
        seed=given["seed"],
        prior=bool(given["prior"]),
    )
    desk.jobs.start("train", f"training {path.stem} on {given['corpus']}", arguments, given)


def _live(job: Job | None) -> list[str]:
    """State, recordings, codebooks, charts and previews of a training."""
    if job is None:
        return [view.note("No training yet. Choose recordings and press Start."), "", "", "", ""]
    codec, prior = job.events("codec"), job.events("prior")
    warnings = "".join(view.note(text, "warning") for text in job.warnings)
    report = view.ingest(read_json(job.folder / "ingest.json"))
    charts = view.codec_losses(codec) + view.prior_curves(prior)
    return [view.progress(job, ""), report, view.health(codec) + warnings, charts, _previews(job)]


def _previews(job: Job) -> str:
    rows = []
    for original in sorted((job.folder / "previews").glob("preview_*_original.wav")):
        stem = original.name.removesuffix("_original.wav")
        players = [view.player(f"/job/{job.id}/previews/{stem}_{which}.wav", text) for which, text in _MOMENTS.items()]
        rows.append(f'<div class="players">{"".join(players)}</div>')
    return f"<h3>Held-out recordings, before and after the codec</h3>{''.join(rows)}" if rows else ""


_MOMENTS = {"original": "original", "best": "reconstruction"}


def _ask(job: Job | None) -> Job:
    if job is None or job.state != "running":
        raise gr.Error("expected a training at work, found none", print_exception=False)
    return job


def _new_name() -> str:
    return time.strftime("model-%Y%m%d-%H%M%S")


def _codebook(desk: Desk, corpus: str | None, tier: str) -> str:
    """The codebook size that the preset gives."""
    count = _count(desk.workspace.root / corpus) if corpus in desk.workspace.corpora() else 0
    sizes = "64, 128 or 256 by the number of recordings"
    if count or tier != "auto":
        size = default_params(tier=tier).vqvae_config(count).codebook_size
        sizes = f"{size}" + (f" ({count} sound files)" if count else "")
    return f'<p class="small">Codebook size: {sizes}</p>'


def _count(folder: Path) -> int:
    return sum(path.suffix.lower() in SUPPORTED_SUFFIXES for path in folder.rglob("*") if path.is_file())
