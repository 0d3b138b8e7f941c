"""The copy of a model that is shared: without what names recordings, runs or settings of its maker."""

from dataclasses import dataclass
from pathlib import Path

from distill.model_file.card import WRITTEN
from distill.model_file.format import BundleMetadata, load_bundle, save_bundle
from distill.model_file.verify import verify

# What Distill notes in the two free parts of the metadata. Other keys, which a program may have added, are not shared.
NOTES = ("recordings", "tier", "val_bits_per_second", WRITTEN)
OF_REFERENCE = "reference_recordings"
TRAINING = ("vqvae", "split", "prior")


@dataclass(frozen=True)
class SharedModel:
    """What is in the copy: its metadata, and how many training recordings it holds names and codes of.

    `left_out` is the number of recordings that the file itself holds those of, and the copy does not.
    """

    metadata: BundleMetadata
    reference_recordings: int
    left_out: int

    @property
    def labels(self) -> list[str]:
        """Labels in the copy: with `labels: folder` these are names of folders."""
        return [] if self.metadata.prior_config is None else self.metadata.prior_config.labels


def write_shared(model: Path, copy: Path, with_reference: bool) -> SharedModel:
    """Write the copy of the file `model` that is shared, and verify it. Equal files give equal copies.

    Without a reference it cannot say how new its sounds are, and names no recording. Raises ArtifactError.
    """
    bundle = load_bundle(model)
    held = 0 if bundle.reference is None else len(bundle.reference.codes)
    reference = bundle.reference if with_reference else None
    metadata = bundle.metadata
    notes = {key: metadata.metadata[key] for key in NOTES if key in metadata.metadata}
    if reference is not None:
        notes[OF_REFERENCE] = held
    shared = metadata.model_copy(
        update={
            "metadata": notes,
            "training_config": {
                key: metadata.training_config[key] for key in TRAINING if key in metadata.training_config
            },
            "provenance": metadata.provenance.model_copy(update={"dvc_rev": None, "mlflow_run_ids": []}),
        }
    )
    written = save_bundle(copy, bundle.codec, bundle.prior, shared, reference)
    verify(copy)
    return SharedModel(written, held if with_reference else 0, 0 if with_reference else held)
