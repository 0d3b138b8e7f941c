"""Makes a release as far as a registry: `make release` checks, builds twice, and says what to do next. It sends nothing.

The version stands in `distill/__init__.py`, in CITATION.cff, as the newest in CHANGELOG.md, and in a tag of the commit.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from distill.storage.files import sha256_file

ROOT = Path(__file__).parents[1]


def git(*arguments: str) -> str:
    """What git says."""
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def problems() -> list[str]:
    """Sentences on what a release lacks."""
    texts = {
        name: (ROOT / name).read_text(encoding="utf-8") for name in ("CITATION.cff", "CHANGELOG.md")
    }
    version = version_of()
    newest = re.search(r"^## \[([^\]]+)\]", texts["CHANGELOG.md"], flags=re.MULTILINE)
    cited = re.search(r"^version: (\S+)$", texts["CITATION.cff"], flags=re.MULTILINE)
    found = []
    if newest is None or newest[1] != version:
        found.append(
            f"CHANGELOG.md: expected [{version}] as the newest, found [{newest[1] if newest else ''}]; rename it"
        )
    if cited is None or cited[1] != version:
        found.append(
            f"CITATION.cff: expected version {version}, found {cited[1] if cited else 'none'}; write it there"
        )
    if git("status", "--short"):
        found.append(
            "git: expected no changes that are not committed, found some; commit or stash them"
        )
    if f"v{version}" not in git("tag", "--points-at", "HEAD").split():
        found.append(
            f"git: expected the tag v{version} at this commit, found none; run git tag -s v{version}"
        )
    return found


def version_of() -> str:
    """The version in the code."""
    text = (ROOT / "distill/__init__.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', text, flags=re.MULTILINE)
    return str(version)


def built(commit: str, folder: Path) -> dict[str, str]:
    """Hex SHA-256 of what a fresh clone of a commit builds, by name; the files are in `folder / "dist"`."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    subprocess.run(["git", "checkout", "--quiet", commit], cwd=folder, check=True)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build"], cwd=folder, check=True, capture_output=True
    )
    files = sorted((folder / "dist").iterdir())
    return {file.name: sha256_file(file) for file in files}


def bill_of_materials() -> list[str]:
    """Write `dist/sbom.json`, what the lock pins, in CycloneDX; a sentence where that fails."""
    tool = [
        str(Path(sys.executable).with_name("uv")),
        "tool",
        "run",
        "--from",
        "cyclonedx-bom",
        "cyclonedx-py",
    ]
    command = [*tool, "requirements", "requirements/lock.txt", "--output-reproducible"]
    command += ["--output-file", "dist/sbom.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["nothing"]
        return [
            f"dist/sbom.json: expected CycloneDX's tool to write it, found: {lines[-1]}; is there a network?"
        ]
    print(f"{sha256_file(ROOT / 'dist/sbom.json')}  dist/sbom.json")
    return []


def main() -> int:
    """Check, build and say; the exit status."""
    try:
        wrong = problems()
    except (OSError, subprocess.CalledProcessError):
        print(
            "release: expected a git repository with a commit, of which a release is made, found none; clone the project",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory() as top:
        first, again = (
            built(git("rev-parse", "HEAD"), Path(top, name)) for name in ("first", "again")
        )
        if first != again:
            wrong.append(
                "build: expected the same bytes twice, found others; see what the build takes from outside"
            )
        (ROOT / "dist").mkdir(exist_ok=True)
        for name, digest in first.items():
            (ROOT / "dist" / name).write_bytes(Path(top, "first", "dist", name).read_bytes())
            print(f"{digest}  dist/{name}")
    wrong += bill_of_materials()
    for sentence in wrong:
        print(f"release: {sentence}", file=sys.stderr)
    if not wrong:
        print(
            "next: make check check-wheel check-page; uv tool run pip-audit --no-deps --disable-pip -r "
            "requirements/lock.txt; then upload dist/* and push the tag"
        )
    return 2 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
