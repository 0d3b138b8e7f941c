"""`make listen`: two pages for ears. Original or decoded, in blind A/B/X trials? Recorded or made, one sound at a time?

A page is one file beside its sounds. It asks for no network and draws the order of the trials from a seed of its own.
The second page needs a model with a prior.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.arguments import refusals_said, say, seconds, whole
from distill.api import Model
from distill.audio.corpus import MANIFEST, Corpus, ManifestRow, load_corpus
from distill.audio.ingest import ingest
from distill.audio.plots import write_spectrograms
from distill.audio.write import write_audio
from distill.codec.artifact import load_codec
from distill.codec.data import CodecData, evenly_spaced
from distill.codec.fidelity import decoded_pairs
from distill.codec.model import VQVAE
from distill.errors import ArtifactError, AudioError, ParamsError
from distill.model_file.build import bundle_artifacts
from distill.model_file.format import Bundle, load_bundle
from distill.params import Channels
from distill.pipeline.workspace import PipelineFolders
from distill.storage.files import atomic_folder, sha256_file
from distill.training.checkpoints import WEIGHTS

PAGE = "index.html"
MADE = "recorded-or-made"  # folder of the second page, in that of the first
KINDS = {  # of sounds of the second page, in words; the first are the recordings
    "recorded": "recordings",
    "decoded": "decoded recordings",
    "drawn": "new sounds",
    "taken": "takes of recordings",
}
EACH = 10  # trials of a kind on the second page
PEAK = 0.9  # of its sounds
WINDOWS = (512, 4096)  # samples, of its spectrograms
MAX_REJECTED = 0.5  # share of the files of a folder
HELD_OUT = "held-out recordings"
NOT_KNOWN = "recordings of a folder that the codec was not trained on as it is; it may have learnt from some of them"


@dataclass(frozen=True, eq=False)
class Material:
    """A codec and recordings to hear through it; `kind` says which they are. Takes are of the `training` ones."""

    codec: VQVAE
    corpus: Corpus
    entries: Sequence[ManifestRow]
    kind: str
    training: Sequence[ManifestRow]


@dataclass(frozen=True)
class Trial:
    """A recording on the first page, and its files."""

    name: str
    original: str
    decoded: str
    seconds: float


@dataclass(frozen=True)
class Sound:
    """A sound on the second page, what it is, and its files."""

    kind: str
    name: str
    sound: str
    pictures: tuple[str, ...]
    seconds: float


def from_artifacts(folder: Path) -> Material:
    """Codec and held-out recordings of a pipeline. Raises ArtifactError without them."""
    folders = PipelineFolders.below(folder)
    if not (folders.vqvae / WEIGHTS).is_file():
        raise ArtifactError(
            f"{folders.vqvae}: expected a trained codec, found none; run make repro first, "
            'or name a model and its recordings: make listen ARGS="--model FILE --folder DIR"'
        )
    codec, config = load_codec(folders.vqvae)
    corpus = load_corpus(folders.corpus)
    if sha256_file(folders.corpus / MANIFEST) != config.corpus_sha256:
        raise ArtifactError(
            f"{folders.corpus}: expected the corpus that the codec was trained on, found another; run make repro again"
        )
    sides = CodecData.split(corpus, config.val_fraction, config.seed, config.by_label)
    return Material(codec, corpus, sides.held_out, HELD_OUT, sides.train)


def from_model(model: Path, folder: Path, workplace: Path) -> Material:
    """Codec of a model file, and the recordings of a folder, whose corpus is written into `workplace`.

    They are the held-out ones where the folder is that of the codec's training, otherwise all. Raises DistillError.
    """
    bundle = load_bundle(model)
    corpus, sides = heard_by(bundle, folder, workplace / "corpus")
    if sides is None:
        return Material(bundle.codec, corpus, corpus.entries, NOT_KNOWN, corpus.entries)
    return Material(bundle.codec, corpus, sides.held_out, HELD_OUT, sides.train)


def heard_by(bundle: Bundle, folder: Path | str, output: Path) -> tuple[Corpus, CodecData | None]:
    """The recordings of a folder as a model hears them, written to `output`, and their sides, if it was trained on them."""
    channels: Channels = "auto" if bundle.metadata.is_stereo else "mono"
    rate = bundle.codec.spectrogram.sample_rate
    ingest(folder, output, rate, MAX_REJECTED, trim=bundle.metadata.trim, channels=channels)
    corpus, split = load_corpus(output), bundle.metadata.training_config.get("split")
    if not split or sha256_file(output / MANIFEST) != bundle.metadata.provenance.data_sha256:
        return corpus, None
    chosen = (float(split["val_fraction"]), int(split["seed"]), bool(split.get("by_label")))
    return corpus, CodecData.split(corpus, *chosen)


def write_listening_page(
    output: Path, material: Material, most: int, longest: float
) -> list[Trial]:
    """Write the page and its sounds, `most` recordings at most, evenly spaced, `longest` seconds of each.

    Replaces an earlier page. Raises ParamsError where something else is there, AudioError where all are silent.
    """
    _refuse_what_is_not_ours(output)
    rate = material.corpus.sample_rate
    entries = [material.entries[index] for index in evenly_spaced(len(material.entries), most)]
    trials = []
    with atomic_folder(output) as folder:
        pairs = decoded_pairs(material.codec, material.corpus, entries, longest)
        for number, (entry, (original, decoded)) in enumerate(zip(entries, pairs, strict=True)):
            if original.any():
                files = f"{number:02d}_original.wav", f"{number:02d}_decoded.wav"
                for file, samples in zip(files, (original, decoded), strict=True):
                    write_audio(folder / file, samples, rate)
                trials.append(Trial(entry.path, *files, len(original) / rate))
        if not trials:
            raise AudioError(
                f"{entries[0].path}: expected {material.kind} with sound, found silence in the first {longest:g} s of "
                f"all {len(entries)}; choose other recordings or more --seconds"
            )
        data = {
            "kind": material.kind,
            "codec": _about(material.codec),
            "sounds": [vars(trial) for trial in trials],
        }
        _write_page(folder, "listen_decodes.html", data)
    return trials


def write_made_page(
    output: Path, model: Model, material: Material, longest: float, seed: int
) -> list[Sound]:
    """Write the second page and its sounds, EACH of a kind at most, `longest` seconds of each; all have one peak.

    Files are numbered in a random order, so that no name tells a kind. Replaces an earlier page. Raises ParamsError
    where something else is there, AudioError where all recordings are silent.
    """
    _refuse_what_is_not_ours(output)
    rate, heard = material.corpus.sample_rate, [*_sounds(model, material, longest, seed)]
    payload_sha256 = model.metadata.payload_sha256
    order = np.random.default_rng([seed, int(payload_sha256, 16)]).permutation(
        len(heard)
    )  # another of each model
    shown = []
    with atomic_folder(output) as folder:
        for number, place in enumerate(order):
            kind, name, samples = heard[place]
            level = samples * np.float32(PEAK / np.abs(samples).max(initial=1e-9))
            pictures = {f"{number:02d}_{window}.png": window for window in WINDOWS}
            write_audio(folder / f"{number:02d}.wav", level, rate)
            for file, window in pictures.items():
                write_spectrograms(
                    folder / file,
                    [(f"windows of {window} samples", level)],
                    rate,
                    window / rate,
                    dpi=200,
                )
            shown.append(
                Sound(kind, name, f"{number:02d}.wav", tuple(pictures), len(samples) / rate)
            )
        about = (
            f"Codec: {_about(material.codec)}; decoded are {material.kind}; sounds of seed {seed}"
        )
        trials = [vars(sound) for sound in shown]
        data = {"kinds": KINDS, "about": about, "model": payload_sha256, "trials": trials}
        _write_page(folder, "listen_made.html", data)
    return shown


def _sounds(
    model: Model, material: Material, longest: float, seed: int
) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    """Kind, name and samples `[N]` of sounds, as many of each kind. Where there are enough, no recording is there twice.

    What was recorded may be of the model's training; what is decoded is not.
    """
    corpus, length, rng = (
        material.corpus,
        round(longest * material.corpus.sample_rate),
        np.random.default_rng(seed),
    )

    def read(entry: ManifestRow) -> NDArray[np.float32]:
        return corpus.read(entry, 0, min(entry.samples, length))

    held_out, training = (
        [entries[place] for place in rng.permutation(len(entries)) if read(entries[place]).any()]
        for entries in (material.entries, material.training)
    )
    count = min(EACH, len(held_out), len(training))
    if not count:
        raise AudioError(
            f"{corpus.folder}: expected recordings with sound, found silence in the first {longest:g} s; choose other "
            "recordings or more --seconds"
        )
    decoded = held_out[:count]
    taken = [*(entry for entry in training if entry not in decoded), *training][:count]
    others = (entry for entry in [*held_out, *training] if entry not in [*decoded, *taken])
    for entry in [*others, *held_out][:count]:
        yield "recorded", entry.path, read(entry)
    for entry, (_, sound) in zip(
        decoded, decoded_pairs(model.bundle.codec, corpus, decoded, longest), strict=True
    ):
        yield "decoded", entry.path, sound
    for number, sound in enumerate(model.generate(count, seed=seed, width=0).sounds):
        yield "drawn", f"sound {number}", sound[:length]
    for turn, entry in enumerate(taken):
        yield "taken", entry.path, model.vary(read(entry), 1, seed=seed + turn, width=0).sounds[0]


def main() -> None:
    """Write the pages that the flags ask for. Exit status 2 without a codec or recordings."""
    arguments = _parser().parse_args()
    with refusals_said("listen"), tempfile.TemporaryDirectory() as workplace:
        material = _material(arguments, Path(workplace))
        trials = write_listening_page(arguments.out, material, arguments.sounds, arguments.seconds)
        say(f"{len(trials)} {material.kind}; open {arguments.out / PAGE} in a browser")
        model = _model(arguments, Path(workplace) / "listen.distill")
        if not model.metadata.has_prior:
            say(
                "recorded or made? This page needs a prior, and there is a codec alone: train one, then run this again"
            )
            return
        folder = arguments.out / MADE
        sounds = write_made_page(folder, model, material, arguments.seconds, arguments.seed)
        say(f"recorded or made? {len(sounds)} sounds; open {folder / PAGE} in a browser")


def _material(arguments: argparse.Namespace, workplace: Path) -> Material:
    if (arguments.model is None) != (arguments.folder is None):
        given, missing = (
            ("--model", "--folder") if arguments.folder is None else ("--folder", "--model")
        )
        raise ParamsError(
            f"{missing}: expected it together with {given}, found {given} alone; give both or neither"
        )
    if arguments.model is None:
        return from_artifacts(arguments.artifacts)
    return from_model(arguments.model, arguments.folder, workplace)


def _model(arguments: argparse.Namespace, path: Path) -> Model:
    """The model that the flags name, or that of the artifacts, which is written to `path`."""
    if arguments.model is not None:
        return Model(arguments.model)
    folders = PipelineFolders.below(arguments.artifacts)
    has_prior = (folders.prior / WEIGHTS).is_file()
    bundle_artifacts(path, folders.vqvae, folders.prior if has_prior else None)
    return Model(path)


def _refuse_what_is_not_ours(folder: Path) -> None:
    """Raise ParamsError where a folder is neither new nor empty nor that of an earlier page."""
    page, title = folder / PAGE, "<title>Distill: blind listening</title>"
    is_empty = folder.is_dir() and not any(folder.iterdir())
    if (
        folder.exists()
        and not is_empty
        and not (page.is_file() and title in page.read_text("utf-8"))
    ):
        raise ParamsError(
            f"{folder}: expected a new folder or an earlier listening page, found something else; choose another --out"
        )


def _about(codec: VQVAE) -> str:
    """A codec in a few words."""
    shape = codec.architecture
    sizes = f"{shape.num_quantizers} levels of up to {max(shape.codebook_sizes)} codewords"
    return f"{codec.spectrogram.sample_rate} Hz, {sizes}"


def _write_page(folder: Path, template: str, data: Mapping[str, Any]) -> None:
    """Write a page: the frame that both have, with the trials of one."""
    text = json.dumps(data, ensure_ascii=False).replace(
        "<", "\\u003c"
    )  # no name of a file can end the script
    frame, body = (
        Path(__file__).with_name(name).read_text("utf-8") for name in ("listen.html", template)
    )
    for place, content in {"<!-- page -->": body, "/* data */ null": text}.items():
        assert frame.count(place) == 1
        frame = frame.replace(place, content)
    (folder / PAGE).write_text(frame, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.listen", description="Write pages for blind listening."
    )
    parser.add_argument(
        "--artifacts", type=Path, default=Path("artifacts"), help="what make repro wrote"
    )
    parser.add_argument(
        "--model", type=Path, metavar="FILE", help="a .distill model in its place, with --folder"
    )
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="recordings to hear through the model"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("artifacts/listen"), help="folder of the pages"
    )
    parser.add_argument(
        "--sounds", type=whole(1), default=24, help="most recordings of the first page"
    )
    parser.add_argument("--seconds", type=seconds, default=5.0, help="most seconds of a sound")
    parser.add_argument("--seed", type=whole(0), default=0, help="of the sounds of the second page")
    return parser


if __name__ == "__main__":
    main()
