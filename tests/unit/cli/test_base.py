"""What is installed without extras is enough to train, generate, vary and verify."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from distill import __version__
from unit.tiny import write_tone

ROOT = Path(__file__).parents[3]
# Runs commands one after the other without some modules, and prints their exit statuses.
WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(sys.argv.pop(1).split(",")))
from distill.__main__ import main
for line in sys.argv[1:]:
    sys.argv[1:] = line.split()
    try: main()
    except SystemExit as ended: print("status", ended.code)
"""


@pytest.mark.parametrize("other", ["distill/__init__.py", "distill.py"])
def test_another_package_of_this_name_is_named(tmp_path: Path, other: str) -> None:
    """Not one in the folder where the command starts, nor modules there with names of others."""
    (tmp_path / other).parent.mkdir(exist_ok=True)
    for name in (other, "torch.py", "types.py", "random.py"):
        (tmp_path / name).write_text("raise SystemExit(9)")
    (command,) = entry_points(group="console_scripts", name="distill")
    code = f"import sys; from {command.module} import {command.attr} as run; sys.exit(run())"

    def distill(**environment: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-P", "-c", code, "--version"]  # as a console script, without the current folder
        return subprocess.run(
            line, cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )

    assert distill().stdout == f"distill {__version__}\n"
    (tmp_path / "types.py").unlink()  # with PYTHONPATH it would be Python's own
    (tmp_path / "random.py").unlink()
    done = distill(PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == (
        f"distill: expected Python to find {ROOT / 'distill/__init__.py'}, found another package of this name at "
        f"{tmp_path / other}; rename that one, or take its folder out of PYTHONPATH\n"
    )


def extra_modules() -> str:
    """The modules of packages that extras have and the base has not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [name for extra in ("pipeline", "ui", "cluster", "hub") for name in project["optional-dependencies"][extra]]
    return ",".join(sorted({name.split(">")[0].replace("-", "_") for name in names}))


def test_extras_are_not_needed_to_train_and_to_generate(tmp_path: Path) -> None:
    assert {"dvc", "mlflow", "gradio"} <= {*extra_modules().split(",")}
    for number in range(5):
        write_tone(tmp_path / f"sounds/{number}.wav", 0.4 + 0.1 * number, pitch=200.0 * (number + 1))

    lines = (
        "train sounds --name a --prior --epochs 1 --tier small --codebook-size 16",
        *("generate models/a.distill -n 1", "verify models/a.distill", "list", "ui"),
    )
    command = [sys.executable, "-c", WITHOUT, extra_modules(), *lines]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    statuses = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("status ")]
    assert statuses == ["0", "0", "0", "0", "2"], done.stderr
    assert "pip install 'distill-audio[ui]'" in done.stderr
