"""Stage `split`: which recordings are held out."""

from collections.abc import Mapping

from distill.codes.store import read_index, split_recordings, write_split
from distill.params import Params
from stages.running import CODES, SPLIT, run_stage, write_metrics


def main(params: Params) -> Mapping[str, float]:
    index = read_index(CODES)
    frames = {row.recording_id: row.frames for row in index if row.view == 0}
    fraction = params.split.resolve(len(frames))
    rows = split_recordings(index, params.seed, fraction)
    write_split(SPLIT, rows)
    metrics: dict[str, float] = {"val_fraction": fraction}
    for side in ("train", "val"):
        chosen = [row for row in rows if row.side == side]
        metrics[f"{side}_recordings"] = len(chosen)
        metrics[f"{side}_frames"] = sum(frames[row.recording_id] for row in chosen)
        metrics[f"{side}_groups"] = len({row.group for row in chosen})
    write_metrics("split", metrics)
    return {}


if __name__ == "__main__":
    run_stage("split", main)
