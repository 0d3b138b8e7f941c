"""`distill inspect` and `distill verify`."""

from typing import Annotated

import typer

from distill.cli.app import Json, ModelPath, app, print_json


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
        print_json(metadata.model_dump(mode="json"))
        return
    from rich.console import Console

    from distill.model_file.inspect import describe

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
