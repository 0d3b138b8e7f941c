"""Make text from untrusted files safe to print, and lay it out for a terminal."""

import shutil
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.cells import cell_len, chop_cells

# Characters that reorder text: "\u202egnp.wav" is shown as "vaw.png".
_REORDERING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})

_LONGEST_LINE = 4000  # characters


def one_line(value: object, limit: int = 300) -> str:
    """Text of a value on one line, at most `limit` characters, without control characters."""
    text = " ".join(str(value).split())
    text = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
    return text if len(text) <= limit else text[: limit - 1] + "…"


def several(number: int, name: str) -> str:
    """Number and noun: "1 sound", "2 sounds"."""
    return f"{number} {name}{'s' * (number != 1)}"


def any_of(names: Sequence[str]) -> str:
    """Join two or more alternatives: "a, b or c"."""
    return f"{', '.join(names[:-1])} or {names[-1]}"


def normal_form(name: str) -> str:
    """Normalise a name (NFC) for comparison: keyboards compose letter and accent, macOS decomposes them."""
    return unicodedata.normalize("NFC", name)


def positions_of(name: str, *lists: Sequence[str]) -> list[int]:
    """Positions of `name` in the first list that has it: exact, else in normal form, else ignoring case."""
    forms: tuple[Callable[[str], str], ...] = (
        str,
        normal_form,
        lambda text: normal_form(text).casefold(),
    )
    found = (
        [position for position, each in enumerate(names) if form(each) == form(name)]
        for form in forms
        for names in lists
    )
    return next(filter(None, found), [])


def is_utf8(text: str) -> bool:
    """Whether text can be encoded as UTF-8; file names may hold other bytes as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def shown(text: str) -> str:
    """Escape control characters, and bytes of names that are not UTF-8; shorten very long lines in the middle."""
    half, lines = _LONGEST_LINE // 2, text.split("\n")
    short = (
        line if len(line) <= _LONGEST_LINE else f"{line[:half]} … {line[-half:]}" for line in lines
    )
    return "\n".join("".join(map(escaped, line)) for line in short)


def escaped(character: str) -> str:
    """A character, or its backslash escape if it is a control, reorders text or is not UTF-8."""
    if 0xDC80 <= ord(character) <= 0xDCFF:  # a raw byte from the surrogateescape handler
        return f"\\x{ord(character) - 0xDC00:02x}"
    is_hidden = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    if is_hidden or unicodedata.bidirectional(character) in _REORDERING:
        return f"\\u{ord(character):06x}"
    return character


def beside(head: str, text: str, width: int) -> str:
    """Head and text, shortened to one line of `width` columns, or on two lines if `width` is narrow."""
    room = width - cell_len(head) - 2
    if room >= min(cell_len(text), 24):  # columns
        return f"{head}  {_cut(text, room)}".rstrip()
    return f"{head}\n  {_cut(text, width - 2)}"


def wrapped(lines: Iterable[str], width: int) -> list[str]:
    """Wrap lines at `width` columns, with continuations indented. Words stay whole."""
    layout: Any = {"subsequent_indent": "  ", "break_on_hyphens": False, "break_long_words": False}
    return [
        part
        for line in lines
        for part in textwrap.wrap(line, max(width, 3), drop_whitespace=True, **layout)
    ]


def _cut(text: str, width: int) -> str:
    """Shorten text to `width` columns, at least one."""
    if cell_len(text) <= width:
        return text
    return chop_cells(text, max(1, width - 1))[0].rstrip() + "…"


def terminal_width() -> int:
    """Columns of the terminal on stdout, or COLUMNS if set; 4000 for a file or a pipe."""
    return shutil.get_terminal_size((_LONGEST_LINE, 0)).columns


def table(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Lay out rows in columns, titles first; names in the first column wrap.

    If `width` is too narrow for columns, each row becomes a block of lines.
    """
    longest, *widths = (max(map(cell_len, column)) for column in zip(*rows, strict=True))
    room = min(longest, width - sum(widths) - 2 * len(widths))
    if room < min(longest, 12):  # columns of names
        titles, *records = rows
        values = [named_values(zip(titles, record, strict=True), width) for record in records]
        return [line for lines in values for line in (*lines, "")]
    lines = []
    for name, *others in rows:
        first, *more = chop_cells(name, room)
        lines += ["  ".join(map(_padded, (first, *others), (room, *widths))).rstrip(), *more]
    return lines


def named_values(rows: Iterable[tuple[str, str]], width: int) -> list[str]:
    """Lay out names and values side by side, or values below names if `width` is narrow. Words stay whole."""
    rows = [(one_line(name, 1000), one_line(value, 1000)) for name, value in rows]
    indent = max((cell_len(name) for name, _ in rows), default=0) + 2
    is_narrow = 2 * indent > width
    lines = []
    for name, value in rows:
        first, rest = _padded(name, indent), " " * indent
        if is_narrow:
            lines.append(name)
            first = rest = " " * 2
        layout: Any = {"initial_indent": first, "subsequent_indent": rest}
        layout |= {"break_on_hyphens": False, "break_long_words": False}
        lines += textwrap.wrap(value, max(width, 1), **layout) or [first.rstrip()]
    return lines


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))
