"""`make listen`: a page for ears, with originals and decodes of held-out recordings in blind A/B/X trials.

The page is one file beside its sounds. It asks for no network and draws the order of the trials from a seed of its own.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.arguments import refusals_said, say, seconds, whole
from distill.audio.corpus import MANIFEST, Corpus, ManifestRow, load_corpus
from distill.audio.ingest import ingest
from distill.audio.write import write_audio
from distill.codec.artifact import load_codec
from distill.codec.data import CodecData, evenly_spaced
from distill.codec.fidelity import decoded_pairs
from distill.codec.model import VQVAE
from distill.errors import ArtifactError, AudioError, ParamsError
from distill.model_file.format import Bundle, load_bundle
from distill.pipeline.workspace import PipelineFolders
from distill.storage.files import atomic_folder, sha256_file
from distill.training.checkpoints import WEIGHTS

PAGE = "index.html"
DATA = "/* data */ null"  # in the template, what becomes the sounds
MAX_REJECTED = 0.5  # share of the files of a folder
HELD_OUT = "held-out recordings"
NOT_KNOWN = "recordings of a folder that the codec was not trained on as it is; it may have learnt from some of them"


@dataclass(frozen=True, eq=False)
class Material:
    """A codec and recordings to hear through it; `kind` says which they are."""

    codec: VQVAE
    corpus: Corpus
    entries: Sequence[ManifestRow]
    kind: str


@dataclass(frozen=True)
class Trial:
    """A recording on the page, and its files."""

    name: str
    original: str
    decoded: str
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
    return Material(codec, corpus, sides.held_out, HELD_OUT)


def from_model(model: Path, folder: Path, workplace: Path) -> Material:
    """Codec of a model file, and the recordings of a folder, whose corpus is written into `workplace`.

    They are the held-out ones where the folder is that of the codec's training, otherwise all. Raises DistillError.
    """
    bundle = load_bundle(model)
    corpus, sides = heard_by(bundle, folder, workplace / "corpus")
    entries, kind = (corpus.entries, NOT_KNOWN) if sides is None else (sides.held_out, HELD_OUT)
    return Material(bundle.codec, corpus, entries, kind)


def heard_by(bundle: Bundle, folder: Path | str, output: Path) -> tuple[Corpus, CodecData | None]:
    """The recordings of a folder as a model hears them, written to `output`, and their sides, if it was trained on them."""
    ingest(folder, output, bundle.codec.spectrogram.sample_rate, MAX_REJECTED, trim=bundle.metadata.trim)
    corpus, split = load_corpus(output), bundle.metadata.training_config.get("split")
    if not split or sha256_file(output / MANIFEST) != bundle.metadata.provenance.data_sha256:
        return corpus, None
    chosen = (float(split["val_fraction"]), int(split["seed"]), bool(split.get("by_label")))
    return corpus, CodecData.split(corpus, *chosen)


def write_listening_page(output: Path, material: Material, most: int, longest: float) -> list[Trial]:
    """Write the page and its sounds, `most` recordings at most, evenly spaced, `longest` seconds of each.

    Replaces an earlier page. Raises ParamsError where something else is there, AudioError where all are silent.
    """
    if output.exists() and not _is_ours(output):
        raise ParamsError(
            f"{output}: expected a new folder or an earlier listening page, found something else; choose another --out"
        )
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
        (folder / PAGE).write_text(_page(trials, material), encoding="utf-8")
    return trials


def main() -> None:
    """Write the page that the flags ask for. Exit status 2 without a codec or recordings."""
    arguments = _parser().parse_args()
    with refusals_said("listen"), tempfile.TemporaryDirectory() as workplace:
        material = _material(arguments, Path(workplace))
        trials = write_listening_page(arguments.out, material, arguments.sounds, arguments.seconds)
    say(f"{len(trials)} {material.kind}; open {arguments.out / PAGE} in a browser")


def _material(arguments: argparse.Namespace, workplace: Path) -> Material:
    if (arguments.model is None) != (arguments.folder is None):
        given, missing = ("--model", "--folder") if arguments.folder is None else ("--folder", "--model")
        raise ParamsError(f"{missing}: expected it together with {given}, found {given} alone; give both or neither")
    if arguments.model is None:
        return from_artifacts(arguments.artifacts)
    return from_model(arguments.model, arguments.folder, workplace)


def _is_ours(folder: Path) -> bool:
    """Whether a folder is empty or has a page of ours, so that it can be replaced."""
    if not folder.is_dir():
        return False
    page, title = folder / PAGE, "<title>Distill: blind listening</title>"
    return not any(folder.iterdir()) or (page.is_file() and title in page.read_text("utf-8"))


def _page(trials: Sequence[Trial], material: Material) -> str:
    shape, rate = material.codec.architecture, material.codec.spectrogram.sample_rate
    data = {
        "kind": material.kind,
        "codec": f"{rate} Hz, {shape.num_quantizers} levels of up to {max(shape.codebook_sizes)} codewords",
        "sounds": [vars(trial) for trial in trials],
    }
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")  # no name of a file can end the script
    template = Path(__file__).with_name("listen.html").read_text(encoding="utf-8")
    assert template.count(DATA) == 1
    return template.replace(DATA, text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.listen", description="Write a blind listening page.")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="what make repro wrote")
    parser.add_argument("--model", type=Path, metavar="FILE", help="a .distill model in its place, with --folder")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="recordings to hear through the model")
    parser.add_argument("--out", type=Path, default=Path("artifacts/listen"), help="folder of the page")
    parser.add_argument("--sounds", type=whole(1), default=24, help="most recordings")
    parser.add_argument("--seconds", type=seconds, default=5.0, help="most seconds of a recording")
    return parser


if __name__ == "__main__":
    main()
