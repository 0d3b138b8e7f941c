"""`distill generate` and `distill vary`, their reports, and the files beside their sounds."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill.audio.write import AudioFormat
from distill.cli.app import Json, ModelPath, SamplingTemperature, SeedOrAny, app, limits, print_json, print_note
from distill.params import Guidance, Seconds, Sounds, Strength, TopK, TopP

if TYPE_CHECKING:
    from distill.api import Model, Samples
    from distill.generate.results import Result
    from distill.novelty.verdict import Novelty

Label = Annotated[str | None, typer.Option(help="label of the sounds, for models trained with labels")]
GuidanceScale = Annotated[
    float | None,
    typer.Option(
        help="with --label: scale of classifier-free guidance; 1 is none, above 1 follows the label more strongly",
        show_default="2",
        **limits(Guidance),
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="where the sounds go")]
Format = Annotated[AudioFormat, typer.Option("--format", help="file format")]
Pictures = Annotated[
    bool, typer.Option("--pictures", help="also write spectrograms, and the nearest recordings to listen to")
]


@app.command()
def generate(
    model: ModelPath,
    count: Annotated[int, typer.Option("-n", "--count", help="how many sounds", **limits(Sounds))] = 1,
    seconds: Annotated[
        float | None, typer.Option(help="length of each sound; without it sounds end by themselves", **limits(Seconds))
    ] = None,
    seed: SeedOrAny = None,
    temperature: SamplingTemperature = 1.0,
    top_k: Annotated[int, typer.Option(help="sample from the K likeliest codes; 0 = all", **limits(TopK))] = 0,
    top_p: Annotated[
        float,
        typer.Option(help="sample from the likeliest codes that hold this share of the probability", **limits(TopP)),
    ] = 1.0,
    prompt: Annotated[
        Path | None, typer.Option(metavar="AUDIO", help="a recording to continue; --seconds leaves it out")
    ] = None,
    label: Label = None,
    guidance: GuidanceScale = None,
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
    out: Out = Path("generated"),
    kind: Format = "wav",
    pictures: Pictures = False,
    as_json: Json = False,
) -> None:
    """Generate new sounds, and report how new each is compared with the training recordings, and which are faulty."""
    from distill.api import Model
    from distill.cli.flags import check_inputs
    from distill.progress import ProgressReport

    if prompt is not None:
        check_inputs([prompt], "--prompt")
    loaded = Model(model)
    loaded.check_request(label, min_novelty, reject_faults)
    print_note(loaded)
    seed, paths = _place(out, model.stem, seed, count, kind, pictures)
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
            take=_writer(paths, loaded.sample_rate, kind),
        )
    _report(loaded, made, paths, pictures, {"model": str(model), "label": label} if as_json else None)


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
    seed: SeedOrAny = None,
    temperature: SamplingTemperature = 1.0,
    label: Label = None,
    guidance: GuidanceScale = None,
    out: Out = Path("varied"),
    kind: Format = "wav",
    pictures: Pictures = False,
    as_json: Json = False,
) -> None:
    """Make new takes of a recording, and report how near each is to it and to the training recordings."""
    from distill.api import Model
    from distill.cli.flags import check_inputs
    from distill.codes.transcode import printable_stem
    from distill.progress import ProgressReport

    check_inputs([audio])
    loaded = Model(model)
    loaded.check_request(label)
    print_note(loaded)
    samples = loaded.samples_to_vary(audio)
    seed, paths = _place(out, printable_stem(audio), seed, count, kind, pictures)
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
            take=_writer(paths, loaded.sample_rate, kind),
        )
    about = {"model": str(model), "recording": str(audio), "label": label}
    _report(loaded, made, paths, pictures, about if as_json else None)


def _place(
    out: Path, stem: str, seed: int | None, count: int, kind: AudioFormat, pictures: bool
) -> tuple[int, list[Path]]:
    """The seed, and the paths of the sounds, which have it in their names. Raises ParamsError where others' files are."""
    from distill.api import seed_or_any
    from distill.cli.flags import make_folder
    from distill.storage.made import check_replaceable

    make_folder("--out", out)
    seed = seed_or_any(seed)
    paths = [out / f"{stem}_{seed}_{number:03d}.{kind}" for number in range(count)]
    beside = [one for path in paths for one in (path.with_suffix(".png"), _nearest(path))] if pictures else []
    check_replaceable("--out", [*paths, *beside], replace=True)
    return seed, paths


def _writer(paths: Sequence[Path], sample_rate: int, kind: AudioFormat) -> "Callable[[int, Samples], None]":
    """What writes the sound of a number as soon as it is made."""
    from distill.audio.write import write_audio

    return lambda number, samples: write_audio(paths[number], samples, sample_rate, kind)


def _report(
    model: "Model", made: "Result", paths: Sequence[Path], pictures: bool, about: dict[str, Any] | None
) -> None:
    """Write what lies beside the sounds, and print `about` and all of them as JSON, or without it lines of text."""
    if pictures:
        _write_companions(model, paths, made.novelty)
    if about is not None:
        print_json({**about, **made.json(paths)})
    else:
        print(*made.lines(paths), sep="\n")


def _write_companions(model: "Model", paths: Sequence[Path], novelty: "Sequence[Novelty | None]") -> None:
    """Write `<sound>.png` and, where novelty is known, `<sound>_nearest.wav` beside each sound."""
    import soundfile

    from distill.audio.plots import write_spectrograms
    from distill.audio.write import write_audio
    from distill.progress import ProgressReport

    with ProgressReport("pictures") as progress:
        for number, (path, one) in enumerate(zip(paths, novelty, strict=True)):
            samples, rate = soundfile.read(BytesIO(path.read_bytes()), dtype="float32")
            rows = [(path.stem, samples)]
            if one is not None:
                nearest = model.nearest(one)
                write_audio(_nearest(path), nearest, model.sample_rate)
                rows.append((f"nearest training recording: {one.nearest.nearest}", nearest))
            write_spectrograms(path.with_suffix(".png"), rows, rate)
            progress(number + 1, len(paths), path.name)


def _nearest(path: Path) -> Path:
    return path.with_name(f"{path.stem}_nearest.wav")
