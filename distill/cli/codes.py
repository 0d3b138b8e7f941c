"""`distill encode` and `distill decode`."""

from pathlib import Path
from typing import Annotated, cast, get_args

from typer import Argument, Option

from distill.audio.write import AudioFormat
from distill.cli.flags import Json, ModelPath, Replace, check_inputs, check_output, print_json
from distill.errors import ParamsError


def encode(
    model: ModelPath,
    audio: Annotated[list[Path], Argument(metavar="AUDIO...", help="recordings", show_default=False)],
    output: Annotated[Path, Option("-o", "--output", metavar="FILE", help="the file of codes to write")],
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Turn recordings into codes: any format and sample rate, mixed to mono."""
    check_inputs(audio)
    check_output(output, [model, *audio])
    from distill.codes.file import encode_files
    from distill.execution import execution_from_environment
    from distill.model_file.format import load_bundle
    from distill.progress import ProgressReport
    from distill.training.distributed import device_of

    codec = load_bundle(model).codec
    codec.to(device_of(execution_from_environment()))
    with ProgressReport("encode") as progress:
        done = encode_files(codec, audio, output, progress, replace)
        for warning in done.warnings:
            progress.say(f"warning: {warning}")
    if as_json:
        figures = {"recordings": done.recordings, "seconds": done.seconds, "frames": done.frames}
        print_json({"file": str(output), **figures, "times_real_time": done.times_real_time})
    else:
        recordings = f"{done.recordings} recording{'s' * (done.recordings != 1)}, {done.seconds:.2f} s"
        print(f"{output}  {recordings}, {done.frames} frames, {done.times_real_time:.0f} x real time")


def decode(
    model: ModelPath,
    codes: Annotated[Path, Argument(metavar="CODES", help="a file that encode wrote", show_default=False)],
    output: Annotated[Path, Option("-o", "--output", metavar="OUT", help="a file; for several recordings a folder")],
    kind: Annotated[
        AudioFormat | None, Option("--format", help="file format", show_default="that of OUT's suffix, or wav")
    ] = None,
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Turn codes back into sounds, each as long as its recording was."""
    check_output(output, [model, codes])
    from distill.codes.file import decode_file, load_codes
    from distill.execution import execution_from_environment
    from distill.model_file.format import load_bundle
    from distill.progress import ProgressReport
    from distill.training.distributed import make_fabric

    codec = load_bundle(model).codec
    recordings = load_codes(codec, codes)
    chosen = format_of(output, kind, len(recordings))
    fabric = make_fabric(execution_from_environment())
    fabric.to_device(codec)
    with ProgressReport("decode") as progress, fabric.autocast():
        written = decode_file(codec, recordings, output, chosen, progress, replace)
    if as_json:
        rows = [{"file": str(sound.path), "seconds": sound.seconds, "gain_db": sound.gain_db} for sound in written]
        rate = codec.spectrogram.sample_rate
        print_json({"model": str(model), "codes": str(codes), "sample_rate": rate, "sounds": rows})
        return
    for sound in written:
        softer = f"  attenuated by {-sound.gain_db:.1f} dB to avoid clipping" if sound.gain_db < 0 else ""
        print(f"{sound.path}  {sound.seconds:.2f} s{softer}")


def format_of(output: Path, kind: AudioFormat | None, recordings: int) -> AudioFormat:
    """The format to decode to: that of `kind` or of the suffix. Raises ParamsError when `output` does not fit."""
    suffix = output.suffix.lower().removeprefix(".")
    named = cast(AudioFormat, suffix) if suffix in get_args(AudioFormat) else None
    if recordings > 1:
        if named is not None or (output.exists() and not output.is_dir()):
            raise ParamsError(
                f"-o {output}: expected a folder for {recordings} recordings, found a file's name; name a folder"
            )
        return kind or "wav"
    if output.is_dir():
        raise ParamsError(f"-o {output}: expected a file for one recording, found a folder; name a file in it")
    if named is None and kind is None:
        raise ParamsError(f"-o {output}: expected the suffix .wav, .flac, .ogg or .mp3, or --format, found neither")
    if named is not None and kind is not None and named != kind:
        raise ParamsError(
            f"--format {kind}: expected the format that {output} names, found another; leave one of them out"
        )
    return kind or named or "wav"
