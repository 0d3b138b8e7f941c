"""Tab Library: models of the folder."""

import re
import subprocess
import textwrap
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from distill.errors import ParamsError
from distill.storage.files import check_replaceable, made_by_distill, rename_to_new, write_bytes
from distill.ui import view
from distill.ui.forms import PRIVATE, QUIET
from distill.ui.jobs import MOST_BYTES, read_end
from distill.ui.workspace import Workspace, distill


class LibraryTab:
    """Table of all models, actions on the left, card on the right."""

    def __init__(
        self, work: Workspace, page: gr.Blocks, tab: gr.Tab, generating: gr.Dropdown
    ) -> None:
        self._work = work
        listed = gr.HTML(elem_id="library")
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                model = gr.Dropdown([], label="Model", elem_id="library-model")
                name = gr.Textbox(label="New name", max_length=100)
                with gr.Row():
                    rename, delete = (
                        gr.Button("Rename"),
                        gr.Button("Delete", elem_id="library-delete"),
                    )
                incoming = gr.File(
                    label="Import a model from somebody else", file_count="single", elem_id="import"
                )
                imported = gr.HTML(elem_id="imported")
            with gr.Column(min_width=320, scale=2, elem_classes="results"):
                download = gr.HTML(elem_id="model-download")
                card = gr.Markdown(elem_id="card", sanitize_html=True)
        shown = [listed, model]
        model.change(self.card_of, model, [download, card], **QUIET)
        rename.click(self.rename, [model, name, generating], [*shown, generating], **PRIVATE)
        # The browser asks before a model is deleted.
        ask = (
            "(name) => name && confirm(`Delete ${name}? It cannot be brought back.`) ? name : null"
        )
        delete.click(self.delete, model, shown, js=ask, **PRIVATE)
        # One at a time: each import starts two processes with PyTorch.
        checking = view.note("The model is being checked: some seconds.")
        checks = incoming.upload(lambda: checking, None, imported, **QUIET)
        checks.then(self.take, incoming, [imported, *shown], **PRIVATE, concurrency_limit=1)
        for event in (tab.select, page.load):
            event(self._show, None, shown, **QUIET)

    def _show(self, **chosen: Any) -> list[Any]:
        models = self._work.listed()
        nothing = "No models yet. Train one in the tab Train, or import one."
        head = (
            "model",
            "written (UTC)",
            "recordings",
            "preset",
            "codewords used",
            "bits per second",
            "labels",
            "can",
        )
        table = view.table(head, [_row(model) for model in models], nothing)
        return [table, gr.update(choices=[model["file"] for model in models], **chosen)]

    def card_of(self, chosen: str | None) -> list[str]:
        """Download link and card of a model; "" for both if none is chosen."""
        if not chosen:
            return ["", ""]
        path = self._work.check_inside(self._work.model(chosen))
        link = f'<a href="{view.address(path)}" download>Download {escape(path.name)}</a>'
        return [link, read_end(self._work.check_inside(_card(path)), MOST_BYTES)]

    def rename(self, chosen: str | None, new: str, generating: str | None) -> list[Any]:
        """Rename a model and its card, also in the form of the tab Generate."""
        path, target = self._work.model(chosen), self._work.new_model(new)
        check_replaceable("name", [_card(target)], replace=True)
        move(path, target)
        if _card(path).is_file():
            write_bytes(
                _card(target),
                _card(path).read_bytes().replace(path.name.encode(), target.name.encode()),
            )
            _card(path).unlink()
        names = self._work.names(True)
        used = target.name if generating == chosen else generating
        return [*self._show(value=target.name), gr.update(choices=names, value=used)]

    def delete(self, chosen: str | None) -> list[Any]:
        """Delete a model and its card."""
        if chosen is None:
            return self._show()
        path = self._work.model(chosen)
        path.unlink()
        if made_by_distill(_card(path)):
            _card(path).unlink()
        return self._show(value=None)

    def take(self, upload: str) -> list[Any]:
        """Verify an uploaded model file, as `distill verify`, and move it to the models, with its card."""
        path = Path(upload)
        target = self._work.new_model(path.name)
        check_replaceable("name", [_card(target)], replace=True)
        _asked("verify", path)
        card = _asked("inspect", path, "--card").replace(path.name, target.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        move(path, target)
        write_bytes(_card(target), card.encode())
        return [view.note(f"{target.name} was checked and imported"), *self._show()]


def move(path: Path, target: Path) -> None:
    """Rename a model. Raises ParamsError if the name is taken, for example by a training meanwhile."""
    if not rename_to_new(path, target):
        raise ParamsError(
            f"name {target.stem!r}: expected a new name, found a model of this name; choose another name"
        )


def _card(model: Path) -> Path:
    return model.with_name(model.name + ".md")


def _asked(command: str, upload: Path, *rest: str) -> str:
    """Output of a command on an uploaded model. Raises ParamsError with the command's message if it fails."""
    try:
        done = distill(command, str(upload), *rest, seconds=300)
    except subprocess.TimeoutExpired as error:
        text = f"{upload.name}: expected a Distill model, found a file that takes minutes to check"
        raise ParamsError(text) from error
    if done.returncode != 0:
        refusal = [
            "it cannot be checked",
            *re.findall("^distill: (.*)", done.stderr, re.MULTILINE),
        ][-1]
        raise ParamsError(f"not imported: {refusal.replace(str(upload), upload.name)}")
    return done.stdout


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    """Row of the table for a model of `distill list --json`."""
    figures = (
        (model["recordings"], "d"),
        (model["utilization"], ".0%"),
        (model["val_bits_per_second"], ".0f"),
    )
    recordings, used, bits = (
        "–" if value is None else f"{value:{form}}" for value, form in figures
    )
    labels = textwrap.shorten(", ".join(model["labels"]), 80, placeholder=" …")
    abilities = {"generate": model["can_generate"], "judge": model["can_judge"]}
    can = ", ".join(name for name, has in abilities.items() if has)
    date, ability = (
        model["date"][:16].replace("T", " "),
        model["problem"] or can or "encode, decode",
    )
    return (model["name"], date, recordings, model["tier"] or "–", used, bits, labels, ability)
