"""Plays an exported model without PyTorch and without Distill: `python examples/play_onnx.py FOLDER OUT.wav`.

FOLDER is what `distill export` wrote. Sound is drawn and decoded frame by frame and written as it comes: where the file
is, a plugin has its output. It needs onnxruntime and NumPy. docs/export.md explains each input.
"""

import argparse
import json
import wave
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[Any]


class Graph:
    """A graph, and the facts in its file."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.session = onnxruntime.InferenceSession(path, options)
        self.facts = json.loads(self.session.get_modelmeta().custom_metadata_map["distill"])

    def __call__(self, **inputs: Array) -> list[Array]:
        return self.session.run(None, inputs)  # type: ignore[no-any-return]


class Random:
    """The random numbers that Distill draws with: 53 bits each of a Mersenne Twister."""

    def __init__(self, seed: int) -> None:
        self.words = np.random.RandomState(seed)

    def uniform(self, count: int) -> Array:
        high, low = self.words.randint(0, 1 << 32, (count, 2), np.uint64).T
        return np.asarray((((high << np.uint64(32)) | low) & np.uint64((1 << 53) - 1)) / 2.0**53)


def drawn(
    prior: Graph, seed: int, temperature: float = 1.0, label: str = "", may_end: bool = True
) -> Iterator[Array]:
    """Frames of codes `[Q]` of a new sound, without end unless it ends by itself."""
    facts, random = prior.facts, Random(seed)
    sizes, window, step = (
        facts["codebook_sizes"],
        facts["context_frames"],
        -(-facts["context_frames"] // 2),
    )
    frames, most = [np.full(len(sizes), facts["bos"])], facts["most_frames"] if may_end else 0
    number = facts["labels"].index(label) + 1 if label else 0
    start, read = -1, 0
    while len(frames) <= (most or len(frames)):
        begin = max(0, -(-(len(frames) - window) // step)) * step
        if begin != start:  # a new window, of the last half of the one before
            start, read, cache = begin, begin, np.zeros(facts["cache"], np.float32)
        past, new = (
            np.array(part, np.int64).reshape(1, -1, len(sizes))
            for part in (frames[start:read], frames[read:])
        )
        read = len(frames)
        codes, cache = prior(
            frames=new,
            past=past,
            cache=cache,
            position=np.array([start]),
            label=np.array([number]),
            numbers=random.uniform(len(sizes))[None],
            temperature=np.array([temperature], np.float32),
            may_end=np.array([may_end and len(frames) > 1]),
            kept=np.full((1, len(sizes)), -1),
        )
        if codes[0, 0] == facts["eos"]:
            return
        frames.append(codes[0])
        yield codes[0]


class Phases:
    """Phases of the partials of tones, frame by frame. A frame's pitch glides to the next one's, which it must know."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.tunings, self.hop, self.rate = (
            facts["tunings"],
            facts["hop_length"],
            facts["sample_rate"],
        )
        self.stack, self.partials = facts["samples_per_frame"] // self.hop, facts["partials"]
        self.ratios = np.zeros((len(facts["ratios"]), self.partials))
        for row, ratios in zip(self.ratios, facts["ratios"], strict=True):
            row[: len(ratios)] = ratios
        numbers = np.arange(1, self.partials + 1)
        self.spread = (5**0.5 - 1) / 2 * (numbers**2 - 1) - 0.25
        self.codes: list[Array] = []
        self.pitches: list[float] = []  # of all frames, NaN where there is no tone
        self.begins, self.firsts = list[bool](), list[bool]()
        self.before = (
            np.zeros(self.partials),
            np.zeros(self.partials),
        )  # Hz and phases of the last hop

    def add(self, codes: Array) -> None:
        """Add the codes `[Q]` of the next frame."""
        _, note, tuning, atom, *_ = map(int, codes)
        self.codes.append(codes)
        self.pitches.append(note + tuning / self.tunings - 0.5 if note and atom else np.nan)
        t = len(self.pitches) - 1
        self.firsts.append(
            not np.isnan(self.pitches[t]) and (t == 0 or bool(np.isnan(self.pitches[t - 1])))
        )
        self.begins.append(
            self.firsts[t] or (self.step(t) > 1 and not any(self.firsts[max(0, t - 5) : t]))
        )

    def step(self, t: int) -> float:
        """Semitones from frame t - 1 to frame t, NaN where there are no two tones."""
        return self.pitches[t] - self.pitches[t - 1] if 0 < t < len(self.pitches) else np.nan

    def glide(self, t: int) -> float:
        """Semitones that pitch glides by from frame t - 1 to frame t, NaN where it does not."""
        step = self.step(t)
        is_low = t < len(self.pitches) and min(self.pitches[t - 1 : t + 1], default=np.nan) < 60
        falls = is_low and abs(step) <= 14 and any(self.begins[max(0, t - 5) : t])
        return step if abs(step) <= 1 or falls else np.nan

    def frame(self, t: int) -> Array:
        """Phases `[stack, K]` in cycles of frame t; frame t + 1 must be known, unless t is the last. Call it in order."""
        found, (hertz_before, phases_before) = np.zeros((self.stack, self.partials)), self.before
        if np.isnan(self.pitches[t]):
            self.before = (np.zeros(self.partials), phases_before)
            return found
        into, out, offsets = (
            self.glide(t),
            self.glide(t + 1),
            (np.arange(self.stack) + 0.5) / self.stack - 0.5,
        )
        slopes = np.where(
            offsets < 0, np.nan_to_num(out if np.isnan(into) else into), np.nan_to_num(out)
        )
        speeds = 440 * 2 ** ((self.pitches[t] + slopes * offsets - 69) / 12)  # Hz of each hop
        seconds, ratios = self.hop / self.rate, self.ratios[max(0, int(self.codes[t][3]) - 1) // 3]
        shares = np.clip(self.stack / 2 - np.arange(self.stack), 0, 1)
        middle = (speeds @ shares - speeds[0] / 2) * seconds
        phases = (int(self.codes[t][2]) / self.tunings - middle) * ratios + self.spread
        is_run = (
            not np.isnan(into)
            and (int(self.codes[t - 1][3]) - 1) // 3 == (int(self.codes[t][3]) - 1) // 3
        )
        for hop, speed in enumerate(speeds):
            hertz = ratios * speed
            if hop or is_run:
                phases = phases_before + (hertz_before + hertz) / 2 * seconds
            else:
                there = np.where(hertz_before > 0, hertz_before, np.inf)
                apart = abs(hertz[:, None] - there)
                nearest = apart.argmin(axis=1)
                goes_on = (apart.min(axis=1) < 0.03 * hertz) & (hertz > 0)
                on = phases_before[nearest] + (hertz_before[nearest] + hertz) / 2 * seconds
                phases = np.where(goes_on, on, phases)
            hertz_before, phases_before = hertz, phases
            found[hop] = phases % 1
        self.before = (hertz_before, phases_before)
        return found


def decoded(decoder: Graph, frames: Iterable[Array], at_once: int = 32) -> Iterator[Array]:
    """Samples of frames of codes, `at_once` frames at a time: each as soon as the frames that it depends on are there."""
    facts = decoder.facts
    context, samples = facts["context_frames"], facts["samples_per_frame"]
    tones, codes, phases, done = Phases(facts), list[Array](), list[Array](), 0

    def decode(stop: int) -> Array:
        first, last = max(0, done - context), min(len(codes), stop + context)
        (audio,) = decoder(
            codes=np.array(codes[first:last])[None],
            positions=np.arange(first, last),
            phases=np.concatenate(phases[first:last])[None].astype(np.float32),
            noise=np.tile(np.array(facts["noise"], np.float32), (1, last - first, 1)),
        )
        return np.asarray(audio[0, (done - first) * samples : (stop - first) * samples])

    for frame in frames:
        codes.append(frame)
        tones.add(frame)
        if len(codes) > 1:
            phases.append(tones.frame(len(codes) - 2))
        if len(phases) >= done + at_once + context:
            yield decode(done + at_once)
            done += at_once
    phases.append(tones.frame(len(codes) - 1))
    while done < len(codes):
        yield decode(stop := min(done + at_once, len(codes)))
        done = stop


def main() -> None:
    """Draw a sound and write it."""
    parser = argparse.ArgumentParser(
        description="Draws a new sound from an exported model and writes it as it comes."
    )
    parser.add_argument("folder", type=Path, help="what distill export wrote")
    parser.add_argument("output", type=Path, help="WAV file")
    parser.add_argument("--seconds", type=float, default=10.0, help="at most so long (10)")
    parser.add_argument("--seed", type=int, default=0, help="a number up to 4294967295 (0)")
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="above 0; lower is nearer to what is likely (1)",
    )
    parser.add_argument("--label", default="", help="kind of sound")
    options = parser.parse_args()
    try:
        decoder, prior = (
            Graph(options.folder / "decoder.onnx"),
            Graph(options.folder / "prior.onnx"),
        )
    except Exception as error:  # of the runtime
        parser.error(
            f"{options.folder}: expected decoder.onnx and prior.onnx, found none that can be read ({error})"
        )
    if options.label not in ("", *prior.facts["labels"]):
        parser.error(f"--label: expected one of {prior.facts['labels']}, found {options.label}")
    if not (0 < options.seconds < 1e5 and options.temperature > 0 and 0 <= options.seed < 1 << 32):
        parser.error("expected --seconds and --temperature above 0 and --seed from 0 to 4294967295")
    frames = drawn(prior, options.seed, options.temperature, options.label)
    count = max(
        1,
        round(options.seconds * decoder.facts["sample_rate"] / decoder.facts["samples_per_frame"]),
    )
    with wave.open(str(options.output), "wb") as file:
        file.setparams((1, 2, decoder.facts["sample_rate"], 0, "NONE", ""))
        for samples in decoded(
            decoder, (frame for frame, _ in zip(frames, range(count), strict=False))
        ):
            file.writeframes(
                np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()
            )


if __name__ == "__main__":
    main()
