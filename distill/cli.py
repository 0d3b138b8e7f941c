"""The `distill` command: the library for people without DVC."""

import json
import secrets
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from distill.audio.writing import AudioFormat
from distill.errors import DistillError, ParamsError, environment_error

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

ModelPath = Annotated[Path, typer.Argument(metavar="MODEL.distill", help="a model file", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document on stdout and nothing else")]

MAX_NATURAL_SECONDS = 10.0


@app.callback()
def distill() -> None:
    """Learn a generative model of your own sounds, and make new ones from it."""


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="where the recordings go", show_default=False)],
    seed: Annotated[int, typer.Option(min=0, help="another seed, other sounds")] = 0,
    as_json: Json = False,
) -> None:
    """Synthesise the demo corpus: strings, bars, drums, bells, sweeps and chords as FLAC files."""
    from distill.audio.synthesis import write_demo

    _make_folder("DIR", folder)
    paths = write_demo(folder, seed)
    if as_json:
        _print_json({"folder": str(folder), "seed": seed, "files": [str(path) for path in paths]})
    else:
        print(f"{len(paths)} recordings in {folder}")


@app.command()
def inspect(model: ModelPath, as_json: Json = False) -> None:
    """Show what a model file holds, after checking it."""
    from distill.bundle import load_bundle

    metadata = load_bundle(model).metadata
    if as_json:
        _print_json(metadata.model_dump(mode="json"))
        return
    from rich.console import Console

    from distill.inspection import describe

    Console(highlight=False).print(describe(model, metadata))


@app.command()
def generate(
    model: ModelPath,
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=10_000, help="how many sounds")] = 1,
    seconds: Annotated[
        float | None, typer.Option(min=0.01, max=3600, help="length of each sound; without it they end by themselves")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="the same seed gives the same sounds; without it any")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0.01, max=10, help="below 1 tamer, above 1 wilder")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="draw from so many likeliest codes; 0 = all")] = 0,
    top_p: Annotated[float, typer.Option(min=0.001, max=1, help="draw from the likeliest codes of this share")] = 1.0,
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the sounds go")] = Path("generated"),
    kind: Annotated[AudioFormat, typer.Option("--format", help="file format")] = "wav",
    as_json: Json = False,
) -> None:
    """Make new sounds."""
    from distill.audio.writing import write_audio
    from distill.bundle import load_bundle
    from distill.console import ProgressReport
    from distill.generate.sampler import Sampling
    from distill.generate.synthesis import generate_sounds

    _make_folder("--out", out)
    bundle = load_bundle(model)
    seed = secrets.randbelow(2**31) if seed is None else seed
    rate = bundle.codec.spectrogram.sample_rate
    with ProgressReport("generate") as progress:
        sounds = generate_sounds(
            bundle,
            count,
            MAX_NATURAL_SECONDS if seconds is None else seconds,
            seed,
            Sampling(temperature, top_k, top_p),
            natural_ending=seconds is None,
            progress=progress,
        )
    rows = []
    for number, sound in enumerate(sounds):
        path = out / f"{model.stem}_{seed}_{number:03d}.{kind}"
        write_audio(path, sound.samples, rate, kind)
        rows.append({"file": str(path), "seconds": len(sound.samples) / rate})
    if as_json:
        _print_json({"model": str(model), "seed": seed, "sample_rate": rate, "sounds": rows})
    else:
        for row in rows:
            print(f"{row['file']}  {row['seconds']:.2f} s")
        print(f"seed {seed}")


def main() -> None:
    """Entry point: 0 done, 2 wrong use or input (one sentence on stderr), 130 interrupted; a defect keeps its traceback."""
    try:
        status = app(standalone_mode=False)
    except DistillError as error:
        print(f"distill: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        known = environment_error(error)
        if known is None:
            raise
        print(f"distill: {known}", file=sys.stderr)
        sys.exit(known.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        print("distill: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer raises for wrong use
            raise
        message = error.format_message().rstrip(".")
        print(f"distill: {message}; see distill --help", file=sys.stderr)
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


def _make_folder(flag: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParamsError(f"{flag} {folder}: expected a folder to write to, found {error.strerror or error}") from error


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))
