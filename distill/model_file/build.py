"""Build a model file from the artefacts of codec and prior."""

from pathlib import Path
from typing import Any

from distill.code_version import code_sha256
from distill.codec.artifact import load_codec
from distill.errors import ArtifactError
from distill.model_file.card import WRITTEN, write_card
from distill.model_file.format import (
    Bundle,
    BundleMetadata,
    LevelHealth,
    PriorMetadata,
    Provenance,
    codec_shape,
    save_bundle,
)
from distill.novelty.reference import Reference
from distill.novelty.scoring import with_scores
from distill.prior.artifact import PriorArtifact, load_prior, load_reference
from distill.prior.base import Prior
from distill.storage.files import canonical_json, sha256_text
from distill.training.artifact import loss_curves


def bundle_artifacts(
    path: Path,
    vqvae: Path,
    prior: Path | None = None,
    reference: bool = True,
    date: str | None = None,
) -> BundleMetadata:
    """Write the model file `path` from the training artefacts; without a prior it encodes and decodes only.

    With `reference` it holds the codes of the recordings, which new sounds are compared with. Without a `date` equal
    artefacts give equal files. Raises ArtifactError when the prior was trained on the codes of another codec.
    """
    codec, config = load_codec(vqvae)
    training: dict[str, Any] = {
        "vqvae": config.training.model_dump(),
        "split": {"seed": config.seed, "val_fraction": config.val_fraction},
    }
    metadata = BundleMetadata(
        vqvae_config=codec_shape(codec),
        spectrogram_config=codec.spectrogram,
        training_config=training,
        codebook_health_snapshot={level: LevelHealth(**values) for level, values in config.codebook_health.items()},
        loss_curve_history=loss_curves(vqvae, "vqvae"),
        metadata={"recordings": config.recordings, "tier": config.tier, **_written(date)},
        provenance=Provenance(
            data_sha256=config.corpus_sha256,
            code_sha256=code_sha256("train_vqvae"),
            params_sha256=_hash(training),
            codec_fingerprint=config.fingerprint,
        ),
        codec_sha256=config.codec_sha256,
    )
    bundle = Bundle(codec, None, metadata)
    return _save(path, bundle) if prior is None else bundle_prior(path, bundle, prior, reference, date)


def bundle_prior(
    path: Path,
    bundle: Bundle,
    prior: Path,
    reference: bool = True,
    date: str | None = None,
) -> BundleMetadata:
    """Write the model file `path` with the codec of `bundle` and the prior artefact `prior`. Raises ArtifactError."""
    model, config = load_prior(prior)
    if config.codec_sha256 != bundle.metadata.codec_sha256:
        raise ArtifactError(f"{prior}: expected a prior of this codec, found one of another; train it again")
    curves, unscored = loss_curves(prior, "prior"), load_reference(prior, config.shape) if reference else None
    return save_with_prior(path, bundle, model, config, curves, unscored, date)


def save_with_prior(
    path: Path,
    bundle: Bundle,
    prior: Prior,
    config: PriorArtifact,
    curves: dict[str, list[float]],
    reference: Reference | None,
    date: str | None,
) -> BundleMetadata:
    """Write the model file `path` with the codec of `bundle` and a trained prior; `reference` has no scores yet."""
    scored = None if reference is None else with_scores(reference, bundle.codec)
    return _save(path, Bundle(bundle.codec, prior, _with_prior(bundle.metadata, config, curves, date), scored))


def prior_metadata(prior: PriorArtifact, date: str | None) -> PriorMetadata:
    """The facts of a prior's training that a model file keeps."""
    return PriorMetadata(
        epochs_trained=prior.epochs_trained,
        final_perplexity=prior.final_perplexity,
        best_perplexity=prior.best_perplexity,
        training_date=date,
        memorization=prior.memorization,
    )


def _save(path: Path, bundle: Bundle) -> BundleMetadata:
    """Write the model file and its card."""
    metadata = bundle.metadata
    if bundle.reference is not None:
        notes = {**metadata.metadata, "reference_recordings": len(bundle.reference.codes)}
        metadata = metadata.model_copy(update={"metadata": notes})
    written = save_bundle(path, bundle.codec, bundle.prior, metadata, bundle.reference)
    write_card(path, written)
    return written


def _with_prior(
    metadata: BundleMetadata, prior: PriorArtifact, curves: dict[str, list[float]], date: str | None
) -> BundleMetadata:
    training = {**metadata.training_config, "prior": prior.training.model_dump()}
    sources = {
        "code_sha256": code_sha256("train_vqvae", "train_prior"),
        "params_sha256": _hash(training),
        "prior_fingerprint": prior.fingerprint,
    }
    notes = {key: metadata.metadata[key] for key in ("tier",) if key in metadata.metadata}
    notes |= {"recordings": prior.recordings, "val_bits_per_second": prior.val_bits_per_second, **_written(date)}
    return metadata.model_copy(
        update={
            "training_config": training,
            "loss_curve_history": {**metadata.loss_curve_history, **curves},
            "prior_config": prior.shape,
            "prior_metadata": prior_metadata(prior, date),
            "metadata": notes,
            "provenance": metadata.provenance.model_copy(update=sources),
        }
    )


def _written(date: str | None) -> dict[str, str]:
    return {} if date is None else {WRITTEN: date}


def _hash(settings: dict[str, Any]) -> str:
    return sha256_text(canonical_json(settings))
