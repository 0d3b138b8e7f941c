"""MLflow's store of runs, and the command that shows it."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from distill.training.mlflow_store import client_of, make_database, page_command

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations are not ours


def test_a_database_is_made_whole_before_a_server_or_a_page_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's server makes it table by table, and a page that looks meanwhile would find a half-made one."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    command = page_command(tmp_path, 5000)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        (version,) = database.execute("select version_num from alembic_version").fetchone()
        assert version
    assert f"sqlite:///{tmp_path.resolve() / 'mlflow.db'}" in command
    before = (tmp_path / "mlflow.db").stat().st_ino
    make_database(f"sqlite:///{tmp_path}/mlflow.db")
    assert (tmp_path / "mlflow.db").stat().st_ino == before
    assert client_of(f"sqlite:///{tmp_path}/mlflow.db").search_experiments()
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize("port", ["x", "0", "65536", "-1"])
def test_a_wrong_port_is_a_sentence(tmp_path: Path, port: str) -> None:
    command = [sys.executable, "-m", "stages.mlflow_page"]
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PORT": port, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"distill: PORT: expected a number from 1 to 65535, found {port!r}\n"
    assert list(tmp_path.iterdir()) == []
