"""The scale of docs/guide.md: a kit of the demo's plucked strings, played by samplers that we did not write.

`python docs/kit_scale.py`, run from the repository's root, writes the page's table and its picture. It takes minutes, and
needs Polyphone and FluidSynth.
"""

import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from matplotlib.figure import Figure
from matplotlib.mlab import specgram
from numpy.typing import NDArray

PAGE, PICTURE = Path("docs/guide.md"), Path("docs/static/kit-scale.png")
TABLE = "<!-- scale -->\n", "<!-- end -->"
POLYPHONE, FLUIDSYNTH = shutil.which("polyphone"), shutil.which("fluidsynth")
TRAIN = ("train", "demo", "--labels", "folder", "--prior", "--name", "demo")
KIT = (
    "kit",
    "models/demo.distill",
    "--label",
    "plucked_string",
    "--notes",
    "C2:C5",
    "--every",
    "3",
    "--per-label",
    "1",
    "--seed",
    "1",
)
WHITE = "CDEFGAB", (0, 2, 4, 5, 7, 9, 11)  # keys of an octave, and their semitones
OCTAVES = range(2, 5)
HELD, GAP, RATE = 1.0, 0.3, 44100  # seconds, seconds, Hz
WINDOW = 8192  # samples, of the picture
FINE = 1 << 21  # bins of 0.02 Hz


def soundfont_of(folder: Path, into: Path) -> tuple[Path, str]:
    """The SoundFont of the kit in a folder, made by Polyphone, and what Polyphone said."""
    assert POLYPHONE is not None
    folders = {"HOME": str(into), "XDG_RUNTIME_DIR": str(into), "QT_QPA_PLATFORM": "offscreen"}
    command = [POLYPHONE, "-1", "-i", str(folder / "kit.sfz"), "-d", str(into), "-o", "read"]
    environment = {**os.environ, **folders}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return into / "read.sf2", done.stdout + done.stderr


def scale(keys: list[int], held: float, gap: float) -> bytes:
    """A MIDI file of keys, one after the other, each after a gap and held for so many seconds (960 ticks a second)."""

    def after(seconds: float) -> bytes:
        ticks = round(960 * seconds)  # fits two groups of seven bits
        return bytes([0x80 | ticks >> 7, ticks & 0x7F])

    played = b"".join(
        after(gap) + bytes([0x90, key, 100]) + after(held) + bytes([0x80, key, 0]) for key in keys
    )
    track = played + after(gap) + b"\xff\x2f\x00"
    return (
        b"MThd"
        + struct.pack(">IHHH", 6, 0, 1, 480)
        + b"MTrk"
        + struct.pack(">I", len(track))
        + track
    )


def play(soundfont: Path, midi: bytes, rate: int, into: Path) -> NDArray[np.float64]:
    """Output of FluidSynth, without reverberation: samples `[N]`."""
    assert FLUIDSYNTH is not None
    (into / "scale.mid").write_bytes(midi)
    settings = ["-ni", "-q", "-R", "0", "-C", "0", "-g", "1", "-r", str(rate), "-T", "wav"]
    command = [
        FLUIDSYNTH,
        *settings,
        "-F",
        str(into / "out.wav"),
        str(soundfont),
        str(into / "scale.mid"),
    ]
    subprocess.run(command, capture_output=True, timeout=60, check=True)
    samples: NDArray[np.float64] = soundfile.read(into / "out.wav")[0][:, 0]
    return samples


def hertz(key: float) -> float:
    """Frequency of a MIDI key."""
    return float(440 * 2 ** ((key - 69) / 12))


def cents_off(samples: NDArray[np.float64], rate: int, key: int) -> float:
    """How far the highest peak within 80 cents of a key's frequency is from it, in samples `[N]`."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), FINE))
    near = np.arange(round(hertz(key - 0.8) / rate * FINE), round(hertz(key + 0.8) / rate * FINE))
    return float(1200 * np.log2(near[power[near].argmax()] * rate / FINE / hertz(key)))


def draw(samples: NDArray[np.float64], keys: list[int], cents: list[float], path: Path) -> None:
    """Draw the spectrogram of a scale with the frequencies of its keys, and below how far each key is off."""
    figure = Figure(figsize=(8.0, 4.4), dpi=100, layout="constrained")
    axis, below = figure.subplots(2, sharex=True, height_ratios=[4, 1])
    power, frequencies, times = specgram(samples, WINDOW, RATE, noverlap=WINDOW * 3 // 4)
    heard = (frequencies > hertz(keys[0] - 7)) & (frequencies < 3000)
    decibels = 10 * np.log10(power[heard] / power.max() + 1e-12)
    axis.pcolormesh(
        times, frequencies[heard], decibels, cmap="magma", vmin=-60, vmax=-5, rasterized=True
    )
    axis.set(yscale="log", ylabel="Hz")
    axis.set_yticks([100, 200, 500, 1000, 2000], ["100", "200", "500", "1000", "2000"])
    begins = [GAP + number * (GAP + HELD) for number in range(len(keys))]
    axis.hlines(
        [hertz(key) for key in keys],
        begins,
        [begin + HELD for begin in begins],
        color="cyan",
        linewidth=0.8,
    )
    axis.set_xlim(0, begins[-1] + HELD + GAP)
    middles = [begin + HELD / 2 for begin in begins]
    below.axhline(0, color="grey", linewidth=0.5)
    below.plot(middles, cents, "o", markersize=4)
    below.set(ylim=(-20, 20), ylabel="cents off")
    below.set_xticks(
        middles,
        [f"{WHITE[0][WHITE[1].index(key % 12)]}{key // 12 - 1}" for key in keys],
        fontsize=7,
    )
    figure.savefig(path, format="png", pil_kwargs={"optimize": True})


def show(kit: Path, folder: Path) -> None:
    """Play the kit, and write the table and the picture; what Polyphone and FluidSynth make goes to a folder."""
    keys = [12 * (octave + 1) + step for octave in OCTAVES for step in WHITE[1]]
    samples = play(soundfont_of(kit, folder)[0], scale(keys, HELD, GAP), RATE, folder)
    begins = [round((GAP + number * (GAP + HELD)) * RATE) for number in range(len(keys))]
    held = [samples[begin : begin + round(HELD * RATE)] for begin in begins]
    cents = [cents_off(sound, RATE, key) for sound, key in zip(held, keys, strict=True)]
    draw(samples, keys, cents, PICTURE)
    lines = ["| octave | " + " | ".join(WHITE[0]) + " |", "|---" * 8 + "|"]
    for octave, row in zip(OCTAVES, np.array_split(cents, len(OCTAVES)), strict=True):
        lines.append(
            f"| {octave} | " + " | ".join(f"{value + 0.0:+.1f}" for value in row.round(1)) + " |"
        )
    before, after = map(re.escape, TABLE)
    block = "".join((TABLE[0], *(f"{line}\n" for line in lines), TABLE[1]))
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(
        re.sub(f"{before}.*?{after}", lambda _: block, text, flags=re.DOTALL), encoding="utf-8"
    )


def main() -> None:
    """Learn the demo, make a kit, and show it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copytree("data/demo", folder / "demo")
        for words in (TRAIN, (*KIT, "--out", "kit")):
            subprocess.run([sys.executable, "-P", "-m", "distill", *words], cwd=folder, check=True)
        show(folder / "kit", folder)


if __name__ == "__main__":
    main()
