"""What is installed without extras is enough to train, generate, vary and verify."""

import subprocess
import sys
import tomllib
from pathlib import Path

from unit.tiny import write_tone

ROOT = Path(__file__).parents[3]
WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(sys.argv.pop(1).split(",")))
from distill.__main__ import main
main()
"""


def extra_modules() -> str:
    """The modules of packages that extras have and the base has not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [name for extra in ("pipeline", "ui", "cluster", "hub") for name in project["optional-dependencies"][extra]]
    return ",".join(sorted({name.split(">")[0].replace("-", "_") for name in names}))


def test_extras_are_not_needed_to_train_and_to_generate(tmp_path: Path) -> None:
    assert {"dvc", "mlflow", "gradio"} <= {*extra_modules().split(",")}
    for number in range(5):
        write_tone(tmp_path / f"sounds/{number}.wav", 0.4 + 0.1 * number, pitch=200.0 * (number + 1))

    def distill(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT, extra_modules(), *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    trained = ("train", "sounds", "--name", "a", "--prior", "--epochs", "1", "--tier", "small", "--codebook-size", "16")
    for arguments in (trained, ("generate", "models/a.distill", "-n", "1"), ("verify", "models/a.distill"), ("list",)):
        done = distill(*arguments)
        assert done.returncode == 0, done.stderr
    page = distill("ui")
    assert page.returncode == 2
    assert "pip install 'distill-audio[ui]'" in page.stderr
