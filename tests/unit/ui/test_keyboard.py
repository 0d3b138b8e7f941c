"""Keys and pads of the page: which sound each plays, and at which rate."""

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from distill.ui import keyboard
from distill.ui.results import names_of

HOSTILE = "<img src=x onerror=alert(1)>\"'&"


def played(shown: str) -> dict[int, tuple[list[str], float]]:
    """Names of the sounds of each key that plays some, and the rate."""
    keys = {}
    for key, sounds, rate in re.findall(r'data-key="(\d+)" data-sounds="(.*?)" data-rate="(.*?)"', shown):
        names = [re.search(r"([^/]+)\?", address)[1] for address in json.loads(html.unescape(sounds))]  # type: ignore[index]
        if names:
            keys[int(key)] = (names, float(rate))
    return keys


def sounds(folder: Path, *notes: float | None) -> tuple[list[Path], list[dict[str, Any]]]:
    """Files of sounds at notes, and their rows."""
    paths = [folder / f"{number}.wav" for number in range(len(notes))]
    for path in paths:
        path.touch()
    return paths, [{"note": note} if note is not None else {} for note in notes]


def test_sounds_without_notes_are_on_white_keys_as_they_are(tmp_path: Path) -> None:
    paths, rows = sounds(tmp_path, *[None] * 8)
    shown = keyboard.of_sounds(paths, rows)
    expected = dict(zip((60, 62, 64, 65, 67, 69, 71, 72), ([f"{n}.wav"] for n in range(8)), strict=True))
    assert played(shown) == {key: (names, 1.0) for key, names in expected.items()}
    assert 'data-ends="0"' in shown
    assert len(re.findall("data-key", shown)) == 25  # two octaves, C to C
    assert ("C4: sound 1" in shown, "D4: sound 2" in shown) == (True, True)  # as cards are called
    paths[1].unlink()  # discarded: the others move up
    assert "D4: sound 3" in keyboard.of_sounds(paths, rows)
    assert [names for names, _ in played(keyboard.of_sounds(paths, rows)).values()] == [
        [f"{n}.wav"] for n in (0, *range(2, 8))
    ]


def test_sounds_at_notes_are_over_all_keys_at_their_pitch(tmp_path: Path) -> None:
    paths, rows = sounds(tmp_path, 60.0, 64.0, 60.0)
    shown = keyboard.of_sounds(paths, rows)
    keys = played(shown)
    assert keys[60] == (["0.wav", "2.wav"], 1.0)  # in turn
    assert keys[64] == (["1.wav"], 1.0)
    assert keys[61] == (["0.wav", "2.wav"], pytest.approx(2 ** (1 / 12), abs=1e-6))
    assert keys[76] == (["1.wav"], pytest.approx(2.0))
    assert keys == dict(sorted(keys.items()))
    assert 'data-ends="1"' in shown


def test_an_instrument_is_in_tune_and_a_kit_has_pads(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    for name in ("c", "g"):
        (tmp_path / "samples" / f"{name}.wav").touch()
    groups = [
        {"key": 48, "label": HOSTILE, "sounds": [{"file": "samples/c.wav", "tune": 100}]},
        {"key": 55, "label": "g", "sounds": [{"file": "samples/g.wav"}]},
        {"key": 60, "label": "empty", "sounds": []},
    ]
    pads = keyboard.of_kit(tmp_path, {"groups": groups})
    assert '<div class="pads"' in pads
    assert "<img" not in pads
    assert list(played(pads)) == [48, 55]
    keys = keyboard.of_kit(tmp_path, {"groups": [{**group, "keys": [0, 127]} for group in groups]})
    assert '<div class="keys"' in keys
    assert "<img" not in keys
    assert played(keys)[48] == (["c.wav"], pytest.approx(2 ** (1 / 12), abs=1e-6))
    assert played(keys)[56] == (["g.wav"], pytest.approx(2 ** (1 / 12), abs=1e-6))


@pytest.mark.parametrize("file", ["../../secret.wav", "/etc/secret.wav", "samples/../../secret.wav"])
def test_files_of_a_kit_are_in_its_folder(tmp_path: Path, file: str) -> None:
    shown = keyboard.of_kit(tmp_path, {"groups": [{"key": 60, "label": "x", "sounds": [{"file": file}]}]})
    (address,) = json.loads(html.unescape(re.search('data-sounds="(.*?)"', shown)[1]))  # type: ignore[index]
    path = Path(address.partition("file=")[2].partition("?")[0])
    assert path.resolve().is_relative_to(tmp_path.resolve())


def test_nothing_is_played_of_nothing(tmp_path: Path) -> None:
    assert (
        keyboard.of_sounds([], []) == keyboard.of_kit(tmp_path, {}) == keyboard.of_kit(tmp_path, {"groups": []}) == ""
    )


def test_keys_at_both_ends_are_keys(tmp_path: Path) -> None:
    for note in (0.0, 127.0):
        keys = played(keyboard.of_sounds(*sounds(tmp_path, note)))
        assert keys[int(note)][1] == 1.0
        assert min(keys) >= 0
        assert max(keys) <= 127


def test_steps_of_a_morph_are_named_by_how_far_they_are(tmp_path: Path) -> None:
    paths, _ = sounds(tmp_path, *[None] * 5)
    assert names_of(5, 5) == ["0%", "25%", "50%", "75%", "100%"]
    assert names_of(4, 2) == names_of(4, None) == ["sound 1", "sound 2", "sound 3", "sound 4"]
    assert names_of(1, 1) == ["sound 1"]
    pads = re.findall(r">([^<]*)</button>", keyboard.of_grid(paths, names_of(5, 5), 5))
    assert pads[:5] == names_of(5, 5)
