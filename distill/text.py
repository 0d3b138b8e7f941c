"""Text from untrusted files, made safe to print."""


def one_line(found: object, most: int = 300) -> str:
    """Text of `found` on one line, without control characters, of at most `most` characters."""
    text = " ".join(str(found).split())
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return text if len(text) <= most else text[: most - 1] + "…"
