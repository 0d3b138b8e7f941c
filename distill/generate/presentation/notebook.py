"""Notebook view of generated sounds: audio players and a table."""

from base64 import b64encode
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

MOST_PLAYERS = 32  # limits the notebook file, which holds the sounds


def players_and_table(wavs: Iterable[bytes], table: "pd.DataFrame") -> str:
    """HTML with a player for each of the first MOST_PLAYERS WAV files, followed by the whole table."""
    players = "".join(_players(islice(wavs, MOST_PLAYERS), str(table.index.name)))
    return f"{players}<div style='overflow-x: auto'>{table.to_html()}</div>"


def _players(wavs: Iterable[bytes], kind: str) -> Iterator[str]:
    for number, wav in enumerate(wavs):
        sound = f"data:audio/wav;base64,{b64encode(wav).decode()}"
        name = f"{kind} {number}"
        yield f"<div>{name} <audio controls preload='none' aria-label='{name}' src='{sound}'></audio></div>"
