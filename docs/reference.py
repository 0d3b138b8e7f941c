"""Reference tables made from the code, so that they are true: commands with their flags, settings with their ranges."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
import yaml

from distill.cli.main import app
from distill.params import Params

PARAMS = Path(__file__).parents[1] / "params.yaml"
BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
TYPES = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}

MEANINGS = {  # of keys whose names say it all beside the file
    "seed": "another seed: another split, other weights, other sounds",
    "vqvae.codebook_size": "codewords of each level",
    "vqvae.epochs": "the most epochs",
    "vqvae.learning_rate": "of AdamW, with a cosine schedule",
    "vqvae.dropout": "share of channels",
    "vqvae.commitment_weight": "weight of the commitment loss",
    "vqvae.batch_size": "crops in a step; ten minutes of sound at most",
    "vqvae.crop_seconds": "length of a crop",
    "vqvae.hidden_size": "width of the decoder; the encoder has half of it",
    "vqvae.num_layers": "ConvNeXt blocks of the decoder",
    "vqvae.latent_size": "numbers that describe a frame before it is quantised",
    "vqvae.weight_decay": "of AdamW",
    "vqvae.gradient_clip": "largest norm of the gradient",
    "prior.hidden_size": "width; a multiple of `num_heads`",
    "prior.num_layers": "transformer blocks",
    "prior.num_heads": "attention heads",
    "prior.dropout": "share of features",
    "prior.epochs": "the most epochs",
    "prior.learning_rate": "of AdamW, with a cosine schedule",
    "prior.batch_size": "windows in a step",
    "prior.weight_decay": "of AdamW",
    "prior.gradient_clip": "largest norm of the gradient",
    "prior.warmup_steps": "steps in which the learning rate rises",
    "audition.count": "how many sounds",
    "audition.max_seconds": "length of a sound at most",
    "audition.temperature": "below 1 tamer, above 1 wilder",
    "audition.top_p": "the most probable codes that have this share together; 1 = all",
}


def commands() -> dict[str, Any]:
    """The subcommands of `distill` by name."""
    group: Any = typer.main.get_command(app)
    found: dict[str, Any] = group.commands
    return found


def flags(command: Any) -> set[str]:
    """All flags of a command."""
    options = (option for option in command.params if option.param_type_name == "option")
    return {flag for option in options for flag in (*option.opts, *option.secondary_opts)} | {"--help"}


def commands_markdown() -> str:
    """A section for every command: what it does, how it is called, its arguments and flags."""
    return "\n\n".join(_section(name, command) for name, command in commands().items())


def settings_markdown() -> str:
    """A table for every section of `params.yaml`: each key, its value there, what it may be and the comment beside it."""
    schema = Params.model_json_schema()
    sections: dict[str, list[str]] = {}
    for path, comment in _written():
        value: Any = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
        kind: Any = schema
        for key in path:
            value = value[key]
            kind = _resolved(schema, kind["properties"][key])
        if not isinstance(value, dict):
            meaning = comment or MEANINGS.get(".".join(path), "")
            cells = (f"`{path[-1]}`", f"`{_plain(value)}`", _range(schema, kind), meaning)
            sections.setdefault(".".join(path[:-1]), []).append(_row(*cells))
    head = [_row("key", "value", "allowed", "meaning"), _row(*["---"] * 4)]
    return "\n\n".join(
        f"### {f'`{name}`' if name else 'Top level'}\n\n" + "\n".join([*head, *rows]) for name, rows in sections.items()
    )


GENERATED: dict[str, Callable[[], str]] = {"commands": commands_markdown, "settings": settings_markdown}


def _section(name: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    usage = " ".join(["distill", name, *(one.metavar or one.name.upper() for one in arguments), "[options]"])
    rows = [
        _row(f"`{one.metavar or one.name.upper()}`", "required" if one.required else "", one.help or "")
        for one in arguments
    ]
    for one in options:
        value = "" if one.is_flag else f" {_value(one)}"
        shown = ", ".join(f"`{flag}{value}`" for flag in sorted(one.opts, key=len))
        rows.append(_row(shown, _default(one), _help(one)))
    table = "\n".join([_row("argument or flag", "default", "meaning"), _row("---", "---", "---"), *rows])
    return f"## `distill {name}`\n\n{_literal(command.help.strip())}\n\n```sh\n{usage}\n```\n\n{table}"


def _value(option: Any) -> str:
    kind = option.type_descriptor.annotation
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    return str(option.metavar or {int: "N", float: "X"}.get(kind, "TEXT"))


def _default(option: Any) -> str:
    if isinstance(option.show_default, str):
        return option.show_default
    if option.required:
        return "required"
    return "" if option.default is None or option.is_flag else f"`{option.default}`"


def _help(option: Any) -> str:
    bounds = [f"{word} {bound}" for word, bound in (("from", option.min), ("to", option.max)) if bound is not None]
    within = f" ({' '.join(bounds)})" if bounds else ""
    return f"{_literal(option.help or '')}{within}"


def _literal(text: str) -> str:
    """Flags and variables in running text as code."""
    return re.sub(r"(?<![`\w])(--[a-z-]+|[A-Z]+_[A-Z_]+)", r"`\1`", text)


def _written() -> Iterator[tuple[tuple[str, ...], str]]:
    """Every key of `params.yaml` outside `qualities` and `tiers`, as a path, with the comment on its line."""
    path: list[str] = []
    for line in PARAMS.read_text(encoding="utf-8").splitlines():
        found = re.match(r"( *)(\w+):[^#]*(?:# (.*))?$", line)
        if found:
            path = [*path[: len(found[1]) // 2], found[2]]
            if path[0] not in ("qualities", "tiers"):
                yield tuple(path), found[3] or ""


def _resolved(schema: Any, kind: Any) -> Any:
    while "$ref" in kind:
        kind = schema["$defs"][kind["$ref"].split("/")[-1]]
    return kind


def _range(schema: Any, kind: Any) -> str:
    kind = _resolved(schema, kind)
    if "anyOf" in kind:
        return " or ".join(_range(schema, one) for one in kind["anyOf"])
    if "enum" in kind:
        return ", ".join(f"`{one}`" for one in kind["enum"])
    if "const" in kind:
        return f"`{kind['const']}`"
    bounds = [f"{word} {_plain(kind[key])}" for key, word in BOUNDS.items() if key in kind]
    return " ".join([TYPES[kind["type"]], *bounds])


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
