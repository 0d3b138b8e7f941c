"""Commands `distill demo`, and `train` and `train-prior`, whose flags are settings of `params.yaml`."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from distill.audio.source import is_url, left_out_line, open_source
from distill.cli.flags import (
    Given,
    Json,
    ModelPath,
    answer,
    check_folder,
    check_output,
    flag_of,
    limits,
    make_folder,
    spelt,
    takes_settings,
)
from distill.errors import ParamsError
from distill.execution import execution_from_environment
from distill.params import Params, Seed, default_params
from distill.storage.files import check_replaceable
from distill.text import is_utf8

if TYPE_CHECKING:
    from distill.pipeline.train import TrainedModel

# Settings that are flags; values, help and default come from the setting.
TRAIN = (
    *("tier", "vqvae.epochs", "vqvae.codebook_size", "vqvae.quality", "vqvae.num_quantizers"),
    *(
        "vqvae.commitment_weight",
        "vqvae.learning_rate",
        "corpus.sample_rate",
        "corpus.channels",
        "corpus.labels",
    ),
    *("corpus.trim", "seed"),
)
TRAIN_PRIOR = (
    *(
        "prior.architecture",
        "prior.epochs",
        "prior.hidden_size",
        "prior.num_layers",
        "prior.num_heads",
    ),
    "corpus.labels",
)


def params_of_flags(given: Mapping[str, Any]) -> Params:
    """Settings from flags, by their names in `params.yaml`, with defaults. Raises ParamsError that names the flag."""
    sections: dict[str, Any] = {}
    for name, value in given.items():
        section, _, key = name.rpartition(".")
        within = sections.setdefault(section, {}) if section else sections
        within[key] = value
    default_params()  # fails first if params.yaml itself is wrong, so that no flag is blamed
    try:
        return default_params(**sections)
    except ParamsError as error:
        name, _, sentence = str(error).partition(": ")
        flags = {path: flag_of(path) for path in (*TRAIN, *TRAIN_PRIOR)}
        flags |= {"corpus.path": "DIR", "bundle.name": "--name"}
        sentence = sentence.replace(" or auto, found ", ", found ")  # no flag accepts auto
        raise ParamsError(f"{flags.get(name, name)}: {sentence}") from error


def demo(
    folder: Annotated[
        Path,
        Argument(callback=spelt, metavar="DIR", help="where the recordings go", show_default=False),
    ],
    seed: Annotated[int, Option(help="random seed of the sounds", **limits(Seed))] = 0,
    as_json: Json = False,
) -> None:
    """Synthesise the demo corpus: strings, bars, drums, bells, sweeps, chords, pipes and glides as FLAC files."""
    from distill.demo.recordings import write_demo

    make_folder("DIR", folder)
    paths = write_demo(folder, seed)
    document = {"folder": str(folder), "seed": seed, "files": [str(path) for path in paths]}
    answer(as_json, document, f"{len(paths)} recordings in {folder}")


@takes_settings(*TRAIN)
def train(
    folder: Annotated[
        str,
        Argument(
            callback=spelt,
            metavar="DIR",
            help="recordings, or s3://bucket/prefix",
            show_default=False,
        ),
    ],
    given: Given,
    model_name: Annotated[
        str | None, Option("--model-name", "--name", help="name; without it date and time")
    ] = None,
    prior: Annotated[
        bool, Option("--prior", help="also train a prior, for new sounds like the recordings")
    ] = False,
    out: Annotated[
        Path, Option("--out", "-o", callback=spelt, metavar="DIR", help="where the model file goes")
    ] = Path("models"),
    as_json: Json = False,
) -> None:
    """Train a codec on a folder of recordings, and with --prior a prior of its codes, and write a model file.

    It needs five recordings or more; with two to four, or one of 10 seconds, it trains with a warning.
    --epochs is the maximum for codec and prior each; a training that no longer improves ends earlier.
    After Ctrl-C or a crash, the same command resumes the training. Work in progress is kept in .distill below the
    current folder. MLflow records the training only if MLFLOW_TRACKING_URI is set. The file contains the date.
    """
    name = model_name or time.strftime("model-%Y%m%d-%H%M%S")
    epochs = {"prior.epochs": given["vqvae.epochs"]} if prior and "vqvae.epochs" in given else {}
    params = params_of_flags({"corpus.path": folder, "bundle.name": name, **given, **epochs})
    _check_folder("DIR", folder)
    model = out / f"{params.bundle.name}.distill"
    if os.path.lexists(model):
        raise ParamsError(
            f"--name {model.stem}: expected a new name, found {model} there; choose another name"
        )
    _check_model("--name", model)
    if out.suffix == model.suffix:
        asked = f"--name {out.stem} --out {out.parent}"
        raise ParamsError(f"--out {out}: expected a folder, found the name of a model; use {asked}")
    check_folder("--out", out)
    from distill.cluster import executor_of
    from distill.pipeline.train import train_model

    execution = execution_from_environment()
    with executor_of(execution) as executor:
        trained = train_model(folder, model, params, execution, executor, prior)
    _print_trained(trained, params.corpus.labels == "folder", as_json)


@takes_settings(*TRAIN_PRIOR)
def train_prior(
    model: ModelPath,
    given: Given,
    data: Annotated[
        str | None,
        Option(
            callback=spelt,
            metavar="DIR",
            help="recordings, or s3://bucket/prefix; without it those of the codec",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        Option("-o", "--output", callback=spelt, metavar="FILE", help="write a copy instead"),
    ] = None,
    replace: Annotated[bool, Option("--replace", help="replace an existing prior or file")] = False,
    as_json: Json = False,
) -> None:
    """Train a prior for an existing model, so that it can generate; written to the model file or a copy.

    After Ctrl-C or a crash, the same command resumes the training. The new prior has labels if it replaces a prior with
    labels.
    """
    if data is not None:
        _check_folder("--data", data)
    from distill.model_file.format import read_contents

    known, written = read_contents(model)[0].prior_config, output or model
    before = {"corpus.labels": "folder"} if known is not None and known.labels else {}
    params = params_of_flags({"corpus.path": data or ".", **before, **given})
    if output is not None:
        check_output(output, [])
        check_replaceable("--output", [output], replace=True)
    _check_model("--output", written)
    if written.exists() and (known is not None or not written.samefile(model)) and not replace:
        raise ParamsError(
            f"{written}: expected a model without a prior, or a new name with --output, found an existing one; "
            "use --replace to replace it"
        )
    from distill.cluster import executor_of
    from distill.pipeline.train import add_prior
    from distill.prior.training import print_prior
    from distill.progress import LastingConsole

    execution = execution_from_environment()
    with executor_of(execution) as executor:
        trained = add_prior(model, written, data, params, execution, executor)
    print_prior(trained, LastingConsole(stderr=as_json, highlight=False))
    document = {"model": str(written), "recordings": trained.recordings, **trained.metrics}
    answer(as_json, document, f"{written}  {written.stat().st_size / 1e6:.1f} MB")


def _check_folder(flag: str, folder: str) -> None:
    """Check that `folder` is a folder or a readable address. Raises ParamsError, AudioError."""
    if is_url(folder):
        open_source(folder)
    elif not Path(folder).is_dir():
        other = (
            "a file; name the folder that holds it, and unpack an archive"
            if Path(folder).exists()
            else "nothing there; check the path"
        )
        raise ParamsError(f"{flag} {folder}: expected a folder of recordings, found {other}")


def _check_model(flag: str, model: Path) -> None:
    """Check that a model path is UTF-8 and that its card replaces no other file. Raises ParamsError."""
    from distill.model_file.build import card_path

    if not is_utf8(str(model)):
        raise ParamsError(
            f"{model}: expected a path in UTF-8, found other bytes in it; choose another name"
        )
    check_replaceable(flag, [card_path(model)], replace=True)


def _print_trained(trained: "TrainedModel", has_labels: bool, as_json: bool) -> None:
    from distill.audio.ingest_report import corpus_warnings, listed_rejections
    from distill.codec.training import print_codec
    from distill.prior.training import print_prior
    from distill.progress import LastingConsole

    codec, size, report = trained.codec, trained.path.stat().st_size, trained.corpus
    console = LastingConsole(stderr=as_json, highlight=False)
    lines = [
        f"{report['seconds']:.1f} s of sound at {report['sample_rate_reason']}",
        *listed_rejections(report),
    ]
    lines += filter(None, [report.get("channels_reason"), left_out_line(report["left_out"])])
    console.print(*lines, sep="\n", markup=False, soft_wrap=True)
    print_codec(codec, console)
    names = ("seconds", "sample_rate", "treble_share", "trimmed_seconds", "left_out")
    document = {
        **{name: report[name] for name in names},
        **{
            "model": str(trained.path),
            "bytes": size,
            "tier": codec.tier,
            "recordings": codec.recordings,
        },
        "rejected": [f"{row['path']}: {row['reason']}" for row in report["rejected"]],
        "codebook_health": codec.codebook_health,
        **{key: value for key, value in codec.metrics.items() if not key.startswith("codebook/")},
    }
    warnings = [*corpus_warnings(report, has_labels), *codec.warnings]
    if trained.prior is not None:
        print_prior(trained.prior, console)
        warnings.append(trained.prior.facts.memorization.message)
        document["prior"] = dict(trained.prior.metrics)
    document["warnings"] = list(filter(None, warnings))
    answer(as_json, document, f"{trained.path}  {size / 1e6:.1f} MB")
