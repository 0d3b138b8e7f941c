"""Build a model file from the artefacts of codec and prior, and its card: the facts of the file in Markdown."""

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Self

from distill.code_version import code_sha256
from distill.codec.artifact import load_codec
from distill.codec.model import VQVAE
from distill.codes.store import uniform_bits
from distill.errors import ArtifactError
from distill.execution import date_from_environment
from distill.generate.context import GenerationContext
from distill.generate.critic_fit import fit_critic
from distill.generate.selection.faults import with_limits
from distill.model_file.format import (
    Bundle,
    BundleMetadata,
    LevelHealth,
    PriorMetadata,
    Provenance,
    save_bundle,
)
from distill.novelty.reference import Reference
from distill.novelty.scores import with_scores, with_sound
from distill.params import Params
from distill.prior.architectures import ARCHITECTURES
from distill.prior.artifact import PriorArtifact, load_prior, load_reference
from distill.prior.base import Prior
from distill.storage.files import CARD_MARK, check_replaceable, sha256_json, write_bytes
from distill.training.checkpoints import loss_curves
from distill.training.events import kept_weights

Facts = list[tuple[str, str]]

WRITTEN = "written"  # key of the date in `metadata`


@dataclass(frozen=True)
class Dates:
    """Dates that a model file holds, UTC in ISO 8601. A date that equal inputs would not reproduce is None."""

    written: str | None = None
    trained: str | None = None  # the prior
    recordings: str | None = None  # of their last commit

    @classmethod
    def now(cls) -> Self:
        """The dates of a file whose training has just ended. Raises ParamsError."""
        return cls(date_now(), date_now())

    @property
    def notes(self) -> dict[str, str]:
        """Dates that are stored in `metadata`."""
        known = {WRITTEN: self.written, "recordings_date": self.recordings}
        return {name: date for name, date in known.items() if date}


UNDATED = Dates()


def bundle_artifacts(
    path: Path,
    vqvae: Path,
    prior: Path | None = None,
    reference: bool = True,
    dates: Dates = UNDATED,
) -> BundleMetadata:
    """Write the model file `path` from the training artefacts; without a prior it encodes and decodes only.

    With `reference` it holds the codes of the recordings, which new sounds are compared with. Without dates equal
    artefacts give equal files. Raises ArtifactError when the prior was trained on the codes of another codec.
    """
    codec, config = load_codec(vqvae)
    training = {"vqvae": config.training.model_dump()}
    training["split"] = config.model_dump(
        include={"seed", "val_fraction", "by_label", "trim", "stereo"}
    )
    metadata = BundleMetadata(
        vqvae_config=codec.architecture,
        spectrogram_config=codec.spectrogram,
        training_config=training,
        codebook_health_snapshot={
            level: LevelHealth(**values) for level, values in config.codebook_health.items()
        },
        loss_curve_history=loss_curves(vqvae, "vqvae"),
        metadata={
            **{"recordings": config.recordings, "tier": config.tier},
            **{
                "codec_weights": kept_weights(config.best_epoch, config.epochs_trained),
                **dates.notes,
            },
        },
        provenance=Provenance(
            data_sha256=config.corpus_sha256,
            code_sha256=code_sha256("train_vqvae"),
            params_sha256=sha256_json(training),
            codec_fingerprint=config.fingerprint,
        ),
        codec_sha256=config.codec_sha256,
    )
    bundle = Bundle(codec, None, metadata)
    return bundle_prior(path, bundle, prior, reference, dates) if prior else _save(path, bundle)


def bundle_prior(
    path: Path,
    bundle: Bundle,
    prior: Path,
    reference: bool = True,
    dates: Dates = UNDATED,
) -> BundleMetadata:
    """Write the model file `path` with the codec of `bundle` and the prior artefact `prior`. Raises ArtifactError."""
    model, config = load_prior(prior)
    if config.codec_sha256 != bundle.metadata.codec_sha256:
        raise ArtifactError(
            f"{prior}: expected a prior of this codec, found one of another; train it again"
        )
    curves, unscored = (
        loss_curves(prior, "prior"),
        load_reference(prior, config.shape) if reference else None,
    )
    return save_with_prior(path, bundle, model, config, curves, unscored, dates)


def save_with_prior(
    path: Path,
    bundle: Bundle,
    prior: Prior,
    config: PriorArtifact,
    curves: dict[str, list[float]],
    reference: Reference | None,
    dates: Dates,
) -> BundleMetadata:
    """Write the model file `path` with the codec of `bundle` and a trained prior; `reference` has no measures yet."""
    metadata = bundle.metadata
    training = {**metadata.training_config, "prior": config.training.model_dump()}
    sources = {
        "code_sha256": code_sha256("train_vqvae", "train_prior"),
        "params_sha256": sha256_json(training),
        "prior_fingerprint": config.fingerprint,
    }
    notes: dict[str, Any] = {
        key: metadata.metadata[key] for key in ("tier", "codec_weights") if key in metadata.metadata
    }
    notes |= {
        "recordings": config.recordings,
        "val_bits_per_second": config.val_bits_per_second,
        **dates.notes,
    }
    notes["prior_weights"] = kept_weights(config.best_epoch, config.epochs_trained)
    critic = None
    if reference:
        reference = measured(reference, bundle.codec)
        critic = fit_critic(
            GenerationContext(bundle.codec, prior, reference, config.shape.labels), reference
        )
        notes["reference_recordings"] = len(reference.codes)
        if stereo := sum(about.is_stereo for about in reference.side_info):
            notes["stereo_recordings"] = stereo
    kept = {"epochs_trained", "final_perplexity", "best_perplexity", "memorization"}
    changes = {
        "training_config": training,
        "loss_curve_history": {**metadata.loss_curve_history, **curves},
        "prior_config": config.shape,
        "prior_metadata": PriorMetadata(
            **config.model_dump(include=kept), training_date=dates.trained
        ),
        "critic": critic,
        "metadata": notes,
        "provenance": metadata.provenance.model_copy(update=sources),
    }
    return _save(path, Bundle(bundle.codec, prior, metadata.model_copy(update=changes), reference))


def measured(reference: Reference, codec: VQVAE) -> Reference:
    """A reference with all that new sounds are compared with: scores, how recordings sound, and limits of faults."""
    for measure in (with_scores, with_sound, with_limits):
        reference = measure(reference, codec)
    return reference


def _save(path: Path, bundle: Bundle) -> BundleMetadata:
    """Write the model file and its card, replacing files that Distill made. Raises ParamsError."""
    check_replaceable("model file", [path, card_path(path)], replace=True)
    written = save_bundle(path, bundle.codec, bundle.prior, bundle.metadata, bundle.reference)
    write_bytes(card_path(path), card_text(path.name, written).encode())
    return written


def facts(metadata: BundleMetadata) -> Facts:
    """Rows (name, value) on sound, codec, its codebooks on held-out recordings, and prior, from the metadata."""
    notes = [
        (key.replace("_", " "), f"{value:.6g}" if isinstance(value, float) else str(value))
        for key, value in metadata.metadata.items()
    ]
    levels = zip(
        metadata.vqvae_config.layout.names, metadata.codebook_health_snapshot.values(), strict=False
    )
    health = [
        (level, f"{of.utilization:.0%} of codewords used, perplexity {of.perplexity:.1f}")
        for level, of in levels
    ]
    return [*_codec_facts(metadata), *_prior_facts(metadata), *notes, *health]


def _codec_facts(metadata: BundleMetadata) -> Facts:
    codec, rate = metadata.vqvae_config, metadata.spectrogram_config.frame_rate
    kinds = [
        (size, name.partition(" ")[0])
        for size, name in zip(codec.codebook_sizes, codec.layout.names, strict=True)
    ]
    equal = [(size, name, len(list(levels))) for (size, name), levels in groupby(kinds)]
    sizes = " + ".join(
        f"{number} × {size} ({name})" if number > 1 else f"{size} ({name})"
        for size, name, number in equal
    )
    kilobits = rate * uniform_bits(codec.codebook_sizes) / 1000
    of_codec = f"{codec.num_quantizers} levels of {sizes} codes, {rate:.1f} frames per second: {kilobits:.2f} kbit/s"
    channels = "stereo by images" if "stereo_recordings" in metadata.metadata else "mono"
    return [
        ("sound", f"{channels}, {metadata.spectrogram_config.sample_rate} Hz"),
        ("codec", of_codec),
    ]


def _prior_facts(metadata: BundleMetadata) -> Facts:
    prior, trained = metadata.prior_config, metadata.prior_metadata
    if not (prior and trained):
        return [
            (
                "prior",
                "none: new sounds are drawn by the pretrained prior, if it can read the codes",
            )
        ]
    seconds = prior.context_frames / metadata.spectrogram_config.frame_rate
    context = f"context {seconds:.1f} s"
    if beyond := ARCHITECTURES[prior.architecture].beyond_context:
        context += f" and {beyond}"
    more = f" and {len(prior.labels) - 20} more" * (len(prior.labels) > 20)
    size = f"{prior.architecture}, {prior.num_layers} layers of {prior.hidden_size}, {prior.num_heads} heads"
    rows = [
        ("prior", f"{size}, {context}"),
        ("labels", ", ".join(prior.labels[:20]) + more),
        ("held out", f"perplexity {trained.best_perplexity:.1f}"),
        ("critic", metadata.critic.line if metadata.critic else ""),
        (
            "trained",
            trained.training_date
            or "no date, as equal inputs give equal files; MLflow has that of the run",
        ),
        ("warning", trained.memorization.message),
    ]
    return [(name, value) for name, value in rows if value]


def origins(metadata: BundleMetadata) -> Facts:
    """Rows (name, SHA-256) of the file's own weights and of its sources; of a run it is the fingerprint."""
    sources = {
        key.removesuffix("_sha256").replace("fingerprint", "run").replace("_", " "): value
        for key, value in metadata.provenance.model_dump().items()
        if value
    }
    return [
        ("weights", metadata.payload_sha256),
        ("codec", metadata.codec_sha256),
        *sources.items(),
    ]


def card_path(model: Path) -> Path:
    """Path of a model file's card: `<file>.md` in the same folder."""
    return model.with_name(model.name + ".md")


def card_text(name: str, metadata: BundleMetadata) -> str:
    """The model card in Markdown; text from the file is escaped."""
    quoted = shlex.quote(name)
    kept = (
        "It holds no codes of its training recordings, and cannot report the novelty of its sounds."
    )
    if isinstance(recordings := metadata.metadata.get("reference_recordings"), int):
        kept = (
            f"It holds the codes of its {recordings} training recordings, to report the novelty of its sounds. Whoever has the\n"
            "  file can decode them; `bundle.reference: false` leaves them out."
        )
    makes = generating = ""
    if metadata.has_prior:
        makes, generating = (
            " and a prior, which makes new sounds",
            f"distill generate {quoted} -n 8\n",
        )
    return f"""# {_escaped(name)}

{CARD_MARK}. It holds a neural codec{makes}.

{_table(("what", "figures"), facts(metadata))}

## Use

```sh
distill verify {quoted}
{generating}distill encode {quoted} recording.wav -o recording.codes
distill decode {quoted} recording.codes -o recording-again.wav
```

## Before you pass it on

- It was trained on somebody's recordings, and its sounds can resemble or repeat them. Whoever owns those recordings
  should agree to what is done with the model.
- {kept}
- It knows these recordings, and what Distill's pretrained weights learnt from synthetic sounds. The codec reproduces
  other sounds badly.

## Origin

Distill rewrites this page whenever it writes the model file.

{_table(("what", "SHA-256"), origins(metadata))}
"""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in lines)


def _escaped(text: str) -> str:
    """Escape text for one line of Markdown."""
    printable = "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text
    )
    return re.sub(r"[\\`*_\[\]<>|#!]", r"\\\g<0>", printable)


def date_now() -> str:
    """UTC in ISO 8601 (2026-01-31T12:00:00Z), of the environment where it sets a date. Raises ParamsError."""
    return date_of(date_from_environment())


def date_of(seconds: float) -> str:
    """UTC in ISO 8601 of a time in seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def source_dates(root: Path, params: Params) -> Dates:
    """Dates that the same inputs reproduce: SOURCE_DATE_EPOCH for the training, if set, and the date of the recordings.

    The recordings have the date of the last commit in the repository `root` that changed them. The same inputs have to
    give the same bytes, so the clock, dates of files (a clone and `dvc checkout` reset them) and the newest commit
    (the commit of `dvc.lock` follows the model) are not used.
    """
    trained = date_now() if "SOURCE_DATE_EPOCH" in os.environ else None
    return Dates(trained=trained, recordings=_recordings_date(root, params))


def _recordings_date(root: Path, params: Params) -> str | None:
    """None where git does not tell: for recordings that are not committed as they are, in an object store, a shallow clone."""
    recordings = params.corpus.path
    with suppress(OSError, subprocess.SubprocessError):
        is_shallow = _git(root, "rev-parse", "--is-shallow-repository") != "false"
        is_changed = _git(root, "status", "--porcelain", "--", recordings)
        seconds = _git(root, "log", "-1", "--format=%ct", "--", recordings)
        if seconds and not (is_shallow or is_changed):
            return date_of(int(seconds))
    return None


def _git(root: Path, *arguments: str) -> str:
    command, quiet = ["git", *arguments], subprocess.DEVNULL
    done = subprocess.run(
        command, cwd=root, stdout=subprocess.PIPE, stderr=quiet, text=True, timeout=60, check=True
    )
    return done.stdout.strip()
