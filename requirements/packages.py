"""Install a lock into this Python's environment with uv, or with pip where uv cannot run; or resolve a lock again.

Standard library alone: `make setup` runs it in an environment that holds nothing but pip. Both installers require the
hash of every file. uv gets its package index from pip's configuration, so that what is set up for pip is enough.
"""

import argparse
import ast
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from importlib.metadata import distributions
from pathlib import Path

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
UV = str(Path(sysconfig.get_path("scripts")) / "uv")
# A lock is complete: a package brings nothing that is not in it, such as NVIDIA's libraries, or all but its weights.
AS_LOCKED = ("--require-hashes", "--no-deps", "--no-build-isolation")
CUDA = re.compile(r"nvidia-|cuda-|triton\b")

# What pip calls a setting, and the variable and separator that give it to uv. Further indexes are left to pip: uv takes
# the files of a version from the first index that has any, even where those of another fit this machine better.
UV_SETTINGS = {
    "index-url": ("UV_DEFAULT_INDEX", ""),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-index": ("UV_NO_INDEX", ""),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", ""),
    "client-cert": ("SSL_CLIENT_CERT", ""),
    "proxy": ("ALL_PROXY", ""),
    "default-timeout": ("UV_HTTP_TIMEOUT", ""),
    "timeout": ("UV_HTTP_TIMEOUT", ""),
}
OTHER_SOURCES = ("find-links", "no-index")


def entries(lock: str) -> dict[str, list[str]]:
    """Requirements of a lock by name, each with its hashes. A name occurs more than once where versions differ."""
    found: dict[str, list[str]] = {}
    for entry in re.findall(r"^[A-Za-z0-9].*(?:\n[ \t]+.*)*", lock, flags=re.MULTILINE):
        found.setdefault(re.split(r"[=<>!~;\[ ]", entry, maxsplit=1)[0].lower(), []).append(entry)
    return found


def chosen(lock: str, without_cuda: bool) -> dict[str, list[str]]:
    """The requirements to install; `without_cuda` leaves out NVIDIA's libraries and Triton."""
    return {
        name: entry
        for name, entry in entries(lock).items()
        if not (without_cuda and CUDA.match(name))
    }


def pip_settings(listing: str) -> dict[str, str]:
    """Settings from the output of `pip config list`; as in pip, `install` overrides `global`, the environment both."""
    by_section: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listing.splitlines():
        match = re.fullmatch(r"(global|install|:env:)\.([a-z-]+)=(.+)", line.strip())
        if match:
            section, key, value = match.groups()
            by_section[section][key] = str(ast.literal_eval(value))
    return {key: value for section in by_section.values() for key, value in section.items()}


def uv_environment(settings: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with pip's settings in uv's words. What is set for uv already stays."""
    made = {"UV_PYTHON_DOWNLOADS": "never"}
    for key, value in settings.items():
        if key in UV_SETTINGS:
            variable, separator = UV_SETTINGS[key]
            made[variable] = separator.join(value.split()) if separator else value.strip()
    return {**made, **environment}


def configured(leave_out: Iterable[str] = ()) -> dict[str, str]:
    """The environment to run uv in."""
    listing = subprocess.run(
        [*PIP, "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    settings = {key: value for key, value in pip_settings(listing).items() if key not in leave_out}
    return uv_environment(settings, os.environ)


def bring(requirements: list[str], folder: Path) -> str | None:
    """Put a package into the environment, as a wheel, where it is locked; returns why that failed, or None."""
    if not requirements:
        return None
    wanted = folder / "lock-first.txt"
    wanted.write_text("\n".join(requirements) + "\n")
    command = [
        *PIP,
        "install",
        "--quiet",
        "--require-hashes",
        "--no-deps",
        "--only-binary=:all:",
        "-r",
        str(wanted),
    ]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    errors = [
        line.removeprefix("ERROR: ")
        for line in done.stderr.splitlines()
        if line.startswith("ERROR: ")
    ]
    return (
        None
        if done.returncode == 0
        else (errors or [f"pip ended with exit status {done.returncode}"])[-1]
    )


def why_not_uv(requirements: list[str], folder: Path) -> str | None:
    """Bring uv, where it is locked, and try it; returns why it cannot be used, or None."""
    failure = bring(requirements, folder)
    if failure:
        return f"it could not be installed: {failure}"
    try:
        tried = subprocess.run([UV, "--version"], capture_output=True, check=False)
    except OSError as error:
        return f"it cannot run: {error}"
    return f"it cannot run: exit status {tried.returncode}" if tried.returncode else None


def install_with_uv(lock: Path) -> int:
    """Returns the exit status. Unlike pip's, the bytecode is left to the first import: most is never imported."""
    command = [UV, "pip", "install", "--python", sys.executable, *AS_LOCKED]
    return subprocess.run([*command, "-r", str(lock)], env=configured(), check=False).returncode


def install_with_pip(lock: Path) -> int:
    """Returns the exit status. Of what pip says only the downloads are shown: it says a line or more of each package."""
    command = [*PIP, "install", *AS_LOCKED, "--progress-bar=off", "-r", str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith("  Downloading "):
                print(line.strip(), flush=True)
            elif line.startswith("Installing "):
                print("installing what was downloaded", flush=True)
    return running.returncode


def install(lock: Path, without_cuda: bool) -> int:
    """Install what `lock` pins, hashes required; returns the exit status of the installer."""
    folder = Path(sys.prefix)
    requirements = chosen(lock.read_text(), without_cuda)
    if without_cuda and sys.platform == "linux" and not list(distributions(name="torch")):
        print(
            f"CUDA=0: expected a CPU build of torch in {folder}, found none; install torch and torchaudio there first, "
            "or leave CUDA=0 out",
            file=sys.stderr,
        )
        return 2
    failure = bring(
        requirements.get("setuptools", []), folder
    )  # builds what has no wheel; the pinned one, not any newer
    if failure:
        print(
            f"setuptools: expected to install the locked version, found: {failure}", file=sys.stderr
        )
        return 1
    wanted = folder / "lock.txt"
    wanted.write_text("".join(f"{entry}\n" for group in requirements.values() for entry in group))
    why = why_not_uv(requirements.pop("uv", []), folder)
    if why is None:
        status = install_with_uv(wanted)
        if status == 0:
            return 0
        why = f"it ended with exit status {status}"
    print(
        f"warning: uv cannot install here ({why}); pip does it instead, which takes minutes",
        file=sys.stderr,
    )
    wanted.write_text("".join(f"{entry}\n" for group in requirements.values() for entry in group))
    return install_with_pip(wanted)


def resolve(source: Path, lock: Path, constraints: Path | None) -> int:
    """Resolve `source` into `lock` for every platform, keeping the versions that `lock` has where they still fit."""
    command = [
        UV,
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--python-version",
        "3.11",
        "--generate-hashes",
    ]
    command += ["--no-emit-index-url", "--no-header", "--no-annotate", str(source), "-o", str(lock)]
    command += ["--constraints", str(constraints)] if constraints else []
    # Of one index alone: a second one may hold files of a single platform, and no hashes for the others.
    return subprocess.run(command, env=configured(leave_out=OTHER_SOURCES), check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    installer = commands.add_parser("install")
    installer.add_argument("lock", type=Path)
    installer.add_argument("--without-cuda", action="store_true")
    resolver = commands.add_parser("resolve")
    resolver.add_argument("source", type=Path)
    resolver.add_argument("lock", type=Path)
    resolver.add_argument("--constraints", type=Path)
    given = parser.parse_args()
    if given.command == "install":
        return install(given.lock, given.without_cuda)
    return resolve(given.source, given.lock, given.constraints)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
