"""What `faults.fuzz` tries: for each format of strangers' files some to begin with, and what reads them."""

import asyncio
import contextlib
import io
import json
import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mido
import numpy as np
import typer
from safetensors import SafetensorError

from distill.audio import decode
from distill.codes.file import NamedCodes, load_codes, write_codes
from distill.codes.store import out_of_range
from distill.drums import drum_keys
from distill.errors import DistillError, ParamsError
from distill.generate.scores.pattern import read_pattern
from distill.generate.scores.performance import is_midi, read_midi, read_programs
from distill.generate.scores.score import MOST_NOTES, MOST_SECONDS, Score
from distill.generate.settings import fields_of
from distill.model_file.build import card_text
from distill.model_file.format import load_bundle
from distill.model_file.inspect import describe
from distill.notes import KEYS, read_notes
from distill.params import load_params
from distill.params.settings import default_file, validated
from distill.text import one_line
from distill.verbs import VERBS
from faults.fuzz import Input, Target
from faults.hostile import Watch, forged, use
from faults.mutants import mutant, safetensors_mutant, yaml_mutant
from faults.strange_audio import RATE, sound, valid, written, wrong
from unit.audio.encoded import encoded
from unit.tiny import MEMORY, SIZES, any_codes, tiny_codec, write_model, write_prior_model

SNDFILE = (
    *("WAV PCM_16", "WAV PCM_24", "WAV MS_ADPCM", "AIFF PCM_16", "FLAC PCM_16", "OGG VORBIS", "OGG OPUS"),
    *("MP3 MPEG_LAYER_III", "CAF PCM_16", "AU PCM_16", "W64 PCM_16", "RF64 PCM_16"),
)
FFMPEG = {"m4a": "aac", "mov": "alac", "mka": "flac", "webm": "libopus", "wma": "wmav2", "wv": "wavpack", "ac3": "ac3"}
PIECES = (
    "kick", "hi hat", "x", "X", "o", ".", "|", ":", ",", ";", " ", "\n", "=", "1", "34", "128", "9" * 5000, "C", "#", "b",
    "-1", "４", "♭",
)  # fmt: skip
VALUES = (
    "", " ", "0", "1", "2", "0.5", "-1", "1e308", "nan", "inf", "9" * 5000, "1_0", "１", "true", "auto", "corpus", "kick:x.", "kick",
    "C3", "C2:C4", "1=keys", "--out=x", "-o", "x" * 300, "../x", "/etc/passwd", "\x1b[31m", "\0", "a\nb", "50%",
)  # fmt: skip
RECORDINGS = (5, 500, 100_000)


def sounds() -> Target:
    """Sound files of 19 kinds, and strange ones. A decoder gives up after seconds here."""
    inputs = [(f".{kind.split()[0].lower()}", written(*kind.split(), sound(2))) for kind in SNDFILE]
    samples = np.tile(sound(2), (8, 1))
    with tempfile.TemporaryDirectory() as folder:
        for suffix, codec in FFMPEG.items():
            path = encoded(Path(folder, f"a.{suffix}"), samples, 48_000, codec, "asf" if suffix == "wma" else None)
            inputs.append((path.suffix, path.read_bytes()))
    inputs += [(Path(strange.name).suffix, strange.data) for strange in (*valid(), *wrong())]
    decode.LEAST_SECONDS = 3
    decoder = decode.Decoder()

    def read(path: Path) -> None:
        decoded = decoder.decoded(path, RATE)
        decoder.bandwidth(path)
        stereo = decoder.decoded(path, RATE, channels="fold")
        if decoded.is_certain and stereo.is_certain:  # neither took too long
            assert bool(stereo.pcm_sha256) == bool(decoded.pcm_sha256), stereo.reason
        assert np.isfinite(stereo.samples).all()
        assert decoded.reason.isprintable(), ascii(decoded.reason)
        assert len(decoded.reason) < 500, decoded.reason
        assert np.abs(decoded.pcm.astype(int)).max(initial=0) <= 1 << 15
        if not decoded.pcm_sha256:
            assert decoded.reason
            raise DistillError(decoded.reason)

    return Target(inputs, read, seconds=120, sample=400)


def models() -> Target:
    """Model files. Reading them runs no code and writes nothing."""
    watch = Watch()

    def read(path: Path) -> None:
        watch.looking = True
        try:
            metadata = load_bundle(path).metadata
            describe(path, metadata, 80)
            card_text(path.name, metadata)
        finally:
            watch.looking = False
        assert not watch.seen, watch.seen

    inputs = _models(read)
    watch.seen.clear()  # what is imported at the first use
    return Target(inputs, read, safetensors_mutant)


def forgeries() -> Target:
    """Model files whose hashes fit, used as commands do: what they make is finite."""

    def read(path: Path) -> None:
        assert not (faults := list(use(path))), faults

    inputs = _models(read)

    def change(data: bytes, draw: random.Random) -> bytes:
        try:
            return forged(data, draw)
        except SafetensorError:  # of one model's beginning and another's end
            return forged(draw.choice(inputs)[1], draw)

    return Target(inputs, read, change, seconds=60, megabytes=2048, sample=12)


def _models(read: Callable[[Path], object]) -> list[Input]:
    """Models of three kinds, which are read once, as is a damaged one."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{name}.distill") for name in ("codec", "labels", "memory", "damaged")]
        write_model(paths[0])
        write_prior_model(paths[1], ["a", "b"])
        write_prior_model(paths[2], ["a", "b"], of=MEMORY)
        paths[3].write_bytes(paths[0].read_bytes()[:-1])
        for path in paths:
            with contextlib.suppress(DistillError, AssertionError):
                read(path)
        return [(path.suffix, path.read_bytes()) for path in paths[:-1]]


def codes() -> Target:
    """Files of codes, read with their codec."""
    codec, rng = tiny_codec(), np.random.default_rng(0)
    step = codec.spectrogram.samples_per_frame

    def read(path: Path) -> None:
        for _, samples, frames, _ in load_codes(codec, path):
            assert frames.shape == (codec.spectrogram.frames_for(samples), len(SIZES))
            assert out_of_range(frames, SIZES) == ""

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "some.codes")
        write_codes(path, codec, [NamedCodes(f"{size}.wav", step * size, any_codes(size, rng)) for size in (9, 20)])
        return Target([(path.suffix, path.read_bytes())], read, safetensors_mutant)


def midi() -> Target:
    """MIDI files with notes, drums, pedals, controllers, bends, programs and changes of tempo, and one within RIFF."""
    message, meta = mido.Message, mido.MetaMessage
    played = [
        meta("set_tempo", tempo=400_000), meta("key_signature", key="F#m"), meta("time_signature", numerator=3),
        message("program_change", program=33), message("control_change", control=64, value=127),
        message("note_on", note=60), message("sysex", data=(1, 2, 3)), message("note_off", note=60, time=480),
        meta("text", text="verse"), message("control_change", control=64, value=0, time=100),
        message("note_on", note=36, channel=9), message("pitchwheel", pitch=99), message("note_on", note=36, channel=9, velocity=0),
        meta("set_tempo", tempo=900_000, time=9), message("note_on", note=72), message("note_on", note=72, velocity=0, time=200),
    ]  # fmt: skip
    controls = (
        (101, 0),
        (100, 0),
        (6, 12),
        (7, 90),
        (11, 20),
        (66, 127),
        (64, 127),
        (66, 0),
        (121, 0),
        (123, 0),
        (120, 0),
    )
    led = [message("control_change", control=control, value=value, time=30) for control, value in controls]
    moved = [
        meta("midi_port", port=1),
        message("note_on", note=50),
        message("pitchwheel", pitch=-8192),
        *led,
        message("aftertouch"),
    ]
    inputs = []
    for kind, tracks in ((0, [played]), (1, [played[:3], played[3:], moved]), (2, [played])):
        stream = io.BytesIO()
        mido.MidiFile(type=kind, tracks=[mido.MidiTrack(track) for track in tracks]).save(file=stream)
        inputs.append((".mid", stream.getvalue()))
    inputs.append((".rmi", b"RIFF\0\0\0\0RMIDdata\0\0\0\0" + inputs[1][1]))

    def read(path: Path) -> None:
        is_midi(path)
        with contextlib.suppress(ParamsError):
            _check(read_midi(path, 1, {34: "bass"}))
        _check(read_midi(path).with_drums(["kick", "snare"])[0])

    return Target(inputs, read)


def _check(score: Score) -> None:
    starts = [note.start for note in score.notes]
    assert 0 < len(starts) <= MOST_NOTES
    assert starts == sorted(starts)
    assert all(0 <= note.start + (note.seconds or 0) <= MOST_SECONDS for note in score.notes)
    assert all(note.seconds is None or note.seconds >= 0 for note in score.notes)


def settings() -> Target:
    """Settings as of `params.yaml`, resolved for folders of three sizes."""

    def read(path: Path) -> None:
        params = load_params(path)
        for recordings in RECORDINGS:
            params.vqvae_config(recordings)
            params.prior_config(recordings)
            assert 0 < params.split.resolve(recordings) < 1

    return Target([(".yaml", default_file().read_bytes())], read, yaml_mutant)


def words() -> Target:
    """Texts of flags: patterns, programs, notes and labels of drums."""

    def read(path: Path) -> None:
        text, refusals = path.read_bytes().decode(errors="replace"), list[ParamsError]()
        drum_keys(text.split(","))
        for reads in (_read_pattern, read_programs, _read_keys):
            try:
                reads(text)
            except ParamsError as error:
                refusals.append(error)
        assert all(str(refusal).isprintable() for refusal in refusals), refusals
        if len(refusals) == 3:
            raise refusals[0]

    def change(data: bytes, draw: random.Random) -> bytes:
        return mutant(data, draw) if draw.randrange(2) else "".join(draw.choices(PIECES, k=draw.randrange(40))).encode()

    texts = ("kick:x..X hi hat:o|-; snare:....x...", "1=keys, 34=bass", "C3,F#2, Bb4,60,C2:C4", "kick,snare,open hat 2")
    return Target([("", text.encode()) for text in texts], read, change)


def _read_pattern(text: str) -> None:
    _check(read_pattern(text, 120, 2, 0.5))


def _read_keys(text: str) -> None:
    assert set(read_notes(text)) <= set(KEYS)


def requests() -> Target:
    """JSON objects of programs after the name of a verb; a valid one would run the command of the verb."""
    import gradio as gr

    from distill.cli.main import app
    from distill.ui.jobs import NO_JOB, Job
    from distill.ui.programs import Programs
    from distill.ui.workspace import Workspace

    work, flags = Workspace(Path(tempfile.mkdtemp())), typer.main.get_command(app).commands  # type: ignore[attr-defined]
    work.models.mkdir()
    (work.models / "tiny.distill").touch()
    upload = work.uploads / "a" / "tone.wav"
    upload.parent.mkdir(parents=True)
    upload.write_bytes(b"RIFF")
    tone = {"path": str(upload), "meta": {"_type": "gradio.FileData"}}

    def start(kind: str, _title: str, arguments: list[str], _values: Mapping[str, Any]) -> Job:
        verb = VERBS[kind]
        kit = ["--out", "kit"] * (kind == "kit")
        try:
            with contextlib.chdir(work.root):
                params = flags[kind].make_context(kind, [*arguments[1:], *kit]).params
            known = {key: params[key] for key in fields_of(verb.settings) if params[key] is not None}
            needed = [name for name in verb.arguments if verb.settings.model_fields[name].is_required()]
            validated(verb.settings, {**dict.fromkeys(needed, upload), **known})
        except Exception as error:
            if not isinstance(error, DistillError) and not hasattr(error, "format_message"):  # typer's usage errors
                raise
            raise ParamsError(one_line(error, 900)) from error  # as a command says it
        folder = flags[kind].make_context(kind, [*arguments[1:2], *kit], resilient_parsing=True).params["out"]
        assert params["out"] == folder
        paths = [path for path in params.values() if isinstance(path, Path) and path != folder]
        assert all(path in (Path("models/tiny.distill"), upload) for path in paths), paths
        return NO_JOB

    work.jobs.start = start  # type: ignore[method-assign, assignment]

    def read(path: Path) -> None:
        name, _, text = path.read_bytes().partition(b" ")
        verb = VERBS.get(name.decode("latin1"))
        try:
            settings = json.loads(text)
        except (ValueError, RecursionError):
            settings = None
        if verb is None or not isinstance(settings, dict):
            raise DistillError("no endpoint, or no JSON object: Gradio refuses it")
        with contextlib.suppress(gr.Error):  # the job of none
            asyncio.run(Programs(work).call(verb, settings))

    def change(data: bytes, draw: random.Random) -> bytes:
        if draw.randrange(2):
            return mutant(data, draw)
        verb = draw.choice(list(VERBS.values()))
        known = [*fields_of(verb.settings), *verb.arguments, "model"]
        values = [*VALUES, tone, [tone, tone], None, 1, 0.5, True, [], {}]
        return request(verb.name, **{name: draw.choice(values) for name in draw.choices(known, k=3)})

    def request(verb: str, **settings: Any) -> bytes:
        return f"{verb} {json.dumps({'model': 'tiny.distill', **settings})}".encode()

    inputs = [
        request("generate", seconds=0.2, seed=1, n=2, note="C3:E3", temperature=0.5),
        request("generate", pattern="kick:x.x.", bpm=120, bars=2, swing=0.5, stems=True),
        request("generate", follow=tone, track=1, program="1=keys"),
        request("vary", recording=tone, n=3),
        request("vary", model=tone, n=3),
        request("morph", first=tone, last=tone, steps=3),
        request("extend", recording=tone, after=0.5, label="kick"),
        request("fill", recording=tone, start=0.1, end=0.2),
        request("kit", per_label=2, keys=["kick=C3"], labels=["kick"]),
    ]
    return Target([("", data) for data in inputs], read, change)


TARGETS: Mapping[str, Callable[[], Target]] = {
    "sounds": sounds,
    "models": models,
    "forgeries": forgeries,
    "codes": codes,
    "midi": midi,
    "settings": settings,
    "words": words,
    "requests": requests,
}
