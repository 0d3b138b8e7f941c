"""Frame of every stage: settings, paths, exit status, errors as one sentence, and a log of stages that ran."""

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.logging import RichHandler

from distill.errors import Interrupted, for_the_user
from distill.execution import STATE, check_environment
from distill.params import Params, load_params
from distill.pipeline.workspace import PipelineFolders
from distill.progress import LastingConsole
from distill.storage.files import write_json
from distill.training.interruption import raise_on_signals

if TYPE_CHECKING:
    from distill.training.run import Trained

PARAMS = Path("params.yaml")
FOLDERS = PipelineFolders.below(Path("artifacts"))
AUDITION = Path("artifacts/audition")
SETTINGS = Path("artifacts/settings")  # of each stage, with every `auto` resolved
METRICS = Path("metrics")
RUN_LOG = STATE / "stages.jsonl"
LAUNCHED = "DISTILL_LAUNCHED"  # set in processes that a stage starts; they print errors but write no run log
AT_WORK = STATE / "at_work.txt"  # running stage and process id; stays if the stage is killed


def bundle_path(params: Params) -> Path:
    """Path of the model file."""
    return Path("models") / f"{params.bundle.name}.distill"


def conclude(stage: str, trained: "Trained") -> None:
    """Write the metrics of a training and delete its checkpoints."""
    write_metrics(stage, trained.metrics)
    trained.clear_checkpoints()


def tracking_root() -> Path:
    """Folder of MLflow's store: the repository, even in an experiment that DVC runs in a copy below it."""
    here = Path.cwd()
    copies = (
        folder for folder in here.parents if (folder.name, folder.parent.name) == ("tmp", ".dvc")
    )
    return next((folder.parent.parent for folder in copies), here)


def replaced_by_experiment(model: Path) -> str:
    """Remark if a DVC experiment in the project itself has just replaced a model file, else ""."""
    name = os.environ.get("DVC_EXP_NAME")
    if not name or tracking_root() != Path.cwd():
        return ""
    return (
        f"{model}: now the model of the experiment {name}; `git restore . && dvc checkout` puts back that of the last "
        "commit, and `dvc exp run --temp` leaves it in place"
    )


def write_metrics(stage: str, values: Mapping[str, object]) -> None:
    """Write `metrics/<stage>.json`."""
    write_json(METRICS / f"{stage}.json", dict(values))


def status_of(action: Callable[[], int], before: str = "") -> int:
    """Run `action` outside a stage and return its exit status; errors for the user go to stderr, after `before`."""
    try:
        return action()
    except Exception as error:
        known = for_the_user(error)
        if not known:
            raise
        print(f"{before}{known}", file=sys.stderr)
        return known.exit_code


def run_stage(name: str, body: Callable[[Params], None]) -> None:
    """Run a stage and exit: 0 done, 1 defect (with traceback), 2 wrong input, 129, 130 or 143 interrupted and saved.

    `body` imports the library itself, so that too little memory for imports is reported as wrong input.
    """
    handler = RichHandler(console=LastingConsole(stderr=True), show_path=False, show_time=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    raise_on_signals()
    has_rank_0 = os.environ.get("RANK", "0") == "0"
    is_first = has_rank_0 and LAUNCHED not in os.environ  # once per stage, not once per process
    started, began = time.time(), time.monotonic()
    status = 1
    try:
        if is_first:
            with contextlib.suppress(OSError):
                STATE.mkdir(exist_ok=True)
                AT_WORK.write_text(f"{name} {os.getpid()}\n", encoding="utf-8")
        check_environment()
        body(load_params(PARAMS))
        status = 0
    except Exception as error:
        known = for_the_user(error)
        if not known:
            raise
        if has_rank_0 or not isinstance(known, Interrupted):  # rank 0 reports it for all
            print(f"{name}: {known}", file=sys.stderr)
        status = known.exit_code
    except KeyboardInterrupt:
        print(f"{name}: interrupted; nothing half-written was kept", file=sys.stderr)
        status = 130
    finally:
        entry = {
            "stage": name,
            "started": started,
            "seconds": time.monotonic() - began,
            "exit": status,
        }
        stopped = _log_run(entry) if is_first else 0
    sys.exit(status or stopped)


def _log_run(entry: Mapping[str, object]) -> int:
    """Append to the log for the summary of `make repro`. Write errors do not fail the stage.

    Returns the exit status for a signal received meanwhile, else 0.
    """
    try:
        AT_WORK.unlink(missing_ok=True)
        STATE.mkdir(exist_ok=True)
        with RUN_LOG.open("a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")
    except OSError as error:
        print(f"{RUN_LOG}: not written ({error.strerror})", file=sys.stderr)
    except (Interrupted, KeyboardInterrupt) as error:
        return getattr(error, "exit_code", 130)
    return 0
