"""Stage `split`: which recordings are held out."""

from collections.abc import Mapping

from distill.codes.split import split_groups
from distill.codes.store import SplitRow, read_index, write_split
from distill.params import Params
from stages.running import CODES, SPLIT, run_stage, write_metrics


def main(params: Params) -> Mapping[str, float]:
    recordings = [row for row in read_index(CODES) if row.view == 0]
    fraction = params.split.resolve(len(recordings))
    sides = split_groups((row.group for row in recordings), params.seed, fraction)
    write_split(SPLIT, [SplitRow(row.recording_id, row.group, sides[row.group]) for row in recordings])
    metrics: dict[str, float] = {"val_fraction": fraction}
    for side in ("train", "val"):
        chosen = [row for row in recordings if sides[row.group] == side]
        metrics[f"{side}_recordings"] = len(chosen)
        metrics[f"{side}_frames"] = sum(row.frames for row in chosen)
        metrics[f"{side}_groups"] = len({row.group for row in chosen})
    write_metrics("split", metrics)
    return {}


if __name__ == "__main__":
    run_stage("split", main)
