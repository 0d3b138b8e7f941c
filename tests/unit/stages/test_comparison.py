"""The table of `make experiments`, made of what DVC lists."""

import subprocess
from pathlib import Path

import pytest

from stages.ops import comparison, dvc

WORKSPACE = {"Experiment": "", "rev": "workspace", "typ": "baseline", "val_bits_per_second": "1014.41", "seed": "0"}
COMMIT = {**WORKSPACE, "rev": "main", "val_bits_per_second": "1112.6"}
BETTER = {"Experiment": "wide", "rev": "d8f73c2", "typ": "branch_base", "val_bits_per_second": "997.25", "seed": "1"}
QUEUED = {"Experiment": "", "rev": "1e2dd72", "typ": "branch_commit", "val_bits_per_second": "", "seed": ""}


@pytest.mark.parametrize(("is_changed", "name"), [(False, "your last run"), (True, "your last run (changed since)")])
def test_the_best_is_first_and_marked_and_your_last_run_stands_beside_the_commit(is_changed: bool, name: str) -> None:
    lines = comparison.table([WORKSPACE, COMMIT, QUEUED, BETTER], is_changed, 200)
    cells = [[cell for cell in line.split("  ") if cell.strip()] for line in lines]
    assert [[cell.strip() for cell in row] for row in cells] == [
        ["run", "val_bits_per_second (lower is better)", "seed"],
        ["wide", "997.2", "best", "1"],
        [name, "1014.4", "0"],
        ["commit main", "1112.6", "0"],
        ["1e2dd72", "-", "-"],
        [],
        ["2 experiments; to take one: dvc exp apply NAME"],
    ]


def test_all_that_are_best_are_marked_and_none_where_nothing_was_measured() -> None:
    same = comparison.table(
        [WORKSPACE, {**COMMIT, "val_bits_per_second": "1014.41"}, BETTER | {"val_bits_per_second": "2000"}], False, 99
    )
    assert ["best" in line for line in same[1:4]] == [True, True, False]
    without = [{key: value for key, value in row.items() if key != comparison.METRIC} for row in (WORKSPACE, COMMIT)]
    lines = comparison.table(without, False, 99)
    assert not any("best" in line for line in lines[1:])
    assert lines[-1] == "0 experiments; to make one: dvc exp run -S prior.dropout=.1"


@pytest.mark.parametrize("has_repository", [False, True])
def test_without_a_commit_it_says_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], has_repository: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".dvc").mkdir()
    Path(".dvc/config").touch()
    if has_repository:
        subprocess.run(["git", "init", "-q"], check=True)
    header = subprocess.CompletedProcess([], 0, "Experiment,rev,typ,Created,parent\n")  # as DVC lists without a commit
    monkeypatch.setattr(dvc, "run_dvc", lambda *_, **__: header)
    assert comparison.main() == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "experiments: expected a git repository with a commit, with which DVC compares them, found none; run `git init`, "
        "`git add --all` and `git commit --message Start`, then `make repro`"
    )
