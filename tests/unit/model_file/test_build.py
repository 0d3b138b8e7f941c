"""Model files from training artefacts."""

from pathlib import Path

import pytest
from unit.tiny import PRIOR, TRAINED, networks, write_prior_model

from distill.errors import ArtifactError
from distill.model_file.build import bundle_prior
from distill.model_file.format import load_bundle
from distill.params import get_adaptive_prior_config
from distill.prior.artifact import PriorArtifact
from distill.storage.files import write_json
from distill.storage.weights import save_weights


def test_a_prior_of_another_codec_is_refused(tmp_path: Path) -> None:
    write_prior_model(tmp_path / "a.distill")
    artifact = PriorArtifact(
        shape=PRIOR,
        training=get_adaptive_prior_config(5),
        recordings=5,
        best_epoch=1,
        epochs_trained=3,
        final_perplexity=2.0,
        best_perplexity=1.5,
        val_bits_per_second=9.0,
        codec_sha256="of another one",
        fingerprint="",
        memorization=TRAINED.memorization,
    )
    write_json(tmp_path / "prior/config.json", artifact.model_dump(mode="json"))
    save_weights(tmp_path / "prior/model.safetensors", networks()[1])
    with pytest.raises(
        ArtifactError, match="prior: expected a prior of this codec, found one of another; train it again"
    ):
        bundle_prior(tmp_path / "b.distill", load_bundle(tmp_path / "a.distill"), tmp_path / "prior")
    assert not (tmp_path / "b.distill").exists()
