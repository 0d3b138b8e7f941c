"""Stage `ingest`: write the recordings in `corpus.path` to a manifest and PCM shards."""

from collections.abc import Mapping
from pathlib import Path

from distill.audio.ingest import ingest_folder
from distill.execution import execution_from_environment
from distill.params import Params
from stages.running import FOLDERS, run_stage, write_metrics


def main(params: Params) -> Mapping[str, float]:
    workers = execution_from_environment().workers
    report = ingest_folder(Path(params.corpus.path), FOLDERS.corpus, params.corpus, workers).report
    names = ("used", "warned", "rejected", "duplicates", "near_duplicates", "groups", "seconds")
    write_metrics("ingest", {name: getattr(report, name) for name in names})
    return {}


if __name__ == "__main__":
    run_stage("ingest", main)
