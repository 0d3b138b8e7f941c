"""Uninstall from this environment what neither a package nor the named extras of it need: tests, documentation.

For images: python deploy/prune.py distill-audio ui cluster s3 hub
"""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

KEPT = {"pip", "setuptools"}  # torch asks for setuptools, and whoever extends an image for pip


def needed(package: str, extras: frozenset[str]) -> set[str]:
    """Names of all installed packages that a package with these extras needs, itself included."""
    found: dict[str, set[str]] = {}
    todo = [(canonicalize_name(package), extras)]
    while todo:
        name, asked = todo.pop()
        if name in found and asked <= found[name]:
            continue
        found[name] = found.get(name, set()) | asked
        try:
            listed = [Requirement(line) for line in requires(name) or ()]
        except PackageNotFoundError:
            if name == canonicalize_name(package):
                raise SystemExit(
                    f"{package}: expected it in this environment, found no such package"
                ) from None
            del found[
                name
            ]  # of another platform, or left out on purpose, as NVIDIA's libraries are
            continue
        for one in listed:
            if one.marker is None or any(
                one.marker.evaluate({"extra": extra}) for extra in ("", *found[name])
            ):
                todo.append((canonicalize_name(one.name), frozenset(one.extras)))
    return set(found)


def unneeded(package: str, extras: frozenset[str]) -> list[str]:
    """Names of the installed packages that are not needed."""
    installed = {canonicalize_name(one.name) for one in distributions()}
    return sorted(installed - needed(package, extras) - KEPT)


if __name__ == "__main__":
    names = unneeded(sys.argv[1], frozenset(sys.argv[2:]))
    print(f"removing {len(names)} packages:", *names)
    if names:
        subprocess.run(
            [sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", *names], check=True
        )
