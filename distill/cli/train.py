"""`distill train` and `distill train-prior`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from distill.cli.app import Json, ModelPath, app, limits, print_json
from distill.params import (
    CodebookSize,
    Epochs,
    Heads,
    Levels,
    LossWeight,
    PriorLayers,
    PriorWidth,
    Rate,
    SampleRate,
    Seed,
)
from distill.prior.architectures import DEFAULT, ArchitectureName, summaries

if TYPE_CHECKING:
    from distill.pipeline.train import TrainedModel

LabelsFrom = Annotated[
    Literal["none", "folder"], typer.Option(help="source of labels; folder: the name of a recording's folder")
]


@app.command()
def train(
    folder: Annotated[
        str,
        typer.Argument(metavar="DIR", help="a folder of recordings, or an s3://bucket/prefix", show_default=False),
    ],
    model_name: Annotated[
        str | None,
        typer.Option("--model-name", "--name", help="name of the model file; without it date and time"),
    ] = None,
    tier: Annotated[
        Literal["auto", "small", "medium", "large"],
        typer.Option(help="default settings; auto chooses by the number of recordings"),
    ] = "auto",
    epochs: Annotated[
        int | None, typer.Option(help="maximum number of epochs", show_default="auto, by the tier", **limits(Epochs))
    ] = None,
    codebook_size: Annotated[
        int | None, typer.Option(help="codewords a level", show_default="auto, by the tier", **limits(CodebookSize))
    ] = None,
    quality: Annotated[
        Literal["small", "standard", "high"] | None,
        typer.Option(
            help="bit rate: higher sounds finer, costs more time and is more to learn", show_default="standard"
        ),
    ] = None,
    rvq_levels: Annotated[
        int | None,
        typer.Option(
            help="residual levels: fewer are faster and easier for a prior, more have finer detail",
            show_default="auto, by --quality",
            **limits(Levels),
        ),
    ] = None,
    commitment_weight: Annotated[
        float | None, typer.Option(help="weight of the commitment loss", show_default="0.25", **limits(LossWeight))
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="of AdamW, with a cosine schedule", show_default="auto, by the tier", **limits(Rate)),
    ] = None,
    sample_rate: Annotated[
        str | None,
        typer.Option(
            metavar="N|auto",
            help="Hz, mono ({min} to {max}); auto: 44100 or 48000 where the recordings have sound above 10 kHz, "
            "else 24000".format(**limits(SampleRate)),
            show_default="auto",
        ),
    ] = None,
    labels: LabelsFrom = "none",
    seed: Annotated[int, typer.Option(help="random seed of the split and the weights", **limits(Seed))] = 0,
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
    from distill.cli.flags import check_folder, make_folder, params_of_flags, refuse_existing, sample_rate_of
    from distill.execution import execution_from_environment

    params = params_of_flags(
        {
            ("corpus", "path"): folder,
            ("corpus", "sample_rate"): sample_rate_of(sample_rate),
            ("corpus", "labels"): labels,
            ("bundle", "name"): time.strftime("model-%Y%m%d-%H%M%S") if model_name is None else model_name,
            ("tier",): tier,
            ("seed",): seed,
            ("vqvae", "epochs"): epochs,
            ("vqvae", "codebook_size"): codebook_size,
            ("vqvae", "quality"): quality,
            ("vqvae", "num_quantizers"): rvq_levels,
            ("vqvae", "commitment_weight"): commitment_weight,
            ("vqvae", "learning_rate"): learning_rate,
        }
    )
    check_folder("DIR", folder)
    model = out / f"{params.bundle.name}.distill"
    refuse_existing(model)
    make_folder("--out", out)
    from distill.pipeline.train import train_model

    _print_trained(train_model(folder, model, params, execution_from_environment(), prior, dated=True), as_json)


@app.command("train-prior")
def train_prior(
    model: ModelPath,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="a folder of recordings, or an s3://bucket/prefix; without it the one that the codec was trained on",
        ),
    ] = None,
    architecture: Annotated[
        ArchitectureName | None,
        typer.Option(help=summaries(), show_default=DEFAULT),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="maximum number of epochs", show_default="auto, by the tier", **limits(Epochs))
    ] = None,
    hidden_size: Annotated[
        int | None, typer.Option(help="model width", show_default="auto, by the tier", **limits(PriorWidth))
    ] = None,
    layers: Annotated[
        int | None, typer.Option(help="transformer blocks", show_default="auto, by the tier", **limits(PriorLayers))
    ] = None,
    heads: Annotated[
        int | None, typer.Option(help="attention heads", show_default="auto, by the tier", **limits(Heads))
    ] = None,
    labels: LabelsFrom = "none",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="write a copy and leave MODEL unchanged")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="replace an existing prior or file")] = False,
    as_json: Json = False,
) -> None:
    """Train a prior for an existing model, so that it can generate; written into the model file or a copy.

    After Ctrl-C or a crash, the same command resumes the training.
    """
    from distill.cli.flags import check_folder, check_heads, may_replace, params_of_flags
    from distill.execution import execution_from_environment
    from distill.model_file.format import read_metadata

    params = params_of_flags(
        {
            ("corpus", "path"): data or ".",
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

    added = add_prior(model, output or model, data, params, execution_from_environment(), dated=True)
    if as_json:
        print_json({"model": str(added.path), "recordings": added.prior.recordings, **added.prior.figures})
    else:
        print(f"{added.path}  {added.path.stat().st_size / 1e6:.1f} MB")


def _print_trained(trained: "TrainedModel", as_json: bool) -> None:
    from rich.console import Console

    from distill.codec.report import print_codec
    from distill.codec.task import utilization_warnings

    health = trained.codec.trained.codebook_health
    size = trained.path.stat().st_size
    print_codec(trained.codec.trained, trained.codec.figures, Console(stderr=as_json, highlight=False))
    if as_json:
        print_json(
            {
                "model": str(trained.path),
                "bytes": size,
                "tier": trained.codec.tier,
                "recordings": trained.codec.recordings,
                "seconds": trained.corpus.seconds,
                "sample_rate": trained.corpus.sample_rate,
                "treble_share": trained.corpus.treble_share,
                "rejected": list(trained.rejected),
                "codebook_health": health,
                "warnings": list(utilization_warnings(health, trained.codec.trained.model.architecture.gain_shape)),
                **{key: value for key, value in trained.codec.figures.items() if not key.startswith("codebook/")},
                **({} if trained.prior is None else {"prior": dict(trained.prior.figures)}),
            }
        )
    else:
        print(f"{trained.path}  {size / 1e6:.1f} MB")
