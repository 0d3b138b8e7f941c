"""`distill kit`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from distill.cli.app import Json, ModelPath, SamplingTemperature, SeedOrAny, app, limits, print_json, print_note
from distill.kit.kit import KitSeconds, PerLabel, VelocityLayers
from distill.text import one_line


@app.command()
def kit(
    model: ModelPath,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="where the kit goes: a new or an empty folder")
    ],
    per_label: Annotated[int, typer.Option(help="sounds of each label", **limits(PerLabel))] = 4,
    formats: Annotated[
        str, typer.Option("--format", metavar="FORMATS", help="sfz, dspreset (DecentSampler), or both with a comma")
    ] = "sfz,dspreset",
    seed: SeedOrAny = None,
    seconds: Annotated[
        float, typer.Option(help="the longest sound; sounds end by themselves before", **limits(KitSeconds))
    ] = 10.0,
    temperature: SamplingTemperature = 1.0,
    velocity_layers: Annotated[
        int,
        typer.Option(help="layers by loudness, soft sounds for low velocities; 1 is none", **limits(VelocityLayers)),
    ] = 1,
    label: Annotated[
        list[str] | None, typer.Option(help="only this label; several times for several", show_default="all")
    ] = None,
    allow_copies: Annotated[
        bool, typer.Option("--allow-copies", help="keep sounds that repeat a training recording")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="replace the kit in that folder")] = False,
    as_json: Json = False,
) -> None:
    """Make an instrument for samplers: new sounds on keys, as SFZ and DecentSampler files.

    Drums are on the keys of General MIDI, other sounds on white keys from C1 (24) upwards. Sounds of one label are round
    robins. Sounds that are copies of training recordings are left out.
    """
    from distill.api import Model
    from distill.progress import ProgressReport

    loaded = Model(model)
    print_note(loaded)
    with ProgressReport("kit") as progress:
        made = loaded.kit(
            out,
            per_label=per_label,
            formats=[name.strip() for name in formats.split(",")],
            seed=seed,
            seconds=seconds,
            temperature=temperature,
            velocity_layers=velocity_layers,
            labels=label or [],
            allow_copies=allow_copies,
            replace=replace,
            progress=progress,
        )
    for line in made.missing_lines:
        print(f"distill: warning: {line}", file=sys.stderr)
    if as_json:
        print_json({"folder": str(out), **made.json()})
        return
    for group in made.sounding:
        print(f"{group.key.name:<4} {group.key.number:>3}  {len(group.sounds)} x {one_line(group.label, 60)}")
    print(f"{out}  {len(made.sounds)} sounds on {len(made.sounding)} keys")
    print(f"verdicts {made.verdict_line}")
    print(f"seed {made.settings.seed}")
