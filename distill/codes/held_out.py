"""Which coded recordings are held out: the split on disk, and rows of the index by side."""

from dataclasses import dataclass
from pathlib import Path

from distill.codes.store import CodesReader, read_index
from distill.errors import ArtifactError
from distill.params import Params
from distill.split import Side, split_groups
from distill.storage.tables import read_rows, schema_of, write_rows


@dataclass(frozen=True, slots=True)
class SplitRow:
    """The side of one recording."""

    recording_id: str
    group: str
    side: Side


SPLIT_SCHEMA = schema_of(SplitRow)


@dataclass(frozen=True)
class Sides:
    """Rows of the index by recording id: the training side with all its views, the first as it is; the held-out side."""

    train: dict[str, list[int]]
    held_out: dict[str, int]
    groups: dict[str, str]  # of both sides


def rows_by_side(reader: CodesReader, split: Path) -> Sides:
    """What to learn from and what to judge by. Raises ArtifactError where codes and split do not belong together."""
    sides = {row.recording_id: row.side for row in read_split(split)}
    missing = [row.recording_id for row in reader.rows if row.recording_id not in sides]
    if missing:
        raise ArtifactError(
            f"{split}: expected a side for every recording, found none for {len(missing)} of them "
            f"(such as {missing[0]}); run `dvc repro` again"
        )
    found = Sides({}, {}, {row.recording_id: row.group for row in reader.rows})
    for number, row in enumerate(reader.rows):
        if sides[row.recording_id] == "train":
            found.train.setdefault(row.recording_id, []).append(number)
        elif row.view == 0:
            found.held_out[row.recording_id] = number
    for name, side in (("train", found.train), ("val", found.held_out)):
        if not side:
            raise ArtifactError(
                f"{split}: expected recordings on both sides, found none on side {name}; change split.val_fraction or seed"
            )
    return found


def read_split(path: Path) -> list[SplitRow]:
    """Read `split.parquet`."""
    return read_rows(path, SplitRow, "the split", SPLIT_SCHEMA)


def split_codes(codes: Path, split: Path, params: Params) -> dict[str, float]:
    """Decide as the settings say which recordings of the folder `codes` are held out, and write the file `split`.

    Returns the metrics of `metrics/split.json`: recordings, frames and groups of each side. Raises ValueError for fewer
    than two groups.
    """
    recordings = [row for row in read_index(codes) if row.view == 0]
    fraction = params.split.resolve(len(recordings))
    sides = split_groups((row.group for row in recordings), params.seed, fraction)
    write_rows(split, [SplitRow(row.recording_id, row.group, sides[row.group]) for row in recordings], SPLIT_SCHEMA)
    metrics = {"val_fraction": fraction}
    for side in ("train", "val"):
        chosen = [row for row in recordings if sides[row.group] == side]
        metrics[f"{side}_recordings"] = len(chosen)
        metrics[f"{side}_frames"] = sum(row.frames for row in chosen)
        metrics[f"{side}_groups"] = len({row.group for row in chosen})
    return metrics
