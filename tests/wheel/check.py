"""Install a wheel into a fresh environment outside the checkout, and let it learn, generate and verify.

`make check-wheel` runs it, and `.ci/run`. Distill itself comes from the wheel; what it depends on is borrowed from the
environment that runs this, so that nothing is downloaded. The checkout is not importable: each command runs elsewhere.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
NEEDED = (
    "distill/py.typed",
    "distill/params.yaml",
    "distill/generate/presentation/audition.html",
    "distill/codec/pretrained/n_fft_1024.safetensors",
)
OUTER = ("PYTHONPATH", "VIRTUAL_ENV", "MLFLOW_TRACKING_URI")  # would lead out of the fresh environment
RECORDINGS = 8
TRAINING = ("--epochs", "1", "--codebook-size", "16", "--tier", "small")


def not_in(wheel: Path) -> list[str]:
    """Files that the package holds beside its modules in the checkout, and the wheel lacks; and modules it lacks."""
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    sources = [path for path in (CHECKOUT / "distill").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return sorted({*NEEDED, *(path.relative_to(CHECKOUT).as_posix() for path in sources)} - held)


def settings_of(wheel: Path) -> bytes:
    """The settings that ship with the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.read("distill/params.yaml")


def fresh_environment(folder: Path, wheel: Path) -> Path:
    """An environment with the wheel in it; returns its folder of commands.

    A .pth file makes the dependencies of the running environment importable. It is read as plain lines: the .pth files
    over there, of which one names the checkout, are not followed.
    """
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    scheme = {"base": str(folder), "platbase": str(folder)}
    packages, commands = (Path(sysconfig.get_path(name, "venv", scheme)) for name in ("purelib", "scripts"))
    python = commands / Path(sys.executable).name
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", str(python)]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True)
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return commands


def run(command: Sequence[str], folder: Path) -> str:
    """What `command` prints, run in `folder`; a failure ends the check and shows all it said."""
    began = time.monotonic()
    environment = {key: value for key, value in os.environ.items() if key not in OUTER}
    environment["PYTHONNOUSERSITE"] = "1"
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    shown = " ".join([Path(command[0]).name, *command[1:]])
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\n{shown}: expected exit status 0, found {done.returncode}")
    print(f"{time.monotonic() - began:6.1f} s  {shown}", flush=True)
    return done.stdout


def main() -> None:
    (wheel,) = (Path(argument).resolve() for argument in sys.argv[1:])
    missing = not_in(wheel)
    if missing:
        sys.exit(f"{wheel.name}: expected every file of the package, lacks {', '.join(missing)}")
    if settings_of(wheel) != (CHECKOUT / "params.yaml").read_bytes():
        sys.exit(f"{wheel.name}: expected distill/params.yaml to be params.yaml, found other bytes")
    with tempfile.TemporaryDirectory(prefix="distill-wheel-") as name:
        root = Path(name).resolve()
        commands = fresh_environment(root / "environment", wheel)
        python, distill = str(commands / Path(sys.executable).name), str(commands / "distill")
        work = root / "work"
        work.mkdir()
        origin = Path(run([python, "-c", "import distill; print(distill.__file__)"], work).strip()).resolve()
        if not origin.is_relative_to(root):
            sys.exit(f"distill: expected to be imported from {root}, found {origin}")
        run([distill, "demo", "all"], work)
        (work / "some").mkdir()
        for recording in sorted((work / "all").rglob("*.flac"))[:RECORDINGS]:
            shutil.copy(recording, work / "some")
        run([distill, "train", "some", "--name", "tiny", "--prior", *TRAINING], work)
        model = str(Path("models", "tiny.distill"))
        made = run([distill, "generate", model, "-n", "2", "--seconds", "0.5", "--seed", "7", "--json"], work)
        json.loads(made)
        sounds = list((work / "generated").rglob("*.wav"))
        if len(sounds) != 2:
            sys.exit(f"generated: expected 2 sounds, found {len(sounds)}")
        run([distill, "verify", model], work)
    print(f"{wheel.name}: learns, generates and verifies outside the checkout")


if __name__ == "__main__":
    main()
