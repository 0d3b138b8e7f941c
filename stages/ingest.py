"""Stage `ingest`: the folder `corpus.path` to a manifest and PCM shards."""

from collections.abc import Mapping
from pathlib import Path

from distill.audio.corpus import ingest
from distill.execution import execution_from_environment
from distill.params import Params
from distill.progress import ProgressReport
from stages.running import CORPUS, run_stage, write_metrics


def main(params: Params) -> Mapping[str, float]:
    corpus = params.corpus
    workers = execution_from_environment().workers
    with ProgressReport("ingest") as progress:
        report = ingest(Path(corpus.path), CORPUS, corpus.sample_rate, corpus.max_rejected, workers, progress)
        progress.say(f"{report.summary()}; details in {CORPUS / 'report.json'}")
    names = ("used", "warned", "rejected", "duplicates", "near_duplicates", "groups", "seconds")
    write_metrics("ingest", {name: getattr(report, name) for name in names})
    return {}


if __name__ == "__main__":
    run_stage("ingest", main)
