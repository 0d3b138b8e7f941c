"""Plays codes by a `.distill` model with NumPy alone: `python examples/play.py MODEL CODES FOLDER`.

A second decoder, written from docs/file-format.md without PyTorch, to start from in other languages. CODES is a file that
`distill encode MODEL AUDIO... -o CODES` writes; each recording in it becomes a WAV file in FOLDER. A test compares it with
Distill's own decoder.
"""

import json
import math
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
NOISE_HERTZ = (
    300,
    850,
    1550,
    2530,
    4000,
    6120,
    9080,
    14_000,
)  # middles of the bands of a noise floor


def read(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """The section "The container"."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    (text,) = header.pop("__metadata__").values()
    values = json.loads(text)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        kinds = {"F16": "<f2", "F32": "<f4", "I64": "<i8", "U16": "<u2", "U8": "u1"}
        tensors[name] = np.frombuffer(data[begin:end], kinds[entry["dtype"]]).reshape(
            entry["shape"]
        )
    return values, tensors


def under(prefix: str, tensors: dict[str, Array]) -> dict[str, Array]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def erf(x: Array) -> Array:
    """The error function, to 2e-7 (Abramowitz and Stegun 1964, 7.1.26)."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    series = (
        ((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736
    ) * t + 0.254829592
    return np.asarray(np.sign(x) * (1 - series * t * np.exp(-(x**2))))


def gelu(x: Array) -> Array:
    return np.asarray(x * 0.5 * (1 + erf(x / 2**0.5)))


def norm(x: Array, part: dict[str, Array], name: str) -> Array:
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    return x * part[f"{name}.weight"] + part[f"{name}.bias"]


def convolved(x: Array, weight: Array, bias: Array) -> Array:
    """`[T, inputs]` with weights `[outputs, inputs, 7]`, or `[width, 1, 7]` for each feature by itself."""
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(x, ((3, 3), (0, 0))), 7, axis=0
    )  # [T, inputs, 7]
    each = len(weight) == x.shape[1] and weight.shape[1] == 1
    return np.asarray(
        np.einsum(
            "tik,ik->ti" if each else "tik,oik->to", windows, weight[:, 0] if each else weight
        )
        + bias
    )


def stack(x: Array, part: dict[str, Array]) -> Array:
    """The table of names in a stack."""
    x = norm(convolved(x, part["embed.weight"], part["embed.bias"]), part, "norm")
    for number in range(len({name for name in part if name.endswith(".scale")})):
        block = under(f"blocks.{number}.", part)
        y = norm(convolved(x, block["depthwise.weight"], block["depthwise.bias"]), block, "norm")
        y = gelu(y @ block["expand.weight"].T + block["expand.bias"])
        x = x + block["scale"] * (y @ block["contract.weight"].T + block["contract.bias"])
    return norm(x, part, "final_norm")


def mel_filters(rate: int, n_fft: int, bands: int) -> Array:
    """Triangles on the HTK scale, `[n_fft / 2 + 1, bands]`."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    hertz = np.linspace(0, rate / 2, n_fft // 2 + 1)[:, None]
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))


def decoded(
    values: dict[str, Any], tensors: dict[str, Array], codes: Array, noise_floor: Array
) -> Array:
    """The section "From codes to sound", step by step, of codes `[F, Q]` and a noise floor `[rows, 8]`."""
    geometry = values["spectrogram_config"]
    n_fft, hop, bands, frames_stacked = (
        geometry[key] for key in ("n_fft", "hop_length", "n_mels", "stack")
    )
    books, kernels = tensors["codec.quantizer.codebooks"], tensors["codec.quantizer.kernels"]
    words = np.stack(
        [
            np.zeros((len(codes), books.shape[2])),
            *(book[c] for book, c in zip(books, codes.T[4:], strict=True)),
        ]
    )
    plain, finer = (np.pad(part.sum(0), ((2, 2), (0, 0))) for part in (words[:2], words[2:]))  # 1
    latents = sum(  # 2
        kernels[0, k] * plain[k : k + len(codes)] + kernels[1, k] * finer[k : k + len(codes)]
        for k in range(5)
    )
    fine, steps = 2 * max(1, 2 * bands // 5), geometry["envelope_steps"]
    counts = frames_stacked * np.array([bands, fine, steps])
    loudness = -5 + 0.1 * codes[:, :1]
    latents[:, :1] = np.sqrt(counts.sum()) * loudness
    shares = np.repeat(np.array([4, 2, 6]) / counts, counts)
    weights = np.sqrt(shares / shares.mean())
    features = latents @ tensors["codec.components"].T / weights + tensors["codec.mean"]  # 3
    features = at_loudness(features + loudness, loudness, counts[0])  # 4
    tones = Tones(geometry, under("codec.tone.", tensors), codes, noise_floor)
    features = tones.with_combs(features, counts)
    hops = len(codes) * frames_stacked
    parts = np.split(features, np.cumsum(counts)[:-1], axis=1)  # 5
    mel = parts[0].reshape(hops, bands)
    toneless, tonal = tones.separate(mel)
    by_hop = [part.reshape(hops, -1) for part in parts]
    heard = [np.maximum(part, mel.max(1, keepdims=True) - 5) for part in by_hop[:2]]
    inputs = np.concatenate([*heard, by_hop[2], tonal], axis=1) + 2
    filters = mel_filters(geometry["sample_rate"], n_fft, bands)
    inverse = np.linalg.pinv(filters)
    base = np.maximum(10 ** np.minimum(mel + np.log10(toneless), 4) @ inverse, 1e-5)  # 6
    hidden = stack(inputs, under("codec.decoder.", tensors))
    out = hidden @ tensors["codec.head.weight"].T + tensors["codec.head.bias"]
    magnitude, phase = np.split(out, 2, axis=1)  # 7
    turns = (np.arange(hops)[:, None] % 4 + 2) * np.arange(n_fft // 2 + 1) % 4
    spectrum = np.exp(np.minimum(7, np.log(base) + magnitude)) * np.exp(
        1j * (phase + turns * np.pi / 2)
    )
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)  # 8
    margin = (n_fft - hop) // 2
    texture = (
        hidden @ tensors["codec.texture_head.weight"].T + tensors["codec.texture_head.bias"]
    )  # 9
    share, gains, trusts = np.split(texture, [n_fft // 2 + 1, n_fft // 2 + 33], axis=1)
    noise = np.pad(noise_of(codes, frames_stacked * hop) / np.sqrt((window**2).sum()), margin)
    pieces = np.lib.stride_tricks.sliding_window_view(noise, n_fft)[::hop]
    between = toneless @ (filters / np.maximum(filters.sum(1, keepdims=True), 1e-9)).T
    spectrum = spectrum + np.exp(np.minimum(7, np.log(base) + share)) * between * np.fft.rfft(
        pieces * window
    )
    spectrum = spectrum * (filters.sum(1) > 0.25)
    spectrum = spectrum + tones.spectrum(
        hidden @ tensors["codec.tone_head.weight"].T + tensors["codec.tone_head.bias"]
    )
    audio, squares = np.zeros((2, (hops + 3) * hop))
    for number, piece in enumerate(np.fft.irfft(spectrum, n=n_fft)):
        audio[number * hop : number * hop + n_fft] += piece * window
        squares[number * hop : number * hop + n_fft] += window**2
    audio = (audio / np.maximum(squares, 1e-4))[margin : margin + hops * hop]
    held = np.stack([tones.share, tones.low])
    audio = matched(
        audio,
        parts[2],
        trusts.reshape(len(codes), -1),
        np.repeat(held, steps, axis=1),
        hop // steps,
    )  # 10
    gains = np.clip(gains, -4, 0.7)  # 11
    few = averaged(gains.reshape(-1, 4).mean(1), np.repeat(tones.low, 8))
    gains = gains + tones.share[:, None] * (few.reshape(hops, 8).repeat(4, axis=1) - gains)
    audio = audio * np.exp(spline(gains.ravel(), hop // 32))
    return np.asarray(audio / values["vqvae_config"].get("input_gain", 1))  # 12


def loudness_of(c: Array) -> Array:
    """L of step 4, `[F, 1]`."""
    return np.asarray(np.log10((10 ** (2 * c)).mean(1, keepdims=True)) / 2)


def at_loudness(features: Array, loudness: Array, mel_features: int) -> Array:
    """The correction of step 4."""
    c = features[:, :mel_features]
    x = np.clip(2 - (c.max(1, keepdims=True) - c), 0, 1)
    for _ in range(3):
        c = c + x * (loudness - loudness_of(c))
    return np.concatenate([c, features[:, mel_features:]], axis=1)


def window_transform(x: Array) -> Array:
    """W of step a."""
    x = np.abs(x)
    safe = np.where((x == 0) | (x == 1), 0.5, x)
    found = np.sin(np.pi * safe) / (np.pi * safe * (1 - safe * safe))
    return np.where(x == 0, 1.0, np.where(x == 1, 0.5, found))


def mel_of(hertz: Array) -> Array:
    return 2595 * np.log10(1 + hertz / 700)


class Tones:
    """The section "Tones", one partial after another."""

    def __init__(
        self, geometry: dict[str, int], sets: dict[str, Array], codes: Array, noise_floor: Array
    ) -> None:
        self.rate, self.n_fft, self.hop = (
            geometry[key] for key in ("sample_rate", "n_fft", "hop_length")
        )
        self.bands, self.stack, self.codes = geometry["n_mels"], geometry["stack"], codes
        self.pitches = [n + (u - 8) / 16 if n and a else None for _, n, u, a, *_ in codes.tolist()]
        first = [
            now is not None and (t == 0 or self.pitches[t - 1] is None)
            for t, now in enumerate(self.pitches)
        ]
        rises = [self.step(t) > 1 and not any(first[max(0, t - 5) : t]) for t in range(len(first))]
        self.begins = [one or other for one, other in zip(first, rises, strict=True)]
        atoms = [max(a - 1, 0) for a in codes[:, 3].tolist()]
        self.numbers, self.floors = [a // 3 for a in atoms], [a % 3 for a in atoms]
        self.partials = [
            [
                (k, float(g), float(x))
                for k, (g, x) in enumerate(zip(*one, strict=True), start=1)
                if g > 0
            ]
            for one in zip(sets["ratios"], sets["amplitudes"], strict=True)
        ]
        self.filters = mel_filters(self.rate, self.n_fft, self.bands)
        self.noise = self.by_band(noise_floor)
        self.combs: dict[Any, tuple[Array, Array, Array]] = {}
        self.hops = [self.hop_partials(t, i) for t in range(len(codes)) for i in range(self.stack)]

    def middles(self, bands: int) -> Array:
        """Middles of bands in Hz."""
        top = mel_of(np.array(self.rate / 2))
        return np.asarray(700 * (10 ** (np.arange(1, bands + 1) / (bands + 1) * top / 2595) - 1))

    def by_band(self, noise_floor: Array) -> Array:
        """Noise beside tones `[F, M]`, as in step e."""
        values = -2.7 + 0.2 * noise_floor
        seconds = (np.arange(len(self.codes)) + 0.5) * self.stack * self.hop / self.rate
        by_frame = [np.interp(seconds, np.arange(len(values)) + 0.5, column) for column in values.T]
        known, bands = (np.log(hertz) for hertz in (NOISE_HERTZ, self.middles(self.bands)))
        return np.asarray(
            10 ** np.array([np.interp(bands, known, frame) for frame in np.transpose(by_frame)])
        )

    def of(self, t: int) -> list[tuple[int, float, float]]:
        return self.partials[self.numbers[t]]

    def is_heard(self, hertz: float) -> bool:
        return 20 < hertz < 0.475 * self.rate

    def response(self, hertz: Array, filters: Array) -> Array:
        """Step a, `[K, bands]` of frequencies `[K]`."""
        n_fft, b = 2 * (len(filters) - 1), hertz * 2 * (len(filters) - 1) / self.rate
        k = np.floor(b)[:, None] + np.arange(-1, 3)
        sizes = n_fft / 4 * np.abs(window_transform(k - b[:, None]))
        return np.asarray(
            (sizes[..., None] * filters[np.clip(k, 0, n_fft // 2).astype(int)]).sum(1)
        )

    def comb(self, t: int, filters: Array) -> tuple[Array, Array, Array]:
        """r, q and s of step b."""
        bands, pitch = filters.shape[1], self.pitches[t]
        known = (bands, pitch, self.numbers[t], self.floors[t])
        if known not in self.combs:
            hertz = [g * frequency(pitch) for _, g, _ in self.of(t)] if pitch is not None else []
            r = self.response(np.array([one for one in hertz if self.is_heard(one)]), filters).sum(
                0
            )
            reach = min(13, bands - 1)
            w = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1, 2 * reach + 2) / (2 * reach + 3))
            mirrored = np.concatenate([r[1 : reach + 1][::-1], r, r[::-1][1 : reach + 1]])
            s = np.correlate(mirrored, w, "valid") / w.sum()
            low, high, edge = ((0.03, 0.3, 5000), (0.1, 1.0, 2500), (0.3, 1.0, 8000))[
                self.floors[t]
            ]
            self.combs[known] = r, np.where(self.middles(bands) < edge, low, high) * s, s
        return self.combs[known]

    def with_combs(self, features: Array, counts: Array) -> Array:
        """Step b."""
        fine_filters = mel_filters(self.rate, self.n_fft // 4, int(counts[1]) // (2 * self.stack))
        combed, both = features.copy(), int(counts[0] + counts[1])
        for t in range(len(features)):
            patterns = []
            for filters, times in ((self.filters, self.stack), (fine_filters, 2 * self.stack)):
                r, q, s = self.comb(t, filters)
                patterns.append(np.tile(np.log10((r + q + 1e-6) / (s + q + 1e-6)), times))
            combed[t, :both] += np.concatenate(patterns)
        loudness = loudness_of(features[:, : counts[0]])
        combed[:, :both] += loudness - loudness_of(combed[:, : counts[0]])
        return at_loudness(combed, loudness, counts[0])

    def glides(self, t: int) -> bool:
        """Whether pitch glides from frame t - 1 to frame t: step c."""
        step = abs(self.step(t)) if t < len(self.pitches) else math.nan
        lower = min(
            (pitch for pitch in self.pitches[max(0, t - 1) : t + 1] if pitch is not None),
            default=math.inf,
        )
        return step <= 1 or (step <= 14 and lower < 60 and any(self.begins[max(0, t - 5) : t]))

    def hop_pitch(self, t: int, i: int) -> float:
        """Step c."""
        d = (i + 0.5) / self.stack - 0.5
        own, before, after = self.pitches[t], self.glides(t), self.glides(t + 1)
        assert own is not None
        if d < 0 and before:
            return float(own + d * self.step(t))
        return float(own + d * self.step(t + 1) if after else own)

    def hop_partials(self, t: int, i: int) -> dict[int, list[float]]:
        """Hertz, phase and relative amplitude of each partial of a hop by number, from those of the hop before: step d."""
        if self.pitches[t] is None:
            return {}
        seconds, speeds = (
            self.hop / self.rate,
            [frequency(self.hop_pitch(t, hop)) for hop in range(self.stack)],
        )
        now, golden = speeds[i], (math.sqrt(5) - 1) / 2
        middle = (
            sum(speeds[: self.stack // 2])
            - speeds[0] / 2
            + self.stack % 2 * speeds[self.stack // 2] / 2
        ) * seconds
        turn = int(self.codes[t, 2]) / 16 - middle
        found = {k: [g * now, g * turn - 0.25 + golden * (k * k - 1), x] for k, g, x in self.of(t)}
        if not hasattr(self, "last"):
            self.last: tuple[int, dict[int, list[float]]] = (-1, {})
        frame, before = self.last
        is_run = i > 0 or (
            frame == t - 1 >= 0 and self.numbers[t] == self.numbers[t - 1] and self.glides(t)
        )
        if frame >= t - 1 and before:
            for k, one in found.items():
                nearest = (
                    k if is_run else min(before, key=lambda other: abs(before[other][0] - one[0]))
                )
                if is_run or abs(before[nearest][0] - one[0]) < 0.03 * one[0]:
                    one[1] = before[nearest][1] + (before[nearest][0] + one[0]) / 2 * seconds
        self.last = (t, found)
        return found

    def step(self, t: int) -> float:
        now, before = self.pitches[t], self.pitches[t - 1] if t else None
        return math.nan if now is None or before is None else now - before

    def separate(self, mel: Array) -> tuple[Array, Array]:
        """Steps e to g: v and the tonal bands, `[T, M]`; keeps the amplitudes."""
        amplitudes = 10 ** np.minimum(steadied(steadied(mel, 4, 0.5), 8, 0.3), 4)
        t = np.maximum(
            0,
            1
            - abs(np.arange(self.bands) - 5 * np.arange(-(-(self.bands - 1) // 5) + 1)[:, None])
            / 5,
        )
        shares, self.loud = np.zeros(mel.shape), []
        for hop, a in enumerate(amplitudes):
            r, _, s = self.comb(hop // self.stack, self.filters)
            share = r / (r + self.noise[hop // self.stack] * s + 1e-6)
            heard = {k: one for k, one in self.hops[hop].items() if self.is_heard(one[0])}
            x = np.array([one[2] for one in heard.values()])
            c = self.response(np.array([one[0] for one in heard.values()]), self.filters)
            norm = np.maximum(c.sum(1), 1e-6)
            x = x * (c @ (a * share / np.maximum(x @ c, 1e-6))) / norm
            y = t @ (a * (1 - share)) / (t**2).sum(1)
            for _ in range(2):
                ratio = a / np.maximum(x @ c + y @ t, 1e-6)
                x, y = x * (c @ ratio) / norm, y * (t @ ratio) / t.sum(1)
            shares[hop] = y @ t / np.maximum(x @ c + y @ t, 1e-6)
            self.loud.append(dict(zip(heard, x, strict=True)))
        v = np.clip(amplitudes * shares / np.maximum(amplitudes, 1e-5), 1e-5, 1)
        power = ((amplitudes * (1 - v)) ** 2).sum(1) / np.maximum((amplitudes**2).sum(1), 1e-10)
        self.share = np.clip((power - 0.3) / 0.6, 0, 1)
        self.low = np.repeat([self.depth(t) for t in range(len(self.codes))], self.stack)
        return v, np.log10(np.maximum(amplitudes * (1 - v), 1e-5))

    def depth(self, t: int) -> float:
        """How low a held tone is: step g."""
        near = self.pitches[t - 2 : t + 3] if t >= 2 else []
        known = [pitch for pitch in near if pitch is not None]
        if len(known) < 5 or max(known) - min(known) >= 1:
            return 0.0
        return min(1.0, max(0.0, 2 - frequency(known[2]) / 75))

    def spectrum(self, gains: Array) -> Array:
        """Step h."""
        found = np.zeros((len(gains), self.n_fft // 2 + 1), complex)
        middles = mel_of(self.middles(self.bands))
        gains, low = np.clip(gains, -4, 4), self.low[:, None]
        gains = (1 - low) * steadied(gains, 4, 0.3) + low * steadied(gains, 8, 2.0)
        for hop, heard in enumerate(self.loud):
            if not heard:
                continue
            hertz, phase = np.array([self.hops[hop][k][:2] for k in heard]).T
            gain = np.interp(mel_of(hertz), middles, gains[hop])
            b = hertz * self.n_fft / self.rate
            bins = np.floor(b).astype(int)[:, None] + np.arange(-3, 5)
            there = (bins >= 0) & (bins <= self.n_fft // 2)
            sizes = (
                self.n_fft
                / 4
                * window_transform(bins - b[:, None])
                * (1.0 - 2.0 * (bins % 2))
                * there
            )
            levels = np.array(list(heard.values())) * np.exp(gain) * np.exp(2j * np.pi * phase)
            np.add.at(found[hop], np.clip(bins, 0, self.n_fft // 2), sizes * levels[:, None])
        return found


def frequency(pitch: float) -> float:
    return 440 * 2 ** ((pitch - 69) / 12)


def steadied(values: Array, n: int, d: float) -> Array:
    """Values `[T, columns]`, steadied as in step e."""
    padded = np.pad(values, ((n, n), (0, 0)), constant_values=np.nan)
    moved, total = np.zeros((2, *values.shape))
    for j in range(-n, n + 1):
        z = padded[n + j : n + j + len(values)] - values
        weights = (1 - (j / (n + 1)) ** 2) * np.exp(np.maximum(-((z / d) ** 2) / 2, -30))
        moved, total = moved + np.nan_to_num(weights * z), total + np.nan_to_num(weights)
    return np.asarray(values + moved / total)


def averaged(gains: Array, low: Array) -> Array:
    """The average of step 10, of gains and lows of as many values."""
    weights = 0.5 - 0.5 * np.cos(np.pi * np.arange(65) / 32)
    slow = np.convolve(np.pad(gains, 32), weights, "valid") / weights.sum()
    return np.asarray((1 - low) * steadied(gains[:, None], 16, 0.4)[:, 0] + low * slow)


def noise_of(codes: Array, step: int) -> Array:
    """Step 9, without the last division."""

    def wrapped(number: int) -> int:
        return (number + 2**63) % 2**64 - 2**63

    words = np.arange(1, 2 * 131_072 + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    table = (((words ^ (words >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
    u, v = table.reshape(-1, 2).T
    numbers = np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)
    starts = [
        wrapped(
            (sum(40503 ** (q + 1) * int(c) for q, c in enumerate(frame)) + 2654435761 * t)
            * 6364136223846793005
        )
        >> 40
        for t, frame in enumerate(codes)
    ]
    return np.concatenate([numbers[(start + np.arange(step)) % 131_072] for start in starts])


def matched(audio: Array, envelope: Array, trusts: Array, held: Array, step: int) -> Array:
    """Step 10. `envelope` and `trusts` are `[F, values of a frame]`, `held`, tonal and low, `[2, values]`."""
    tonal, low = held
    reach = envelope.size // len(envelope)
    weights = 0.5 - 0.5 * np.cos(np.pi * np.arange(2 * reach + 1) / reach)
    for _ in range(3):
        padded = np.pad(audio, step // 2)
        p = np.lib.stride_tricks.sliding_window_view(padded**2, 2 * step)[::step].mean(1) + 1e-10
        p = p.reshape(envelope.shape)
        own = np.log(np.sqrt(p) + 0.3 * np.sqrt(p.mean(1, keepdims=True)))
        difference = (envelope * np.log(10) - own).ravel()
        far = np.sign(difference) * np.maximum(abs(difference) - (0.15 + 0.3 * tonal), 0)
        near = np.pad(tonal * (difference - far), reach)
        mean = np.convolve(near, weights, "valid") / weights.sum()
        difference = (far + mean).reshape(envelope.shape)
        wanted = (np.clip(difference, -1.5, 1.5) / (1 + np.exp(-trusts))).ravel()
        wanted = wanted + tonal * (averaged(wanted, low) - wanted)
        audio = audio * np.exp(spline(wanted, step))
    return audio


def spline(coefficients: Array, step: int) -> Array:
    """Uniform cubic B-spline: truncated powers, `[steps * step]`."""
    x = (
        np.arange(5 * step) + 0.5
    ) / step - 2.5  # from two steps before a coefficient's own to two after it
    shape = sum((-1) ** k * math.comb(4, k) * np.maximum(x + 2 - k, 0) ** 3 for k in range(5)) / 6
    curve = np.zeros((coefficients.size + 4, step))
    for k in range(5):
        curve[k : k + coefficients.size] += coefficients[:, None] * shape[k * step : (k + 1) * step]
    return curve[2:-2].ravel()


def main() -> None:
    """Write a WAV file of 16 bits for each recording in a file of codes."""
    model, file, folder = map(Path, sys.argv[1:])
    (values, weights), (header, recordings) = read(model), read(file)
    folder.mkdir(parents=True, exist_ok=True)
    floors = np.split(recordings["noise"], recordings["noise_lengths"].cumsum()[:-1])
    for recording, noise_floor in zip(header["recordings"], floors, strict=True):
        codes = recordings[recording["key"]].astype(np.int64)
        sound = decoded(values, weights, codes, noise_floor)[: recording["samples"]]
        path = folder / f"{Path(recording['name']).stem}.wav"
        with wave.open(str(path), "wb") as out:
            out.setparams(
                (1, 2, values["spectrogram_config"]["sample_rate"], len(sound), "NONE", "")
            )
            out.writeframes(np.clip(np.rint(sound * 32768), -32768, 32767).astype("<i2").tobytes())
        print(path)


if __name__ == "__main__":
    main()
