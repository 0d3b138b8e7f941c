"""Entry point of `make clean`: list and remove results that the pipeline can make again.

Other models stay, and so do files of `distill train` and the page in `.distill`.
"""

import sys
from pathlib import Path

from distill.execution import STATE
from distill.model_file.build import card_path
from distill.pipeline.workspace import workplace
from distill.storage.files import remove_folder
from stages.ops.dvc import KEPT, locked_results
from stages.ops.models import is_of_pipeline
from stages.running import AT_WORK, FOLDERS, RUN_LOG, status_of

TRAINED = (
    STATE / "train"
)  # of `distill train` and `train-prior`, whose checkpoints are in the same folder


def main() -> int:
    """Remove results. Returns the exit status."""
    return status_of(_clean)


def _clean() -> int:
    with workplace(STATE / "repro", STATE, what="this pipeline"):
        paths = results()
        print(
            "\n".join(
                ["removing:", *(f"  {path}" for path in paths)] if paths else ["nothing to remove"]
            )
        )
        for path in paths:
            remove_folder(path) if path.is_dir() else path.unlink()
    return 0


def results() -> list[Path]:
    """Existing results and working files of the pipeline."""
    named = (path for path in locked_results() if path.suffix == ".distill" and path.exists())
    models = [path for path in named if is_of_pipeline(path)]
    work = [STATE / "ingest", STATE / "codes", RUN_LOG, AT_WORK, STATE / KEPT]
    if not TRAINED.exists():
        work.append(STATE / "checkpoints")
    paths = [FOLDERS.corpus.parent, *models, *map(card_path, models), *work]
    return [path for path in paths if path.exists()]


if __name__ == "__main__":
    sys.exit(main())
