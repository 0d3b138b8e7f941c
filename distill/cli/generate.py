"""`distill generate` and `distill vary`, their reports, and the files beside their sounds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill.audio.write import AudioFormat
from distill.cli.app import Json, ModelPath, SamplingTemperature, SeedOrAny, app, limits, print_json, print_note
from distill.params import Guidance, Seconds, Sounds, Strength, TopK, TopP

if TYPE_CHECKING:
    from distill.api import Generated, Model, Samples
    from distill.generate.variations import Similarity, Varied
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
    if pictures:
        _write_companions(loaded, paths, made.novelty)
    if as_json:
        print_json({"model": str(model), "label": label, **_generated_json(made, paths)})
    else:
        _print_sounds(paths, made.seconds, _sound_texts(made), _set_lines(made))


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
    if pictures:
        _write_companions(loaded, paths, made.novelty)
    if as_json:
        print_json({"model": str(model), "recording": str(audio), "label": label, **_varied_json(made, paths)})
    else:
        texts = map(_take_text, made.similarity, made.novelty)
        _print_sounds(paths, made.seconds, texts, _take_lines(made))


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


def _print_sounds(paths: Sequence[Path], seconds: Iterable[float], texts: Iterable[str], lines: Iterable[str]) -> None:
    """A line a sound, then lines on all of them."""
    for path, length, text in zip(paths, seconds, texts, strict=True):
        print(f"{path}  {length:.2f} s{text}")
    for line in lines:
        print(line)


def _sound_texts(made: "Generated") -> Iterable[str]:
    """How new each sound is, and its faults."""
    from distill.novelty.verdict import explain

    for novelty, faults in zip(made.novelty, made.faults, strict=True):
        judged = "" if novelty is None else f"  {explain(novelty)}"
        yield judged + (f"  Faulty: {', '.join(faults)}" if faults else "")


def _set_lines(made: "Generated") -> list[str]:
    """Lines on the set of sounds: verdicts, distance, faults, seed."""
    lines = []
    if made.redrawn:
        left = f"; {made.not_new} still are not new enough" if made.not_new else ""
        lines.append(f"{made.redrawn} sound{'s' * (made.redrawn != 1)} drawn again for lack of novelty{left}")
    report = made.report
    if report is not None:
        lines.append(
            f"{report.new} new, {report.close} close, {report.copies} copies; mean novelty percentile "
            f"{report.mean_percentile_codes:.0%} in codes, {report.mean_percentile_spectra:.0%} in spectra "
            "(50 %: as new as held-out recordings)"
        )
        lines.append(report.distance_sentence)
    if made.fault_report is not None:
        lines += made.fault_report.lines
    if any(one is None for one in made.novelty):
        lines.append("novelty and faults unknown: the model has no codes of its training recordings")
    return [*lines, f"seed {made.seed}"]


def _take_text(similarity: "Similarity", novelty: "Novelty | None") -> str:
    """How a take compares with the recording that it varies, and with the training recordings."""
    from distill.novelty.verdict import explain

    verdict = "" if similarity.verdict is None else f"{similarity.verdict}: "
    own = f"  beside the recording {verdict}{similarity.equal_codes:.0%} of codes equal, {similarity.difference_db:.1f} dB"
    return own if novelty is None else f"{own}; among the training recordings: {explain(novelty)}"


def _take_lines(made: "Varied") -> list[str]:
    """Lines on all takes: equal ones, seed."""
    lines = []
    if made.equal:
        lines.append(
            f"{made.equal} take{'s' * (made.equal != 1)} the same as the recording or another take; "
            "a higher --strength changes more"
        )
    if any(one is None for one in made.novelty):
        lines.append("novelty unknown: the model has no codes of its training recordings")
    return [*lines, f"seed {made.seed}"]


def _novelty_json(path: Path, seconds: float, novelty: "Novelty | None") -> dict[str, Any]:
    """What `--json` says of every sound."""
    from distill.novelty.verdict import explain

    judged = (None, None) if novelty is None else (novelty.json(), explain(novelty))
    return {"file": str(path), "seconds": seconds, "novelty": judged[0], "explanation": judged[1]}


def _generated_json(made: "Generated", paths: Sequence[Path]) -> dict[str, Any]:
    """Sounds and set report for `--json`."""
    rows = [
        {**_novelty_json(path, seconds, novelty), "faults": None if faults is None else list(faults)}
        for path, seconds, novelty, faults in zip(paths, made.seconds, made.novelty, made.faults, strict=True)
    ]
    return {
        "seed": made.seed,
        "sample_rate": made.sample_rate,
        "sounds": rows,
        "redrawn": made.redrawn,
        "not_new": made.not_new,
        "summary": None if made.report is None else made.report.json(),
        "faults": None if made.fault_report is None else made.fault_report.json(),
    }


def _varied_json(made: "Varied", paths: Sequence[Path]) -> dict[str, Any]:
    """Takes for `--json`."""
    rows = [
        {**_novelty_json(path, seconds, novelty), "similarity": asdict(similarity)}
        for path, seconds, similarity, novelty in zip(paths, made.seconds, made.similarity, made.novelty, strict=True)
    ]
    return {
        "seed": made.seed,
        "strength": made.strength,
        "sample_rate": made.sample_rate,
        "takes": rows,
        "redrawn": made.redrawn,
        "equal": made.equal,
    }
