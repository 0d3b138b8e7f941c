"""Stage `prepare`: keep models that the pipeline did not make, and make `corpus.path` valid in experiments.

Experiments start without its output file, so it always runs there, before `ingest`.
"""

import os
import sys
from pathlib import Path

from distill.params import Params
from distill.storage.files import write_bytes
from stages.ops.experiments import lead_to_recordings
from stages.ops.models import keep_other_model
from stages.running import bundle_path, run_stage, tracking_root

PREPARED = Path("artifacts/prepared.txt")


def main(params: Params) -> None:
    if remark := keep_other_model(bundle_path(params)):
        print(remark, file=sys.stderr)
    if tracking_root() != Path.cwd():
        lead_to_recordings(tracking_root(), params.corpus.path)
    write_bytes(PREPARED, os.fsencode(f"{params.corpus.path}\n"))


if __name__ == "__main__":
    run_stage("prepare", main)
