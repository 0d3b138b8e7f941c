"""Tables of `distill inspect`: the contents of a model file."""

from pathlib import Path

from rich.console import Group
from rich.table import Table

from distill.model_file.card import facts, origins
from distill.model_file.format import BundleMetadata
from distill.progress import HEALTH_TITLE, health_table, plain


def describe(path: Path, metadata: BundleMetadata) -> Group:
    """The facts, sources and codebook health of a model file as tables for the terminal."""
    size = path.stat().st_size / 1e6
    file = ("file", f"{path} ({size:.1f} MB), format {metadata.version_text}, weights intact")
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for row in (file, *facts(metadata), *origins(metadata)):
        table.add_row(*map(plain, row))
    health = {level: values.model_dump() for level, values in metadata.codebook_health_snapshot.items()}
    return Group(table, health_table(health, HEALTH_TITLE))
