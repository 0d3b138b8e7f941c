"""`distill train` and `distill train-prior`, whose flags are settings of `params.yaml`."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill.cli.app import Given, Json, ModelPath, app, print_json, takes_settings
from distill.errors import ParamsError
from distill.params import Params, default_params, setting

if TYPE_CHECKING:
    from distill.pipeline.train import TrainedModel

# Flags of settings; what each may be, its help and its default are those of the setting.
TRAIN = {
    "tier": "--tier",
    "vqvae.epochs": "--epochs",
    "vqvae.codebook_size": "--codebook-size",
    "vqvae.quality": "--quality",
    "vqvae.num_quantizers": "--rvq-levels",
    "vqvae.commitment_weight": "--commitment-weight",
    "vqvae.learning_rate": "--learning-rate",
    "corpus.sample_rate": "--sample-rate",
    "corpus.labels": "--labels",
    "seed": "--seed",
}
TRAIN_PRIOR = {
    "prior.architecture": "--architecture",
    "prior.epochs": "--epochs",
    "prior.hidden_size": "--hidden-size",
    "prior.num_layers": "--layers",
    "prior.num_heads": "--heads",
    "corpus.labels": "--labels",
}
OTHERS = {"corpus.path": "DIR", "bundle.name": "--name"}


def params_of_flags(given: Mapping[str, Any]) -> Params:
    """Settings by their names in `params.yaml`, with the defaults for the rest. Raises ParamsError that names the flag."""
    sections: dict[str, Any] = {}
    for name, value in given.items():
        *section, key = name.split(".")
        within = sections.setdefault(section[0], {}) if section else sections
        is_number = isinstance(value, str) and value.isascii() and value.isdigit() and setting(name).type is int
        within[key] = int(value) if is_number else value
    default_params().check()  # of a checkout, whose file may be wrong: then no flag is
    try:
        return default_params(**sections).check()
    except ParamsError as error:
        text = str(error)
        for name, flag in {**TRAIN, **TRAIN_PRIOR, **OTHERS}.items():
            if text.startswith(f"{name}: "):
                text = text.replace(name, flag, 1)
                if name != "corpus.sample_rate":  # no other flag takes "auto"
                    text = text.replace(" or auto, found ", ", found ")
        raise ParamsError(text) from error


@app.command()
@takes_settings(TRAIN)
def train(
    folder: Annotated[
        str,
        typer.Argument(metavar="DIR", help="a folder of recordings, or an s3://bucket/prefix", show_default=False),
    ],
    given: Given,
    model_name: Annotated[
        str | None,
        typer.Option("--model-name", "--name", help="name of the model file; without it date and time"),
    ] = None,
    prior: Annotated[
        bool,
        typer.Option("--prior", help="also train a prior, so that the model can generate, not just encode and decode"),
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="where the model file goes")] = Path("models"),
    as_json: Json = False,
) -> None:
    """Train a codec on a folder of recordings, and with --prior a prior of its codes, and write a model file.

    After Ctrl-C or a crash, the same command resumes the training. Work in progress is kept in .distill below the
    current folder. MLflow records the training only where MLFLOW_TRACKING_URI is set. The file holds the date.
    """
    from distill.cli.flags import check_folder, make_folder, refuse_existing
    from distill.execution import execution_from_environment

    name = time.strftime("model-%Y%m%d-%H%M%S") if model_name is None else model_name
    params = params_of_flags({"corpus.path": folder, "bundle.name": name, **given})
    check_folder("DIR", folder)
    model = out / f"{params.bundle.name}.distill"
    refuse_existing(model)
    make_folder("--out", out)
    from distill.cluster import executor_of
    from distill.pipeline.train import train_model

    execution = execution_from_environment()
    with executor_of(execution) as executor:
        trained = train_model(folder, model, params, execution, prior, dated=True, executor=executor)
    _print_trained(trained, as_json)


@app.command("train-prior")
@takes_settings(TRAIN_PRIOR)
def train_prior(
    model: ModelPath,
    given: Given,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="a folder of recordings, or an s3://bucket/prefix; without it the one that the codec was trained on",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="write a copy and leave MODEL unchanged")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="replace an existing prior or file")] = False,
    as_json: Json = False,
) -> None:
    """Train a prior for an existing model, so that it can generate; written into the model file or a copy.

    After Ctrl-C or a crash, the same command resumes the training.
    """
    from distill.cli.flags import check_folder, may_replace
    from distill.execution import execution_from_environment
    from distill.model_file.format import read_metadata

    params = params_of_flags({"corpus.path": data or ".", **given})
    if data is not None:
        check_folder("--data", data)
    may_replace(model, read_metadata(model).has_prior, output, replace)
    from distill.cluster import executor_of
    from distill.pipeline.train import add_prior

    written, execution = output or model, execution_from_environment()
    with executor_of(execution) as executor:
        trained = add_prior(model, written, data, params, execution, dated=True, executor=executor)
    if as_json:
        print_json({"model": str(written), "recordings": trained.recordings, **trained.metrics})
    else:
        print(f"{written}  {written.stat().st_size / 1e6:.1f} MB")


def _print_trained(trained: "TrainedModel", as_json: bool) -> None:
    from rich.console import Console

    from distill.codec.training import print_codec

    codec, size = trained.codec, trained.path.stat().st_size
    print_codec(codec, Console(stderr=as_json, highlight=False))
    if as_json:
        print_json(
            {
                "model": str(trained.path),
                "bytes": size,
                "tier": codec.tier,
                "recordings": codec.recordings,
                "seconds": trained.corpus.seconds,
                "sample_rate": trained.corpus.sample_rate,
                "treble_share": trained.corpus.treble_share,
                "rejected": list(trained.rejected),
                "codebook_health": codec.codebook_health,
                "warnings": list(codec.warnings),
                **{key: value for key, value in codec.metrics.items() if not key.startswith("codebook/")},
                **({} if trained.prior is None else {"prior": dict(trained.prior.metrics)}),
            }
        )
    else:
        print(f"{trained.path}  {size / 1e6:.1f} MB")
