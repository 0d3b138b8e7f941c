"""Text from untrusted files, made safe to print; and rows of it, laid out for a terminal."""

import shutil
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.cells import cell_len, chop_cells

# Characters that reorder what follows: "\u202egnp.wav" is shown as "vaw.png".
_REORDERING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})

_LONGEST_LINE = 4000  # characters


def one_line(value: object, most: int = 300) -> str:
    """Text of a value on one line, without control characters, of at most `most` characters."""
    text = " ".join(str(value).split())
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return text if len(text) <= most else text[: most - 1] + "…"


def several(number: int, name: str) -> str:
    """A number of things: "1 sound", "2 sounds"."""
    return f"{number} {name}{'s' * (number != 1)}"


def any_of(names: Sequence[str]) -> str:
    """Two or more names, of which one is meant: "a, b or c"."""
    return f"{', '.join(names[:-1])} or {names[-1]}"


def normal_form(name: str) -> str:
    """A name as names are compared, NFC: keyboards write an accent as a part of its letter, macOS apart from it."""
    return unicodedata.normalize("NFC", name)


def positions_of(name: str, *lists: Sequence[str]) -> list[int]:
    """Positions of `name` in the first list that has it: as it is, else in its normal form, else in either case."""
    forms: tuple[Callable[[str], str], ...] = (str, normal_form, lambda text: normal_form(text).casefold())
    for form in forms:
        for names in lists:
            if positions := [position for position, each in enumerate(names) if form(each) == form(name)]:
                return positions
    return []


def is_utf8(text: str) -> bool:
    """Whether text can be encoded as UTF-8: names of files may hold other bytes, as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def shown(text: str) -> str:
    """Text with escapes in place of what a terminal would act on, and of bytes of names that are not UTF-8.

    The middle of a line that no terminal shows is left out.
    """
    half, lines = _LONGEST_LINE // 2, text.split("\n")
    short = (line if len(line) <= _LONGEST_LINE else f"{line[:half]} … {line[-half:]}" for line in lines)
    return "\n".join("".join(map(escaped, line)) for line in short)


def escaped(character: str) -> str:
    """A character, or an escape by a backslash where it cannot be printed or encoded as UTF-8, or reorders others."""
    if 0xDC80 <= ord(character) <= 0xDCFF:  # a byte that is not UTF-8, as the surrogateescape handler keeps it
        return f"\\x{ord(character) - 0xDC00:02x}"
    is_hidden = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    if is_hidden or unicodedata.bidirectional(character) in _REORDERING:
        return f"\\u{ord(character):06x}"
    return character


def beside(head: str, text: str, width: int) -> str:
    """A head and text on one line of `width` columns, of which the text's end is cut; where `width` is narrow, below it."""
    room = width - cell_len(head) - 2
    if room >= min(cell_len(text), 24):  # columns for words
        return f"{head}  {_cut(text, room)}".rstrip()
    return f"{head}\n  {_cut(text, width - 2)}"


def wrapped(lines: Iterable[str], width: int) -> list[str]:
    """Lines of words of at most `width` columns, what follows the first of each indented. Words stay whole."""
    layout: Any = {"subsequent_indent": "  ", "break_on_hyphens": False, "break_long_words": False}
    return [part for line in lines for part in textwrap.wrap(line, max(width, 3), drop_whitespace=True, **layout)]


def _cut(text: str, width: int) -> str:
    """Text of at most `width` columns, at least one."""
    if cell_len(text) <= width:
        return text
    return chop_cells(text, max(1, width - 1))[0].rstrip() + "…"


def terminal_width() -> int:
    """Columns of the terminal that stdout is, or COLUMNS where it is set; no limit for a file or a pipe."""
    return shutil.get_terminal_size((_LONGEST_LINE, 0)).columns


def table(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Lines with rows in columns, titles first; names, in the first column, may take more lines.

    Where `width` has no room for that, each row is by itself.
    """
    longest, *widths = (max(map(cell_len, column)) for column in zip(*rows, strict=True))
    room = min(longest, width - sum(widths) - 2 * len(widths))
    if room < min(longest, 12):  # columns for names
        titles, *records = rows
        values = [named_values(zip(titles, record, strict=True), width) for record in records]
        return [line for lines in values for line in (*lines, "")]
    lines = []
    for name, *others in rows:
        first, *more = chop_cells(name, room)
        lines += ["  ".join(map(_padded, (first, *others), (room, *widths))).rstrip(), *more]
    return lines


def named_values(rows: Iterable[tuple[str, str]], width: int) -> list[str]:
    """Lines with names and values side by side, values below names where `width` is narrow. Words stay whole."""
    rows = [(one_line(name, 1000), one_line(value, 1000)) for name, value in rows]
    indent = max((cell_len(name) for name, _ in rows), default=0) + 2
    is_narrow = 2 * indent > width
    lines = []
    for name, value in rows:
        first, rest = (" " * 2, " " * 2) if is_narrow else (_padded(name, indent), " " * indent)
        lines += [name] * is_narrow
        layout: Any = {"initial_indent": first, "subsequent_indent": rest, "break_on_hyphens": False}
        lines += textwrap.wrap(value, max(width, 1), break_long_words=False, **layout) or [first.rstrip()]
    return lines


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))
