"""Pull results from DVC's remote before a run, so that they are not computed again.

DVC's own `repro --pull` fails without a remote, if it is unreachable, and if it lacks some results. Here missing
results are computed.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvc.config import Config
from dvc.exceptions import DvcException

from stages.ops.dvc import locked_results, run_dvc
from stages.running import METRICS

Changes = Mapping[str, list[Any]]


def pull_missing() -> None:
    """Pull results from DVC's default remote that are missing here and match the lock file. Raises Interrupted."""
    try:
        remote = Config.from_cwd().get("core", {}).get("remote")
        if remote is None or all(path.exists() for path in locked_results()):
            return
        status = json.loads(
            run_dvc("status", "--json", wants_output=True, kept="nothing was fetched").stdout
        )
    except (DvcException, ValueError):
        return  # `dvc repro` runs next and reports the error
    stages = pullable(
        {name: entries for name, entries in status.items() if isinstance(entries, list)}
    )
    if not stages:
        return
    names = ", ".join(stages)
    print(
        f"DVC: fetching the results of {names} from the remote {remote}; PULL=0 computes them instead",
        file=sys.stderr,
    )
    if run_dvc("pull", *stages, kept="what was fetched is kept").returncode != 0:
        print(
            f"DVC: expected all of these results in the remote {remote}, found that some could not be fetched (see "
            "above); what is missing is computed",
            file=sys.stderr,
        )


def pullable(status: Changes) -> list[str]:
    """Stages with missing results that would equal the lock file's, from `dvc status --json`.

    Their inputs are unchanged, or missing and results of other stages in the list.
    """
    reads: dict[str, set[str]] = {}
    makes: dict[str, set[str]] = {}
    for stage, entries in status.items():
        changes: dict[str, dict[str, Any]] = {}
        for entry in entries:
            changes |= entry if isinstance(entry, dict) else {str(entry): {}}
        deps, outs = changes.pop("changed deps", {}), changes.pop("changed outs", {})
        is_changed = changes or any(
            how not in ("deleted", "not in cache") for how in (*deps.values(), *outs.values())
        )
        in_git = any(Path(path).is_relative_to(METRICS) for path in outs)  # so not in the remote
        if not (is_changed or in_git or all(Path(path).exists() for path in outs)):
            reads[stage], makes[stage] = set(deps), set(outs)
    while wanting := [
        stage for stage, paths in reads.items() if not paths <= set().union(*makes.values())
    ]:
        for stage in wanting:
            del reads[stage], makes[stage]
    return list(reads)
