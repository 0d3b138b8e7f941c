"""Paths of the artefacts of a pipeline."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PipelineFolders:
    """Folders of the artefacts, and the file of the split."""

    corpus: Path
    vqvae: Path
    codes: Path
    split: Path
    prior: Path

    @classmethod
    def below(cls, folder: Path) -> "PipelineFolders":
        """The paths below one folder."""
        split = folder / "split" / "split.parquet"
        return cls(folder / "corpus", folder / "vqvae", folder / "codes", split, folder / "prior")
