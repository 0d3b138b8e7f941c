"""`distill generate`."""

from pathlib import Path
from typing import Annotated

import typer

from distill.audio.write import AudioFormat
from distill.cli.app import Json, ModelPath, app, limits, print_json
from distill.params import Guidance, SamplingSeed, Seconds, Sounds, Temperature, TopK, TopP


@app.command()
def generate(
    model: ModelPath,
    count: Annotated[int, typer.Option("-n", "--count", help="how many sounds", **limits(Sounds))] = 1,
    seconds: Annotated[
        float | None, typer.Option(help="length of each sound; without it sounds end by themselves", **limits(Seconds))
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="equal seeds give equal sounds; without it a random one", **limits(SamplingSeed))
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="sampling temperature: below 1 less random, above 1 more", **limits(Temperature))
    ] = 1.0,
    top_k: Annotated[int, typer.Option(help="sample from the K likeliest codes; 0 = all", **limits(TopK))] = 0,
    top_p: Annotated[
        float,
        typer.Option(help="sample from the likeliest codes that hold this share of the probability", **limits(TopP)),
    ] = 1.0,
    prompt: Annotated[
        Path | None, typer.Option(metavar="AUDIO", help="a recording to continue; --seconds leaves it out")
    ] = None,
    label: Annotated[str | None, typer.Option(help="label of the sounds, for models trained with labels")] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            help="with --label: scale of classifier-free guidance; 1 is none, above 1 follows the label more strongly",
            show_default="2",
            **limits(Guidance),
        ),
    ] = None,
    min_novelty: Annotated[
        str | None,
        typer.Option(
            metavar="close|new|0...1",
            help="redraw sounds that are copies (close), that are not new (new), or whose novelty percentile is above 1 - "
            "this number",
        ),
    ] = None,
    reject_faults: Annotated[
        bool, typer.Option("--reject-faults", help="redraw sounds that are faulty, and say how many")
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="where the sounds go")] = Path("generated"),
    kind: Annotated[AudioFormat, typer.Option("--format", help="file format")] = "wav",
    pictures: Annotated[
        bool, typer.Option("--pictures", help="also write spectrograms, and the nearest recordings to listen to")
    ] = False,
    as_json: Json = False,
) -> None:
    """Generate new sounds, and report how new each is compared with the training recordings, and which are faulty."""
    from distill.api import Model
    from distill.audio.write import write_audio
    from distill.cli.companions import with_companions, write_companions
    from distill.cli.flags import check_inputs, make_folder
    from distill.cli.reports import generated_json, print_note, set_lines
    from distill.novelty.verdict import explain
    from distill.progress import ProgressReport
    from distill.requests import seed_or_any
    from distill.storage.made import check_replaceable

    if prompt is not None:
        check_inputs([prompt], "--prompt")
    loaded = Model(model)
    loaded.check_request(label, min_novelty, reject_faults)
    print_note(loaded)
    make_folder("--out", out)
    seed = seed_or_any(seed)  # part of the files' names
    paths = [out / f"{model.stem}_{seed}_{number:03d}.{kind}" for number in range(count)]
    check_replaceable("--out", with_companions(paths) if pictures else paths, replace=True)
    with ProgressReport("generate") as progress:
        made = loaded.generate(
            count,
            seconds,
            seed,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            label=label,
            guidance=guidance,
            prompt=prompt,
            min_novelty=min_novelty,
            reject_faults=reject_faults,
            progress=progress,
            take=lambda number, samples: write_audio(paths[number], samples, loaded.sample_rate, kind),
        )
    if pictures:
        write_companions(loaded, paths, made.novelty)
    if as_json:
        print_json({"model": str(model), "label": label, **generated_json(made, paths)})
        return
    for path, length, novelty, faults in zip(paths, made.seconds, made.novelty, made.faults, strict=True):
        judged = "" if novelty is None else f"  {explain(novelty)}"
        found = f"  Faulty: {', '.join(faults)}" if faults else ""
        print(f"{path}  {length:.2f} s{judged}{found}")
    for line in set_lines(made):
        print(line)
