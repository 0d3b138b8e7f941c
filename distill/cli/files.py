"""Commands for files: `encode`, `decode`, `inspect`, `verify`, `list`, `export`, `push` and `pull`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from typer import Argument, Option

from distill.audio.output import Output
from distill.audio.write import AudioFormat
from distill.cli.flags import (
    RECORDING,
    Given,
    Json,
    ModelPath,
    Replace,
    answer,
    check_output,
    existing,
    make_folder,
    remarks_said,
    spelt,
    takes_request,
    writable,
)
from distill.errors import ParamsError
from distill.generate.settings import DecodeSettings
from distill.process import say
from distill.text import any_of, several, table, terminal_width

if TYPE_CHECKING:
    from distill.codes.file import DecodedFile
    from distill.model_file.inspect import ListedModel

CODES = "a file of codes that `distill encode` wrote"
Repository = Annotated[
    str, Argument(metavar="REPO_ID", help="OWNER/NAME on the hub", show_default=False)
]


def encode(
    model: ModelPath,
    audio: Annotated[
        list[Path],
        Argument(
            callback=existing(RECORDING), metavar="AUDIO...", help="recordings", show_default=False
        ),
    ],
    output: Annotated[
        Path,
        Option("-o", "--output", callback=spelt, metavar="FILE", help="the file of codes to write"),
    ],
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Turn recordings into codes: any format and sample rate, mixed to mono unless the model is stereo."""
    check_output(output, [model, *audio])
    from distill.codes.file import encode_files
    from distill.execution import execution_from_environment
    from distill.model_file.format import load_bundle
    from distill.progress import ProgressReport
    from distill.training.distributed import device_of

    bundle = load_bundle(model)
    codec = bundle.codec.to(device_of(execution_from_environment()))
    with remarks_said() as warnings, ProgressReport("encode") as progress:
        done = encode_files(codec, audio, output, progress, replace, bundle.metadata.is_stereo)
    sizes = f"{several(done.recordings, 'recording')}, {done.seconds:.2f} s, {done.frames} frames"
    line = f"{output}  {sizes}, {done.times_real_time:.0f} x real time"
    answer(as_json, {"file": str(output), **asdict(done), "warnings": warnings}, line)


@takes_request(DecodeSettings)
def decode(
    model: ModelPath,
    codes: Annotated[
        Path,
        Argument(
            callback=existing(CODES),
            metavar="CODES",
            help="a file that encode wrote",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        Option(
            "-o",
            "--output",
            callback=spelt,
            metavar="OUT",
            help="a file, or an existing folder; for several recordings a folder",
        ),
    ],
    given: Given,
    kind: Annotated[
        AudioFormat | None,
        Option("--format", help="file format", show_default="by OUT; wav in a folder"),
    ] = None,
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Turn codes back into sounds, each as long as its recording."""
    check_output(output, [model, codes])
    from distill.codes.file import decode_file, load_codes
    from distill.execution import execution_from_environment
    from distill.model_file.format import load_bundle
    from distill.progress import ProgressReport
    from distill.training.distributed import make_fabric

    codec = load_bundle(model).codec
    recordings = load_codes(codec, codes)
    chosen = _format_of(output, kind, len(recordings))
    fabric = make_fabric(execution_from_environment())
    fabric.to_device(codec)
    with ProgressReport("decode") as progress, fabric.autocast():
        written = decode_file(codec, recordings, output, chosen, progress, replace, **given)
    output_format = Output(
        given.get("sample_rate", codec.spectrogram.sample_rate), given.get("loudness")
    )
    about = {"model": str(model), "codes": str(codes), "sample_rate": output_format.sample_rate}
    rows = [_decoded_row(sound, "loudness" in given) for sound in written]
    lines = map(_decoded_line, written)
    levels = output_format.lines([sound.under_db for sound in written])
    answer(as_json, {**about, "sounds": rows}, *lines, *levels)


def _decoded_row(sound: "DecodedFile", has_loudness: bool) -> dict[str, Any]:
    row = {"file": str(sound.path), "seconds": sound.seconds, "gain_db": sound.gain_db}
    return {**row, "under_db": sound.under_db} if has_loudness else row


def _decoded_line(sound: "DecodedFile") -> str:
    softer = f"  attenuated by {-sound.gain_db:.1f} dB to avoid clipping"
    return f"{sound.path}  {sound.seconds:.2f} s{softer if sound.gain_db < 0 else ''}"


def _format_of(output: Path, kind: AudioFormat | None, recordings: int) -> AudioFormat:
    """Output format of `decode`, from `kind` or the suffix. Raises ParamsError if `output` does not fit."""
    formats: Sequence[AudioFormat] = get_args(AudioFormat)
    suffix = output.suffix.lower().removeprefix(".")
    if output.is_dir():
        return kind or "wav"
    if recordings > 1:
        if suffix in formats or output.is_file():
            raise ParamsError(
                f"-o {output}: expected a folder for {recordings} recordings, found a file's name"
            )
        return kind or "wav"
    chosen = [name for name in formats if name in (kind, suffix)]
    if not chosen:
        suffixes = any_of([f".{name}" for name in formats])
        raise ParamsError(
            f"-o {output}: expected the suffix {suffixes}, or --format, found neither"
        )
    if len(chosen) > 1:
        raise ParamsError(
            f"--format {kind}: expected the format that {output} names; leave one of them out"
        )
    return chosen[0]


def inspect(
    model: ModelPath,
    card: Annotated[bool, Option("--card", help="print the model card, in Markdown")] = False,
    as_json: Json = False,
) -> None:
    """Check a model file and show its contents."""
    from distill.model_file.build import card_text
    from distill.model_file.format import load_bundle
    from distill.model_file.inspect import describe

    metadata = load_bundle(model).metadata
    if card:
        print(card_text(model.name, metadata), end="")
    else:
        answer(as_json, metadata.file_json(), *describe(model, metadata, terminal_width()))


def verify(model: ModelPath, as_json: Json = False) -> None:
    """Check a model file completely: format, metadata, weights and hashes; and run its networks."""
    from distill.model_file.inspect import verify as verified

    checks = verified(model)
    lines = (f"ok  {what:10}{result}" for what, result in checks)
    answer(as_json, {"model": str(model), "ok": True, "checks": dict(checks)}, *lines)


def list_folder(
    folder: Annotated[
        Path,
        Argument(
            callback=existing("a folder of models", is_folder=True),
            metavar="DIR",
            help="a folder of model files",
        ),
    ] = Path("models"),
    as_json: Json = False,
) -> None:
    """List the model files of a folder: training data, quality, and abilities of each.

    Invalid model files are listed with the reason. Weights are not read: distill verify checks them.
    """
    from distill.model_file.inspect import list_models

    models = list_models(folder)
    head = ("model", "written (UTC)", "recordings", "tier", "used", "bits/s", "can")
    rows = [_row(model) for model in models if not model.problem]
    lines = table([head, *rows], terminal_width()) if rows else []
    lines += [f"no model: {model.problem}" for model in models if model.problem]
    document = {"folder": str(folder), "models": [asdict(model) for model in models]}
    answer(as_json, document, *(lines or [f"no model files in {folder}"]))


def _row(model: "ListedModel") -> tuple[str, ...]:
    """Row of the table of `distill list`."""
    figures = {
        "d": model.recordings,
        "s": model.tier,
        ".0%": model.utilization,
        ".0f": model.val_bits_per_second,
    }
    known = ["–" if value is None else f"{value:{form}}" for form, value in figures.items()]
    abilities = {
        "generate": model.can_generate,
        "judge": model.can_judge,
        "repeat its recordings": model.was_memorizing,
    }
    can = [name for name, has in abilities.items() if has]
    return (
        model.name,
        model.date[:16].replace("T", " "),
        *known,
        ", ".join(can) or "encode, decode",
    )


def export(
    model: ModelPath,
    output: Annotated[
        Path,
        Option("-o", "--output", callback=writable, metavar="DIR", help="the folder to write to"),
    ],
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Export a model's decoder, and a step of its prior, as ONNX files, which other programs run without PyTorch.

    examples/play_onnx.py plays them. Only priors of architecture frame are exported. It takes about a minute.
    """
    from distill.api import Model
    from distill.progress import ProgressReport

    loaded = Model(model)
    if loaded.note:
        say(f"distill: note: {loaded.note}")
    with ProgressReport("export") as progress:
        written = loaded.export(output, replace, progress)
    if len(written) == 1:
        architecture = loaded.prior.shape.architecture
        say(f"distill: note: {model}: a prior of the architecture {architecture} is not written")
    sizes = {str(path): path.stat().st_size for path in written}
    answer(
        as_json,
        {"model": str(model), "files": sizes},
        *(f"{path}  {size / 1e6:.1f} MB" for path, size in sizes.items()),
    )


def push(
    model: ModelPath,
    repository: Repository,
    private: Annotated[
        bool, Option("--private", help="make the repository private; refuse a public one")
    ] = False,
    with_reference: Annotated[
        bool,
        Option(
            "--with-reference",
            help="also send names and codes of training recordings, which can be decoded",
        ),
    ] = False,
    message: Annotated[str | None, Option(help="message of the commit")] = None,
    license: Annotated[str | None, Option(help="license in the card, such as cc-by-4.0")] = None,
    as_json: Json = False,
) -> None:
    """Share a model on the Hugging Face hub, by default without names and codes of its training recordings.

    Token and address come from the hub's own client: HF_TOKEN, `hf auth login`, HF_ENDPOINT.
    """
    from distill.sharing import push as pushed

    done = pushed(model, repository, private, with_reference, message, license)
    codes = "names and codes of training recordings"
    remarks = {
        f"sent with {codes}, which whoever has the file can decode": with_reference,
        f"sent without {codes}": not with_reference,
        f"sent with its labels, which can be names of your folders: {', '.join(done.labels)}": done.labels,
        "the README.md there is no card of Distill and stays; delete it there to have one at the next push": (
            not done.has_card
        ),
        "what earlier pushes sent, with their references if they had any, stays in the history of the repository": (
            done.replaces
        ),
    }
    lines = (remark for remark, is_true in remarks.items() if is_true)
    line = f"{done.url}  {model.name}, {done.bytes / 1e6:.1f} MB, commit {done.commit[:12]}"
    answer(as_json, {"model": str(model), "repository": repository, **asdict(done)}, line, *lines)


def pull(
    repository: Repository,
    revision: Annotated[
        str | None, Option(help="branch, tag or commit", show_default="the newest commit")
    ] = None,
    out: Annotated[
        Path, Option("--out", "-o", callback=spelt, metavar="DIR", help="where the model file goes")
    ] = Path("models"),
    replace: Annotated[bool, Option("--replace", help="replace another file of its name")] = False,
    as_json: Json = False,
) -> None:
    """Download a model from the Hugging Face hub. The file is verified, as by distill verify, before it is written."""
    from distill.sharing import pull as pulled

    make_folder("--out", out)
    model, commit, checks = pulled(repository, out, revision, replace)
    size = model.stat().st_size
    document = {
        "model": str(model),
        "repository": repository,
        "commit": commit,
        "bytes": size,
        "checks": dict(checks),
    }
    answer(as_json, document, f"{model}  {size / 1e6:.1f} MB, verified, commit {commit[:12]}")
