"""Words of other people's files, before they are shown."""


def one_line(found: object, most: int = 300) -> str:
    """What somebody else's file says, fit for a sentence: on one line, no control characters, not endless."""
    text = " ".join(str(found).split())
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return text if len(text) <= most else text[: most - 1] + "…"
