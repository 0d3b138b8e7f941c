"""The tab Library: the models of the folder."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import gradio as gr

from distill.errors import ParamsError
from distill.storage.files import rename_to_new, write_bytes
from distill.ui import view
from distill.ui.handlers import Desk, handled
from distill.ui.reading import read_text
from distill.ui.workspace import MODEL_SUFFIX

HEAD = (
    "model",
    "date (UTC)",
    "recordings",
    "preset",
    "codewords used",
    "bits per second",
    "labels",
    "generates",
    "judges",
)
VERIFY_SECONDS = 300


def build(desk: Desk, page: gr.Blocks, tab: gr.Tab) -> None:
    """Build the tab."""
    listed = gr.HTML(elem_id="library")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            model = gr.Dropdown([], label="Model", elem_id="library-model")
            name = gr.Textbox(label="New name", max_length=100)
            with gr.Row():
                rename = gr.Button("Rename")
                delete = gr.Button("Delete", elem_id="library-delete")
            with gr.Group(visible=False) as question:
                asked = gr.HTML()
                with gr.Row():
                    yes, no = gr.Button("Delete it", variant="stop"), gr.Button("Keep it")
            incoming = gr.File(label="Import a model from somebody else", file_count="single", elem_id="import")
            imported = gr.HTML(elem_id="imported")
        with gr.Column(min_width=320, scale=2):
            card = gr.Markdown(elem_id="card", sanitize_html=True)

    shown = [listed, model]

    @handled
    def show() -> list[Any]:
        names = [one["file"] for one in desk.models()]
        return [_table(desk), gr.update(choices=names)]

    @handled
    def card_of(chosen: str | None) -> str:
        path = desk.workspace.models / f"{chosen}.md" if chosen else None
        if path is None or Path(str(chosen)).name != chosen:
            return ""
        try:
            return read_text(path)[:100_000]
        except (OSError, ValueError):
            return ""

    @handled
    def rename_it(chosen: str | None, new: str) -> list[Any]:
        path, target = desk.workspace.model(chosen or ""), desk.workspace.new_model(new)
        _move(path, target)
        old = path.with_name(path.name + ".md")
        if old.is_file():
            old.rename(target.with_name(target.name + ".md"))
        return [_table(desk), gr.update(choices=[one["file"] for one in desk.models()], value=target.name)]

    @handled
    def ask(chosen: str | None) -> list[Any]:
        path = desk.workspace.model(chosen or "")
        return [gr.update(visible=True), view.note(f"Delete {path.name}? It cannot be brought back.", "warning")]

    @handled
    def delete_it(chosen: str | None) -> list[Any]:
        path = desk.workspace.model(chosen or "")
        path.unlink()
        path.with_name(path.name + ".md").unlink(missing_ok=True)
        return [
            gr.update(visible=False),
            _table(desk),
            gr.update(choices=[one["file"] for one in desk.models()], value=None),
        ]

    @handled
    def import_it(upload: str | None) -> list[Any]:
        if upload is None:
            return ["", *show()]
        try:
            target = _import(desk, Path(upload))
        except ParamsError as error:
            return [view.note(str(error), "alarm"), *show()]
        return [view.note(f"{target.name} was checked and imported"), *show()]

    model.change(card_of, model, card, api_visibility="private")
    rename.click(rename_it, [model, name], shown, api_visibility="private")
    delete.click(ask, model, [question, asked], api_visibility="private")
    yes.click(delete_it, model, [question, *shown], api_visibility="private")
    no.click(lambda: gr.update(visible=False), None, question, queue=False, api_visibility="private")
    # One at a time: each takes two processes with PyTorch.
    incoming.upload(import_it, incoming, [imported, *shown], api_visibility="private", concurrency_limit=1)
    tab.select(show, None, shown, show_progress="hidden", api_visibility="private")
    page.load(show, None, shown, show_progress="hidden", api_visibility="private")


def _import(desk: Desk, upload: Path) -> Path:
    """Check a model file as `distill verify` does and move it to the models, with its card. Raises ParamsError."""
    target = desk.workspace.new_model(upload.name.removesuffix(MODEL_SUFFIX))
    _asked("verify", upload)
    card = _asked("inspect", upload, "--card").replace(upload.name, target.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    _move(upload, target)
    write_bytes(target.with_name(target.name + ".md"), card.encode())
    return target


def _move(path: Path, target: Path) -> None:
    """Rename a model. Raises ParamsError where there is one of the new name by then, such as of a training."""
    if not rename_to_new(path, target):
        raise ParamsError(f"name {target.stem!r}: expected a new name, found a model of this name; choose another name")


def _asked(command: str, upload: Path, *rest: str) -> str:
    """What a command says of an uploaded model. Raises ParamsError with its sentence where it refuses the file."""
    arguments = [sys.executable, "-P", "-m", "distill", command, str(upload), *rest]
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=VERIFY_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise ParamsError(
            f"{upload.name}: expected a Distill model, found a file that takes minutes to check"
        ) from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("distill: ")]
        said = (
            lines[-1].removeprefix("distill: ").replace(str(upload), upload.name) if lines else "it cannot be checked"
        )
        raise ParamsError(f"not imported: {said}")
    return done.stdout


def _table(desk: Desk) -> str:
    models = desk.models()
    if not models:
        return view.note("No models yet. Train one in the tab Train, or import one.")
    return view.table(HEAD, [_row(one) for one in models])


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    date = one["date"][:16].replace("T", " ")
    if one["problem"]:
        return (one["file"], date, *["–"] * 6, one["problem"])
    used, bits = one["utilization"], one["val_bits_per_second"]
    return (
        one["name"],
        date,
        str(one["recordings"] or "–"),
        one["tier"] or "–",
        "–" if used is None else f"{used:.0%}",
        "–" if bits is None else f"{bits:.0f}",
        ", ".join(one["labels"][:8]) + (" …" if len(one["labels"]) > 8 else ""),
        "yes" if one["can_generate"] else "no",
        "yes" if one["can_judge"] else "no",
    )
