"""`distill inspect`, `distill verify` and `distill list`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli.app import Json, ModelPath, app, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from distill.model_file.library import ListedModel

UNKNOWN = "–"


@app.command()
def inspect(
    model: ModelPath,
    card: Annotated[bool, typer.Option("--card", help="print the model card, in Markdown")] = False,
    as_json: Json = False,
) -> None:
    """Check a model file and show its contents."""
    from distill.model_file.format import load_bundle

    metadata = load_bundle(model).metadata
    if card:
        from distill.model_file.card import card_text

        print(card_text(model.name, metadata), end="")
        return
    if as_json:
        print_json(metadata.file_json())
        return
    from rich.console import Console

    from distill.model_file.card import describe

    console = Console(highlight=False)
    console.print(describe(model, metadata, console.width), crop=False)


@app.command()
def verify(model: ModelPath, as_json: Json = False) -> None:
    """Check everything about a model file: form, metadata, weights, hashes; and try its networks."""
    from distill.model_file.verify import verify as verified

    found = verified(model)
    if as_json:
        print_json({"model": str(model), "ok": True, "checks": dict(found)})
        return
    for what, result in found:
        print(f"ok  {what:10}{result}")


@app.command("list")
def list_folder(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a folder of model files")] = Path("models"),
    as_json: Json = False,
) -> None:
    """List the model files of a folder: what each was trained on, how well, and what it can do.

    Files that are no models are named with the reason. Weights are not read: distill verify checks them.
    """
    from distill.model_file.library import list_models

    models = list_models(folder)
    if as_json:
        print_json({"folder": str(folder), "models": [asdict(model) for model in models]})
        return
    from rich.console import Console

    console = Console(highlight=False)
    good = [model for model in models if not model.problem]
    if good:
        console.print(_table(good))
    for model in models:
        for line in _remarks(model):
            console.print(line, markup=False, soft_wrap=True)
    if not models:
        console.print(f"no model files in {folder}", markup=False, soft_wrap=True)


def _table(models: "list[ListedModel]") -> "Table":
    from rich.table import Table

    from distill.progress import plain

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("model", overflow="fold")
    for title in ("written (UTC)", "recordings", "tier", "used", "bits/s", "can"):
        table.add_column(title, no_wrap=True, justify="right" if title in ("recordings", "used", "bits/s") else "left")
    for model in models:
        can = ["generate"] * model.can_generate + ["judge"] * model.can_judge
        table.add_row(
            plain(model.name),
            model.date[:16].replace("T", " "),
            _figure(model.recordings, "d"),
            model.tier or UNKNOWN,
            _figure(model.utilization, ".0%"),
            _figure(model.val_bits_per_second, ".0f"),
            ", ".join(can) or "encode",
        )
    return table


def _remarks(model: "ListedModel") -> list[str]:
    if model.problem:
        return [f"no model: {model.problem}"]
    lines = [f"{model.name}: labels {', '.join(model.labels)}"] if model.labels else []
    warning = f"warning: {model.name} memorised its recordings; `distill inspect` tells more"
    return lines + [warning] * model.was_memorizing


def _figure(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else f"{value:{form}}"
