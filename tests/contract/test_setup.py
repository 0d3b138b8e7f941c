"""What `make setup` promises: pinned and hashed packages, one list of dependencies, no index named, no half a stamp."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import distill
from programs import loaded

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements"
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TOOLS = ("bench", "judge")  # extras that are locked by themselves
LOCKS = ("lock.txt", *(f"{name}.txt" for name in TOOLS), "peers.txt")
EXTRAS = ("pipeline", "ui", "cluster", "s3", "hub", "export", "test", "docs")  # locked for all
WEIGHTS_ALONE = {"basic-pitch", "aisfx"}  # locked without what it depends on: in no extra, as pip would bring that


@pytest.fixture
def packages() -> ModuleType:
    return loaded(REQUIREMENTS / "packages.py")


def required(lines: Iterable[str]) -> dict[str, Requirement]:
    found = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    assert len({canonicalize_name(each.name) for each in found}) == len(found), "a duplicate line"
    return {canonicalize_name(each.name): each for each in found}


def direct(name: str) -> dict[str, Requirement]:
    return required((REQUIREMENTS / name).read_text().splitlines())


def declared(group: str | None = None) -> dict[str, Requirement]:
    return required(PROJECT["optional-dependencies"][group] if group else PROJECT["dependencies"])


def locked(name: str) -> dict[str, set[str]]:
    """Versions by package."""
    versions: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (REQUIREMENTS / name).read_text(), re.MULTILINE):
        versions.setdefault(package, set()).add(version)
    return versions


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_is_pinned_and_hashed(name: str) -> None:
    entries = re.split(r"\n(?! )", (REQUIREMENTS / name).read_text().strip())
    assert len(entries) >= 8
    for entry in entries:
        head, *hashes = [line.strip().removesuffix("\\").strip() for line in entry.splitlines()]
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9A-Za-z.]*( ; .+)?", head), head
        assert hashes, f"{head}: no hash"
        for line in hashes:
            assert re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line), f"{head}: {line}"


def test_no_index_is_named() -> None:
    for path in (*sorted(REQUIREMENTS.iterdir()), ROOT / "pyproject.toml", ROOT / ".ci" / "run"):
        if path.is_file():
            assert "://" not in path.read_text(), path.name
    assert re.findall(r"https?://([\w.-]+)", MAKEFILE) == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("group", "name"),
    [*((group, "lock.in") for group in (None, *EXTRAS)), *((tool, f"{tool}.in") for tool in TOOLS)],
)
def test_what_pyproject_declares_is_locked(group: str | None, name: str) -> None:
    asked, found = direct(name), locked(name.replace(".in", ".txt"))
    for package, requirement in declared(group).items():
        assert package in asked, f"{package} is in pyproject.toml and not in requirements/{name}"
        for version in found[package]:
            assert requirement.specifier.contains(Version(version), prereleases=True), f"{package} {version}"


def test_nothing_else_is_locked_and_in_one_version() -> None:
    """But for what sets up. PyTorch's two packages belong together, and benchmarks change no version."""
    names = {name for group in (None, *EXTRAS) for name in declared(group)}
    assert direct("lock.in").keys() == names | {"uv", "hatchling", "setuptools"}
    assert direct("bench.in").keys() == declared("bench").keys()
    assert direct("judge.in").keys() == declared("judge").keys() | WEIGHTS_ALONE
    product = locked("lock.txt")
    for tool in TOOLS:
        found = locked(f"{tool}.txt")
        assert not [name for name in found.keys() & product.keys() if found[name] != product[name]]
    for where in (direct("lock.in"), declared()):
        for name in ("torch", "torchaudio"):
            assert {str(where[name].specifier)} == {f"=={version}" for version in product["torch"]}, name


def test_make_targets_have_a_line_of_help() -> None:
    targets = re.search(r"^\.PHONY: (.+)$", MAKEFILE, flags=re.MULTILINE)
    assert targets is not None
    rules = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE))
    assert rules == set(targets[1].split())
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert {line.split()[0] for line in shown.splitlines() if len(line.split()) > 1} == rules


def checkout(folder: Path, status_of_install: int) -> None:
    """A checkout whose `.venv` only notes what it is asked to run."""
    python = folder / ".venv/bin/python"
    inputs = ("requirements/lock.txt", "requirements/packages.py", "requirements/dvc.pth", "pyproject.toml")
    for name in (*inputs, ".venv/bin/python"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "Makefile").write_text(MAKEFILE)
    python.write_text(
        '#!/bin/sh\necho "$@" >> .venv/asked\n'
        f'case "$1" in requirements/packages.py) exit {status_of_install};; *) exit 0;; esac\n'
    )
    python.chmod(0o755)


def make(folder: Path, *arguments: str) -> tuple[int, str]:
    asked = folder / ".venv/asked"
    asked.write_text("")
    done = subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, asked.read_text()


@pytest.mark.parametrize("tool", TOOLS)
def test_set_up_is_done_once_and_tools_are_set_up_like_it(tmp_path: Path, tool: str) -> None:
    checkout(tmp_path, status_of_install=0)
    status, asked = make(tmp_path, "setup")
    assert status == 0
    assert "requirements/packages.py install requirements/lock.txt" in asked
    assert make(tmp_path, "setup") == (0, "")
    (tmp_path / f"requirements/{tool}.txt").touch()
    _, asked = make(tmp_path, tool, "CUDA=0", "-B")
    for lock in ("lock.txt", f"{tool}.txt"):
        assert f"packages.py install --without-cuda requirements/{lock}" in asked


def test_a_set_up_that_failed_is_not_taken_for_done(tmp_path: Path) -> None:
    checkout(tmp_path, status_of_install=1)
    for _ in range(2):
        status, asked = make(tmp_path, "setup")
        assert status != 0
        assert "requirements/packages.py install" in asked


def test_the_environment_of_a_project_that_was_moved_or_copied_is_set_up_again(tmp_path: Path) -> None:
    """But not one that a link leads to; also with spaces in the path."""
    first, second, linked = (tmp_path / name for name in ("a b/first", "a b/second", "linked"))
    checkout(first, status_of_install=0)
    make(first, "setup")
    shutil.copytree(first, linked, ignore=shutil.ignore_patterns(".venv"))
    (linked / ".venv").symlink_to(first / ".venv")
    assert make(linked, "setup") == (0, "")

    shutil.copytree(first, second)
    cleared, python = tmp_path / "cleared", tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *--clear*) echo "$@" > "{cleared}";; esac\n')
    python.chmod(0o755)
    command = ["make", "--no-print-directory", f"PYTHON={python}", "setup"]
    done = subprocess.run(command, cwd=second, capture_output=True, text=True, check=True).stdout
    assert done.splitlines()[0] == "this project was moved or copied: .venv is set up again"
    assert cleared.read_text() == "-m venv --clear .venv\n"
    assert "requirements/packages.py install" in (second / ".venv/asked").read_text()
    assert make(second, "setup") == (0, "")


def test_without_cuda_leaves_out_the_libraries_and_nothing_else(packages: ModuleType) -> None:
    lock = (REQUIREMENTS / "lock.txt").read_text()
    everything, kept = packages.chosen(lock, without_cuda=False), packages.chosen(lock, without_cuda=True)
    left_out = everything.keys() - kept.keys()
    assert {"triton", "cuda-toolkit", "nvidia-cublas"} <= left_out
    assert all(name.split("-")[0] in ("nvidia", "cuda", "triton") for name in left_out)
    assert "".join(entry + "\n" for group in everything.values() for entry in group) == lock


LOCK = """setuptools==81.0.0 \\
    --hash=sha256:0
torch==2.11.0 \\
    --hash=sha256:1
uv==0.13.9 \\
    --hash=sha256:3
"""


class Installers:
    """Shell scripts in the place of uv and pip, and what they were given."""

    def __init__(self, packages: ModuleType, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.packages, self.folder, self.log = packages, folder, folder / "log"
        (folder / "requirements.txt").write_text(LOCK)
        monkeypatch.setattr(packages, "UV", str(folder / "uv"))
        monkeypatch.setattr(packages, "PIP", (str(folder / "pip"),))
        monkeypatch.setattr(packages.sys, "prefix", str(folder))

    def install(self, uv: str = "exit 0", pip: str = "exit 0", without_cuda: bool = False) -> tuple[int, list[str]]:
        """The exit status of an installation, and what installed; the scripts end as told."""
        for name, script in (("uv", uv), ("pip", pip)):
            (self.folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {self.log}\n{script}\n')
            (self.folder / name).chmod(0o755)
        status: int = self.packages.install(self.folder / "requirements.txt", without_cuda)
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        installs = [line for line in lines if " install " in line]
        assert all("--require-hashes" in line and "--no-deps" in line for line in installs)
        return status, installs


@pytest.fixture
def installers(packages: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Installers:
    return Installers(packages, monkeypatch, tmp_path)


@pytest.mark.parametrize("without_cuda", [False, True])
def test_uv_installs_with_hashes(installers: Installers, capfd: pytest.CaptureFixture[str], without_cuda: bool) -> None:
    status, (*brought, command) = installers.install(without_cuda=without_cuda)
    assert status == 0
    assert command.startswith("uv pip install ")
    assert (installers.folder / "lock.txt").read_text() == LOCK
    assert ["lock-first" in line and line.startswith("pip install") for line in brought] == [True, True]
    assert capfd.readouterr().err == ""


NO_WHEEL = 'for last; do :; done; if grep -qs "^uv==" "$last"; then echo "ERROR: no wheel for it" >&2; exit 1; fi'


@pytest.mark.parametrize(
    ("uv", "pip", "cause"),
    [
        ("exit 0", NO_WHEEL, "it could not be installed: no wheel for it"),
        ("exit 126", "exit 0", "it cannot run: exit status 126"),
        ('[ "$1" = --version ]', "exit 0", "it ended with exit status 1"),
    ],
)
def test_pip_installs_with_hashes_where_uv_cannot(
    installers: Installers, capfd: pytest.CaptureFixture[str], uv: str, pip: str, cause: str
) -> None:
    status, installs = installers.install(uv, pip)
    assert (status, installs[-1].startswith("pip install ")) == (0, True)
    assert (installers.folder / "lock.txt").read_text() == LOCK[: LOCK.index("uv==")]
    said = capfd.readouterr().err
    assert said == f"warning: uv cannot install here ({cause}); pip does it instead, which takes minutes\n"


def test_a_lock_that_builds_nothing_needs_no_setuptools(installers: Installers) -> None:
    tool = LOCK[LOCK.index("torch") : LOCK.index("uv==")]
    (installers.folder / "requirements.txt").write_text(tool)
    assert installers.install() == (
        0,
        [
            f"uv pip install --python {sys.executable} --require-hashes --no-deps --no-build-isolation -r {installers.folder}/lock.txt"
        ],
    )


def test_failures_are_told(
    installers: Installers, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of both installers, and of a CPU build of torch that is missing."""
    assert installers.install("exit 1", 'case "$*" in *lock-first*) exit 0;; *) exit 4;; esac')[0] == 4
    installers.log.unlink()
    capfd.readouterr()
    monkeypatch.setattr(installers.packages, "distributions", lambda name: [])  # noqa: ARG005
    monkeypatch.setattr(installers.packages.sys, "platform", "linux")
    assert installers.install(without_cuda=True) == (2, [])
    assert capfd.readouterr().err == (
        f"CUDA=0: expected a CPU build of torch in {installers.folder}, found none; "
        "install torch and torchaudio there first, or leave CUDA=0 out\n"
    )


def test_uv_gets_what_pip_is_configured_with(packages: ModuleType) -> None:
    listing = """:env:.extra-index-url='file:///third/simple'
global.cert='/certificates.pem'
global.extra-index-url='file:///first/simple\\nfile:///second/simple'
global.find-links='/wheels /more'
global.index-url='file:///index/simple'
install.index-url='file:///other/simple'
freeze.timeout='10'
"""
    assert packages.uv_environment(packages.pip_settings(listing), {"HOME": "/home", "SSL_CERT_FILE": "/mine"}) == {
        "HOME": "/home",
        "SSL_CERT_FILE": "/mine",
        "UV_DEFAULT_INDEX": "file:///other/simple",
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_PYTHON_DOWNLOADS": "never",
    }
    assert packages.uv_environment(packages.pip_settings(""), {}) == {"UV_PYTHON_DOWNLOADS": "never"}


def test_a_release_names_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    release = loaded(ROOT / "requirements/release.py")
    assert release.version_of() == distill.__version__
    monkeypatch.setattr(release, "git", lambda *arguments: "" if arguments[0] == "status" else "v9")
    lacks = "\n".join(release.problems())
    assert f"expected the tag v{distill.__version__} at this commit, found none" in lacks
    assert "CITATION.cff" not in lacks
    monkeypatch.setattr(release, "version_of", lambda: "9")
    assert "CITATION.cff: expected version 9, found" in "\n".join(release.problems())


def test_a_release_needs_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = loaded(ROOT / "requirements/release.py")
    for name in ("CITATION.cff", "CHANGELOG.md", "distill/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(release, "ROOT", tmp_path)
    assert release.main() == 2
    assert capsys.readouterr().err == (
        "release: expected a git repository with a commit, of which a release is made, found none; clone the project\n"
    )


def test_make_mlflow_serves_the_runs_and_make_ui_says_that_it_is_the_same(tmp_path: Path) -> None:
    checkout(tmp_path, status_of_install=0)
    assert make(tmp_path, "setup")[0] == 0
    for target in ("mlflow", "ui"):
        assert make(tmp_path, target) == (0, "-m stages.mlflow_page\n")
    said = subprocess.run(
        ["make", "--no-print-directory", "ui"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert said.stdout == "make ui is make mlflow, which shows runs; to train and generate in a browser: make page\n"
