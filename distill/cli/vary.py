"""`distill vary`."""

from pathlib import Path
from typing import Annotated

import typer

from distill.audio.write import AudioFormat
from distill.cli.app import Json, ModelPath, app, limits, print_json
from distill.params import Guidance, SamplingSeed, Sounds, Strength, Temperature


@app.command()
def vary(
    model: ModelPath,
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help="the recording to vary", show_default=False)],
    count: Annotated[int, typer.Option("-n", "--count", help="how many takes", **limits(Sounds))] = 8,
    strength: Annotated[
        float,
        typer.Option(
            help="how much changes: 0 gives the decoded recording, 1 new sounds of its length", **limits(Strength)
        ),
    ] = 0.3,
    seed: Annotated[
        int | None, typer.Option(help="equal seeds give equal takes; without it a random one", **limits(SamplingSeed))
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="sampling temperature: below 1 less random, above 1 more", **limits(Temperature))
    ] = 1.0,
    label: Annotated[str | None, typer.Option(help="label of the takes, for models trained with labels")] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            help="with --label: scale of classifier-free guidance; 1 is none, above 1 follows the label more strongly",
            show_default="2",
            **limits(Guidance),
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="where the takes go")] = Path("varied"),
    kind: Annotated[AudioFormat, typer.Option("--format", help="file format")] = "wav",
    pictures: Annotated[
        bool, typer.Option("--pictures", help="also write spectrograms, and the nearest recordings to listen to")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make new takes of a recording, and report how near each is to it and to the training recordings."""
    from distill.api import Model
    from distill.audio.write import write_audio
    from distill.cli.companions import with_companions, write_companions
    from distill.cli.flags import check_inputs, make_folder
    from distill.cli.reports import print_note, similarity_line, varied_json, varied_lines
    from distill.codes.transcode import printable_stem
    from distill.progress import ProgressReport
    from distill.requests import seed_or_any
    from distill.storage.made import check_replaceable

    check_inputs([audio])
    loaded = Model(model)
    loaded.check_request(label)
    print_note(loaded)
    samples = loaded.samples_to_vary(audio)
    make_folder("--out", out)
    seed = seed_or_any(seed)  # part of the files' names
    paths = [out / f"{printable_stem(audio)}_{seed}_{number:03d}.{kind}" for number in range(count)]
    check_replaceable("--out", with_companions(paths) if pictures else paths, replace=True)
    with ProgressReport("vary") as progress:
        made = loaded.vary(
            samples,
            count,
            strength,
            seed,
            temperature=temperature,
            label=label,
            guidance=guidance,
            progress=progress,
            take=lambda number, samples: write_audio(paths[number], samples, loaded.sample_rate, kind),
        )
    if pictures:
        write_companions(loaded, paths, made.novelty)
    if as_json:
        print_json({"model": str(model), "recording": str(audio), "label": label, **varied_json(made, paths)})
        return
    for path, length, similarity, novelty in zip(paths, made.seconds, made.similarity, made.novelty, strict=True):
        print(f"{path}  {length:.2f} s  {similarity_line(similarity, novelty)}")
    for line in varied_lines(made):
        print(line)
