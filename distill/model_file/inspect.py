"""Text of `distill inspect`: the contents of a model file."""

import textwrap
from collections.abc import Iterator
from pathlib import Path

from rich.console import Group
from rich.text import Text

from distill.model_file.card import Facts, facts, origins
from distill.model_file.format import BundleMetadata, size_of
from distill.progress import HEALTH_TITLE, health_table
from distill.text import one_line

LONGEST = 5000  # characters of a value or path


def describe(path: Path, metadata: BundleMetadata, columns: int = 80) -> Group:
    """The facts, sources and codebook health of a model file, in lines of at most `columns`.

    Values are wrapped at spaces; a path or hash is never broken, so print it with `crop=False`.
    """
    size = size_of(path) / 1e6
    health = {level: values.model_dump() for level, values in metadata.codebook_health_snapshot.items()}
    return Group(
        _line(one_line(path, most=LONGEST)),
        _line(f"{size:.1f} MB, format {metadata.version_text}, weights intact"),
        _line(""),
        *_rows(facts(metadata), columns),
        _line(""),
        *_rows(origins(metadata), columns),
        *((_line(""), health_table(health, HEALTH_TITLE)) if health else ()),
    )


def _rows(rows: Facts, columns: int) -> Iterator[Text]:
    """Names and values in two columns; a value goes on below itself."""
    named = [(one_line(name, most=40), one_line(value, most=LONGEST)) for name, value in rows]
    indent = 2 + max(len(name) for name, _ in named)
    for name, value in named:
        wrapped = textwrap.wrap(value, max(20, columns - indent), break_long_words=False, break_on_hyphens=False)
        for number, part in enumerate(wrapped or [""]):
            yield _line(f"{name if number == 0 else '':{indent}}{part}")


def _line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ignore")
