"""`distill inspect`, `distill verify` and `distill list`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from distill.cli.flags import Json, ModelPath, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from distill.model_file.inspect import ListedModel


def inspect(
    model: ModelPath,
    card: Annotated[bool, Option("--card", help="print the model card, in Markdown")] = False,
    as_json: Json = False,
) -> None:
    """Check a model file and show its contents."""
    from rich.console import Console

    from distill.model_file.build import card_text
    from distill.model_file.format import load_bundle
    from distill.model_file.inspect import describe

    metadata = load_bundle(model).metadata
    if card:
        print(card_text(model.name, metadata), end="")
    elif as_json:
        print_json(metadata.file_json())
    else:
        console = Console(highlight=False)
        console.print(describe(model, metadata, console.width), crop=False)


def verify(model: ModelPath, as_json: Json = False) -> None:
    """Check everything about a model file: form, metadata, weights, hashes; and try its networks."""
    from distill.model_file.inspect import verify as verified

    found = verified(model)
    if as_json:
        print_json({"model": str(model), "ok": True, "checks": dict(found)})
    else:
        print(*(f"ok  {what:10}{result}" for what, result in found), sep="\n")


def list_folder(
    folder: Annotated[Path, Argument(metavar="DIR", help="a folder of model files")] = Path("models"),
    as_json: Json = False,
) -> None:
    """List the model files of a folder: what each was trained on, how well, and what it can do.

    Files that are no models are named with the reason. Weights are not read: distill verify checks them.
    """
    from rich.console import Console

    from distill.model_file.inspect import list_models

    models = list_models(folder)
    if as_json:
        print_json({"folder": str(folder), "models": [asdict(model) for model in models]})
        return
    console = Console(highlight=False)
    good = [model for model in models if not model.problem]
    if good:
        console.print(_table(good))
    remarks = [line for model in models for line in _remarks(model)]
    for line in remarks if models else [f"no model files in {folder}"]:
        console.print(line, markup=False, soft_wrap=True)


def _table(models: "list[ListedModel]") -> "Table":
    from rich.table import Table

    from distill.progress import plain

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("model", overflow="fold")
    for title in ("written (UTC)", "recordings", "tier", "used", "bits/s", "can"):
        table.add_column(title, no_wrap=True, justify="right" if title in ("recordings", "used", "bits/s") else "left")
    for model in models:
        can = ["generate"] * model.can_generate + ["judge"] * model.can_judge
        figures = ((model.recordings, "d"), (model.utilization, ".0%"), (model.val_bits_per_second, ".0f"))
        recordings, used, bits = ("–" if value is None else f"{value:{form}}" for value, form in figures)
        date, can_do = model.date[:16].replace("T", " "), ", ".join(can) or "encode"
        table.add_row(plain(model.name), date, recordings, model.tier or "–", used, bits, can_do)
    return table


def _remarks(model: "ListedModel") -> list[str]:
    if model.problem:
        return [f"no model: {model.problem}"]
    lines = [f"{model.name}: labels {', '.join(model.labels)}"] if model.labels else []
    warning = f"warning: {model.name} memorised its recordings; `distill inspect` tells more"
    return lines + [warning] * model.was_memorizing
