"""Names of files from labels: labels come from folders and from strangers' model files."""

import re
import unicodedata

MOST_CHARACTERS = 40
UNNAMED = "sound"  # for labels without a Latin letter or digit


def file_word(label: str) -> str:
    """A label as a part of a file's name: only `a-z`, `0-9` and single `-` inside, 1 to 40 characters.

    Two labels can give the same word: a file's name needs something of its own beside it.
    """
    latin = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode("ascii").lower()
    return re.sub(r"[^a-z0-9]+", "-", latin).strip("-")[:MOST_CHARACTERS].strip("-") or UNNAMED
