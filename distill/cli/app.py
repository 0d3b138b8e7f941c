"""The `distill` command: the library for people without DVC."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from distill.audio.write import AudioFormat
from distill.errors import DistillError, environment_error
from distill.training.interruption import raise_on_sigterm

if TYPE_CHECKING:
    from distill.pipeline.train import TrainedModel

INTERRUPTED = 130  # exit status

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

ModelPath = Annotated[Path, typer.Argument(metavar="MODEL.distill", help="a model file", show_default=False)]
LabelsFrom = Annotated[
    Literal["none", "folder"], typer.Option(help="folder: sounds can be asked for by their recordings' folder")
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document on stdout and nothing else")]


@app.callback()
def distill() -> None:
    """Learn a generative model of your own sounds, and make new ones from it."""


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="where the recordings go", show_default=False)],
    seed: Annotated[int, typer.Option(min=0, help="another seed, other sounds")] = 0,
    motifs: Annotated[
        bool, typer.Option("--motifs", help="instead longer recordings of motifs that return, for priors with a memory")
    ] = False,
    as_json: Json = False,
) -> None:
    """Synthesise the demo corpus: strings, bars, drums, bells, sweeps and chords as FLAC files."""
    from distill.cli.flags import make_folder
    from distill.demo.motifs import write_motifs
    from distill.demo.recordings import write_demo

    make_folder("DIR", folder)
    paths = write_motifs(folder, seed) if motifs else write_demo(folder, seed)
    if as_json:
        _print_json({"folder": str(folder), "seed": seed, "files": [str(path) for path in paths]})
    else:
        print(f"{len(paths)} recordings in {folder}")


@app.command()
def train(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a folder of recordings", show_default=False)],
    model_name: Annotated[
        str | None,
        typer.Option("--model-name", "--name", help="name of the model file; without it one of date and time"),
    ] = None,
    tier: Annotated[
        Literal["auto", "small", "medium", "large"],
        typer.Option(help="what the settings start from; auto goes by the number of recordings"),
    ] = "auto",
    epochs: Annotated[int | None, typer.Option(help="the most epochs", show_default="auto")] = None,
    codebook_size: Annotated[int | None, typer.Option(help="codewords a level", show_default="auto")] = None,
    rvq_levels: Annotated[int | None, typer.Option(help="residual levels", show_default="auto")] = None,
    commitment_weight: Annotated[
        float | None, typer.Option(help="weight of the commitment loss", show_default="auto")
    ] = None,
    sample_rate: Annotated[int | None, typer.Option(help="Hz, mono", show_default="24000")] = None,
    labels: LabelsFrom = "none",
    seed: Annotated[int, typer.Option(help="another seed, another split and other weights")] = 0,
    prior: Annotated[
        bool,
        typer.Option("--prior", help="also train a prior, so that the model can generate, not only encode and decode"),
    ] = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the model file goes")] = Path("models"),
    as_json: Json = False,
) -> None:
    """Train a codec on a folder of recordings, and with --prior a prior of its codes, and write a model file.

    After Ctrl-C, or a crash, the same command goes on from where training was. Work in progress is kept in .distill
    below the current folder. MLflow records the training only where MLFLOW_TRACKING_URI is set.
    """
    from distill.cli.flags import check_folder, make_folder, params_of_flags, refuse_existing
    from distill.execution import execution_from_environment

    params = params_of_flags(
        {
            ("corpus", "path"): str(folder),
            ("corpus", "sample_rate"): sample_rate,
            ("corpus", "labels"): labels,
            ("bundle", "name"): time.strftime("model-%Y%m%d-%H%M%S") if model_name is None else model_name,
            ("tier",): tier,
            ("seed",): seed,
            ("vqvae", "epochs"): epochs,
            ("vqvae", "codebook_size"): codebook_size,
            ("vqvae", "num_quantizers"): rvq_levels,
            ("vqvae", "commitment_weight"): commitment_weight,
        }
    )
    check_folder("DIR", folder)
    model = out / f"{params.bundle.name}.distill"
    refuse_existing(model)
    make_folder("--out", out)
    from distill.pipeline.train import train_model

    _print_trained(train_model(folder, model, params, execution_from_environment(), prior), as_json)


@app.command("train-prior")
def train_prior(
    model: ModelPath,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="a folder of recordings; without it the one that the codec learnt"),
    ] = None,
    architecture: Annotated[
        Literal["frame", "memory", "delay", "flat"] | None,
        typer.Option(help="how codes are laid out, or memory for long recordings", show_default="frame"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="the most epochs", show_default="auto")] = None,
    hidden_size: Annotated[int | None, typer.Option(help="width", show_default="auto")] = None,
    layers: Annotated[int | None, typer.Option(help="transformer blocks", show_default="auto")] = None,
    heads: Annotated[int | None, typer.Option(help="attention heads", show_default="auto")] = None,
    labels: LabelsFrom = "none",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="write a copy and leave the model as it is")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="a prior or file that is there may be replaced")] = False,
    as_json: Json = False,
) -> None:
    """Train a prior for a model that exists, so that it can generate; into the model file itself or a copy.

    After Ctrl-C, or a crash, the same command goes on from where training was.
    """
    from distill.cli.flags import check_folder, check_heads, may_replace, params_of_flags
    from distill.execution import execution_from_environment
    from distill.model_file.format import read_metadata

    params = params_of_flags(
        {
            ("corpus", "path"): str(data or "."),
            ("corpus", "labels"): labels,
            ("prior", "architecture"): architecture,
            ("prior", "epochs"): epochs,
            ("prior", "hidden_size"): hidden_size,
            ("prior", "num_layers"): layers,
            ("prior", "num_heads"): heads,
        }
    )
    if data is not None:
        check_folder("--data", data)
    check_heads(params)
    may_replace(model, read_metadata(model).has_prior, output, replace)
    from distill.pipeline.train import add_prior

    added = add_prior(model, output or model, data, params, execution_from_environment())
    if as_json:
        _print_json({"model": str(added.path), "recordings": added.prior.recordings, **added.prior.figures})
    else:
        print(f"{added.path}  {added.path.stat().st_size / 1e6:.1f} MB")


@app.command("check-memory")
def check_memory(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]", help="a folder of recordings; without it motifs that return", show_default=False
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1000, help="of the training that is watched; a probe every 1000")] = 1000,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="of the recordings, the split, the weights and the probes")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Measure the seven points that the memory of a prior is accepted by (architecture: memory), which takes some minutes.

    Exit status 1 where a point is missed. Nothing is kept.
    """
    from dataclasses import asdict

    from benchmarks.acceptance.check import check_recordings, summary
    from distill.cli.flags import check_folder
    from distill.execution import execution_from_environment

    if folder is not None:
        check_folder("DIR", folder)
    points = []
    for point in check_recordings(folder, steps, seed, execution_from_environment()):
        points.append(point)
        if not as_json:
            print(f"{point.number} {'reached' if point.passed else 'MISSED':8}{point.name}: {point.found}", flush=True)
    if as_json:
        _print_json({"points": [asdict(point) for point in points], "summary": summary(points)})
    else:
        print(summary(points))
    if not all(point.passed for point in points):
        raise typer.Exit(1)


@app.command()
def encode(
    model: ModelPath,
    audio: Annotated[list[Path], typer.Argument(metavar="AUDIO...", help="recordings", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="the file of codes to write")],
    as_json: Json = False,
) -> None:
    """Turn recordings into codes: any format and sample rate, mixed to mono."""
    from distill.cli.flags import check_inputs, check_output

    check_inputs(audio)
    check_output(output, [model, *audio])
    from distill.codes.transcode import encode_files
    from distill.execution import execution_from_environment
    from distill.model_file.format import load_bundle
    from distill.progress import ProgressReport
    from distill.training.fabric import make_fabric

    codec = load_bundle(model).codec
    make_fabric(execution_from_environment()).to_device(codec)
    with ProgressReport("encode") as progress:
        done = encode_files(codec, audio, output, progress)
        for warning in done.warnings:
            progress.say(f"warning: {warning}")
    if as_json:
        figures = {"recordings": done.recordings, "seconds": done.seconds, "frames": done.frames}
        _print_json({"file": str(output), **figures, "times_real_time": done.times_real_time})
    else:
        print(
            f"{output}  {done.recordings} recording{'s' * (done.recordings != 1)}, {done.seconds:.2f} s, {done.frames} frames, "
            f"{done.times_real_time:.0f} x real time"
        )


@app.command()
def decode(
    model: ModelPath,
    codes: Annotated[Path, typer.Argument(metavar="CODES", help="a file that encode wrote", show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="a file; for several recordings a folder")
    ],
    kind: Annotated[
        AudioFormat | None, typer.Option("--format", help="file format", show_default="that of OUT's suffix, or wav")
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn codes back into sounds, each as long as its recording was."""
    from distill.cli.flags import check_output, format_of

    check_output(output, [model, codes])
    from distill.codes.transcode import decode_file, load_codes
    from distill.execution import execution_from_environment
    from distill.model_file.format import load_bundle
    from distill.progress import ProgressReport
    from distill.training.fabric import make_fabric

    codec = load_bundle(model).codec
    recordings = load_codes(codec, codes)
    chosen = format_of(output, kind, len(recordings))
    fabric = make_fabric(execution_from_environment())
    fabric.to_device(codec)
    with ProgressReport("decode") as progress, fabric.autocast():
        written = decode_file(codec, recordings, output, chosen, progress)
    if as_json:
        rows = [{"file": str(sound.path), "seconds": sound.seconds, "gain_db": sound.gain_db} for sound in written]
        rate = codec.spectrogram.sample_rate
        _print_json({"model": str(model), "codes": str(codes), "sample_rate": rate, "sounds": rows})
    else:
        for sound in written:
            softer = f"  made {-sound.gain_db:.1f} dB softer, or it would clip" if sound.gain_db < 0 else ""
            print(f"{sound.path}  {sound.seconds:.2f} s{softer}")


@app.command()
def inspect(model: ModelPath, as_json: Json = False) -> None:
    """Show what a model file holds, after checking it."""
    from distill.model_file.format import load_bundle

    metadata = load_bundle(model).metadata
    if as_json:
        _print_json(metadata.model_dump(mode="json"))
        return
    from rich.console import Console

    from distill.model_file.inspect import describe

    Console(highlight=False).print(describe(model, metadata))


@app.command()
def verify(model: ModelPath, as_json: Json = False) -> None:
    """Check everything about a model file: form, metadata, weights, hashes; and use it for a moment."""
    from distill.model_file.verify import verify as verified

    found = verified(model)
    if as_json:
        _print_json({"model": str(model), "ok": True, "checks": dict(found)})
        return
    for what, result in found:
        print(f"ok  {what:10}{result}")


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
    prompt: Annotated[
        Path | None, typer.Option(metavar="AUDIO", help="a recording to go on from; --seconds counts what is new")
    ] = None,
    label: Annotated[str | None, typer.Option(help="what kind of sound, of a model that learnt labels")] = None,
    guidance: Annotated[
        float | None,
        typer.Option(min=0, max=20, help="with --label: 1 as learnt, above 1 exaggerated", show_default="2"),
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
        _print_json({"model": str(model), "label": label, **generated_json(made, paths)})
        return
    for path, length, novelty in zip(paths, made.seconds, made.novelty, strict=True):
        known = "" if novelty is None else f"  {novelty_words(novelty)}"
        print(f"{path}  {length:.2f} s{known}")
    for line in set_words(made):
        print(line)


def main() -> None:
    """Entry point: 0 done, 2 wrong use or input (one sentence on stderr), 130 interrupted; a defect keeps its traceback."""
    raise_on_sigterm()
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
        status = INTERRUPTED
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer raises for wrong use
            raise
        from distill.cli.flags import wrong_use

        print(f"distill: {wrong_use(error)}; see distill --help", file=sys.stderr)
        sys.exit(2)
    if status == INTERRUPTED:  # typer's word for Ctrl-C, too
        print("distill: interrupted; nothing half-written was kept", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)


def _print_trained(trained: "TrainedModel", as_json: bool) -> None:
    from rich.console import Console

    from distill.codec.report import print_codec
    from distill.codec.task import utilization_warnings

    health = trained.codec.trained.codebook_health
    size = trained.path.stat().st_size
    print_codec(trained.codec.trained, Console(stderr=as_json, highlight=False))
    if as_json:
        _print_json(
            {
                "model": str(trained.path),
                "bytes": size,
                "tier": trained.codec.tier,
                "recordings": trained.codec.recordings,
                "seconds": trained.corpus.seconds,
                "rejected": list(trained.rejected),
                "codebook_health": health,
                "warnings": list(utilization_warnings(health)),
                **{key: value for key, value in trained.codec.figures.items() if not key.startswith("codebook/")},
                **({} if trained.prior is None else {"prior": dict(trained.prior.figures)}),
            }
        )
    else:
        print(f"{trained.path}  {size / 1e6:.1f} MB")


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))
