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
        float | None, typer.Option(help="length of each sound; without it they end by themselves", **limits(Seconds))
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="the same seed gives the same sounds; without it any", **limits(SamplingSeed))
    ] = None,
    temperature: Annotated[float, typer.Option(help="below 1 tamer, above 1 wilder", **limits(Temperature))] = 1.0,
    top_k: Annotated[int, typer.Option(help="draw from so many likeliest codes; 0 = all", **limits(TopK))] = 0,
    top_p: Annotated[float, typer.Option(help="draw from the likeliest codes of this share", **limits(TopP))] = 1.0,
    prompt: Annotated[
        Path | None, typer.Option(metavar="AUDIO", help="a recording to go on from; --seconds counts what is new")
    ] = None,
    label: Annotated[str | None, typer.Option(help="what kind of sound, of a model that learnt labels")] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            help="with --label: 1 as learnt, above 1 more of what is special about it",
            show_default="2",
            **limits(Guidance),
        ),
    ] = None,
    min_novelty: Annotated[
        str | None,
        typer.Option(
            metavar="close|new|0...1",
            help="draw again: copies (close), what is not new (new), or what less than that share of held-out recordings "
            "is more like the training recordings than",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the sounds go")] = Path("generated"),
    kind: Annotated[AudioFormat, typer.Option("--format", help="file format")] = "wav",
    as_json: Json = False,
) -> None:
    """Make new sounds, and say how new each is beside the recordings that the model learnt."""
    from distill.api import Model, seed_or_any
    from distill.audio.write import write_audio
    from distill.cli.flags import check_inputs, make_folder
    from distill.cli.reports import generated_json, novelty_words, set_words
    from distill.progress import ProgressReport

    if prompt is not None:
        check_inputs([prompt], "--prompt")
    loaded = Model(model)
    loaded.check_request(label, min_novelty)
    make_folder("--out", out)
    seed = seed_or_any(seed)  # which files are named by
    paths = [out / f"{model.stem}_{seed}_{number:03d}.{kind}" for number in range(count)]
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
            progress=progress,
            take=lambda number, samples: write_audio(paths[number], samples, loaded.sample_rate, kind),
        )
    if as_json:
        print_json({"model": str(model), "label": label, **generated_json(made, paths)})
        return
    for path, length, novelty in zip(paths, made.seconds, made.novelty, strict=True):
        known = "" if novelty is None else f"  {novelty_words(novelty)}"
        print(f"{path}  {length:.2f} s{known}")
    for line in set_words(made):
        print(line)
