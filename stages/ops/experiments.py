"""Project copies, in which DVC runs `dvc exp run --temp` and `--queue`; they only have files that git tracks."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from distill.errors import AudioError
from stages.running import PARAMS


def lead_to_recordings(project: Path, folder: str) -> None:
    """Link recordings of `folder`, a path relative to project and copy, that the copy lacks. Raises AudioError.

    The copy's git must ignore the links: otherwise DVC commits them with the experiment, and `dvc exp apply`
    overwrites the recordings with links.
    """
    copy = next(
        parent for parent in (Path.cwd(), *Path.cwd().parents) if (parent / ".git").exists()
    )
    here, there = Path(os.path.normpath(Path.cwd() / folder)), (project / folder).resolve()
    if here.is_relative_to(copy):
        here = here.resolve()  # keep a link that git tracks
    if not there.is_dir() or here.resolve() == there:
        return
    is_copied = here.is_relative_to(copy) and here.exists()
    is_free = here.is_symlink() or not here.exists()
    if not here.is_relative_to(project / ".dvc") or not (is_copied or is_free):
        raise AudioError(
            f"{PARAMS}: corpus.path: expected a path that leads from .dvc/tmp/exps, where DVC runs experiments, to "
            f"nothing else, found {folder}, which is {here} there; write the absolute path {there}"
        )
    links = list(_missing(here, there)) if is_copied else [(here, there)]
    if here.is_relative_to(copy):
        _exclude(copy, [name for name, _ in links])
    for name, target in links:
        name.parent.mkdir(parents=True, exist_ok=True)
        temporary = name.with_name(f".{name.name}.{os.getpid()}")
        temporary.symlink_to(target)
        temporary.replace(name)  # atomic: another experiment may do the same


def _exclude(copy: Path, names: Sequence[Path]) -> None:
    """Make the copy's git ignore files."""
    patterns = (
        re.sub(r"([\\*?\[ ])", r"\\\1", name.relative_to(copy).as_posix()) for name in names
    )
    path = copy / ".git" / "info" / "exclude"
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as file:
        file.write(os.fsencode("".join(f"/{pattern}\n" for pattern in patterns)))


def _missing(here: Path, there: Path) -> Iterator[tuple[Path, Path]]:
    """Files below `there` that are missing below `here`: (link, target)."""
    for parent, _, files in os.walk(there):
        for target in (Path(parent, file) for file in files):
            name = here / target.relative_to(there)
            if not os.path.lexists(name):
                yield name, target
