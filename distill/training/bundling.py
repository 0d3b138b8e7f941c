"""The two training artefacts as one model file."""

from pathlib import Path

import distill
from distill.bundle import BundleMetadata, LevelHealth, PriorMetadata, Provenance, codec_shape, save_bundle
from distill.errors import ArtifactError
from distill.files import canonical_json, sha256_files, sha256_text
from distill.training.artifacts import loss_curves
from distill.training.codec_artifact import load_codec
from distill.training.prior_artifact import load_prior


def bundle_artifacts(path: Path, vqvae: Path, prior: Path) -> BundleMetadata:
    """Write the model file `path` from the two training artefacts. Raises ArtifactError when they do not belong together."""
    codec, codec_config = load_codec(vqvae)
    model, prior_config = load_prior(prior)
    if prior_config.codec_sha256 != codec_config.codec_sha256:
        raise ArtifactError(
            f"{prior}: expected a prior of the codec in {vqvae}, found one of another codec; run `dvc repro` again"
        )
    settings = {"vqvae": codec_config.training.model_dump(), "prior": prior_config.training.model_dump()}
    package = Path(distill.__file__).parent
    curves = {**loss_curves(vqvae, "vqvae"), **loss_curves(prior, "prior")}
    metadata = BundleMetadata(
        has_prior=True,
        vqvae_config=codec_shape(codec),
        spectrogram_config=codec.spectrogram,
        training_config=settings,
        codebook_health_snapshot={
            level: LevelHealth(**values) for level, values in codec_config.codebook_health.items()
        },
        loss_curve_history=curves,
        prior_config=prior_config.shape,
        prior_metadata=PriorMetadata(
            epochs_trained=prior_config.epochs_trained,
            final_perplexity=prior_config.final_perplexity,
            best_perplexity=prior_config.best_perplexity,
        ),
        codebook_size=codec_config.architecture.codebook_size,
        seq_len=prior_config.shape.seq_len,
        num_quantizers=codec_config.architecture.num_quantizers,
        metadata={
            "recordings": prior_config.recordings,
            "val_bits_per_second": prior_config.val_bits_per_second,
        },
        provenance=Provenance(
            data_sha256=codec_config.corpus_sha256,
            code_sha256=sha256_files((package / "models").glob("*.py"), package),
            params_sha256=sha256_text(canonical_json(settings)),
            codec_fingerprint=codec_config.fingerprint,
            prior_fingerprint=prior_config.fingerprint,
        ),
    )
    return save_bundle(path, codec, model, metadata)
