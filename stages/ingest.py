"""Stage `ingest`: write the recordings in `corpus.path` to a manifest and PCM shards."""

from distill.audio.corpus import MANIFEST
from distill.audio.source import address, suffixes_line
from distill.execution import STATE
from distill.params import Params
from distill.pipeline.workspace import remember_corpus
from distill.storage.files import sha256_file
from stages.running import FOLDERS, run_stage, write_metrics


def main(params: Params) -> None:
    from distill.audio.ingest import ingest_folder
    from distill.cluster import executor_of
    from distill.execution import execution_from_environment

    with executor_of(execution_from_environment()) as executor:
        report = ingest_folder(
            params.corpus.path, FOLDERS.corpus, params.corpus, executor, STATE / "ingest"
        )
    note_corpus(params)
    counts = ("used", "warned", "rejected", "duplicates", "near_duplicates", "groups")
    figures = {
        name: report[name] for name in ("seconds", "sample_rate", "treble_share", "trimmed_seconds")
    }
    others = report["left_out"]
    left_out = {"left_out": sum(others.values()), "left_out_suffixes": suffixes_line(others)}
    write_metrics(
        "ingest", {**{name: report["counts"][name] for name in counts}, **left_out, **figures}
    )


def note_corpus(params: Params) -> None:
    """Record the location of the recordings on this computer, for `distill train-prior`."""
    remember_corpus(STATE, sha256_file(FOLDERS.corpus / MANIFEST), address(params.corpus.path))


if __name__ == "__main__":
    run_stage("ingest", main)
