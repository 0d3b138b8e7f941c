"""A second reader of `.distill`, written from docs/file-format.md with numpy alone: it finds and decodes the same."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from unit.tiny import whole_codec

from distill.codec.model import VQVAE
from distill.codec.streaming import decode
from distill.model_file.format import BundleMetadata, save_bundle

Array = NDArray[Any]


@pytest.fixture(scope="module")
def codec() -> VQVAE:
    """Every weight drawn, so that nothing passes because it is zero."""
    torch.manual_seed(0)
    model = whole_codec()
    model.load_state_dict({name: torch.randn_like(value) * 0.3 for name, value in model.state_dict().items()})
    return model.eval()


@pytest.fixture(scope="module")
def path(codec: VQVAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("format") / "tiny.distill"
    metadata = BundleMetadata(vqvae_config=codec.architecture, spectrogram_config=codec.spectrogram)
    save_bundle(file, codec, None, metadata)
    return file


def read(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """The section "The container"."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    values = json.loads(header.pop("__metadata__")["distill"])
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(data[begin:end], {"F32": "<f4"}[entry["dtype"]]).reshape(entry["shape"])
    return values, tensors


def under(prefix: str, tensors: dict[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def sha256(tensors: dict[str, Array]) -> str:
    """The section "Hashes"."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}\0torch.float32\0{list(value.shape)}\0".encode() + value.tobytes())
    return digest.hexdigest()


def gelu(x: Array) -> Array:
    return x * 0.5 * (1 + torch.erf(torch.from_numpy(x / 2**0.5)).numpy())


def norm(x: Array, part: dict[str, Array], name: str) -> Array:
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    return x * part[f"{name}.weight"] + part[f"{name}.bias"]


def convolved(x: Array, weight: Array, bias: Array) -> Array:
    """`[T, inputs]` with weights `[outputs, inputs, 7]`, or `[width, 1, 7]` for each feature by itself."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((3, 3), (0, 0))), 7, axis=0)  # [T, inputs, 7]
    each = len(weight) == x.shape[1] and weight.shape[1] == 1
    return np.einsum("tik,ik->ti" if each else "tik,oik->to", windows, weight[:, 0] if each else weight) + bias


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


def decoded(values: dict[str, Any], tensors: dict[str, Array], codes: Array) -> Array:
    """The section "From codes to sound", step by step."""
    geometry = values["spectrogram_config"]
    n_fft, hop, bands, frames_stacked = (geometry[key] for key in ("n_fft", "hop_length", "n_mels", "stack"))
    books, kernels = tensors["codec.quantizer.codebooks"], tensors["codec.quantizer.kernels"]
    words = np.stack(
        [np.zeros((len(codes), books.shape[2])), *(book[c] for book, c in zip(books, codes.T[1:], strict=True))]
    )
    plain, finer = (np.pad(part.sum(0), ((2, 2), (0, 0))) for part in (words[:2], words[2:]))  # 1
    latents = sum(  # 2
        kernels[0, k] * plain[k : k + len(codes)] + kernels[1, k] * finer[k : k + len(codes)] for k in range(5)
    )
    fine, steps = 2 * max(1, 2 * bands // 5), geometry["envelope_steps"]
    counts = frames_stacked * np.array([bands, fine, steps])
    loudness = -5 + 0.1 * codes[:, :1]
    latents[:, :1] = np.sqrt(counts.sum()) * loudness
    shares = np.repeat(np.array([4, 2, 6]) / counts, counts)
    weights = np.sqrt(shares / shares.mean())
    features = latents @ tensors["codec.components"].T / weights + tensors["codec.mean"]  # 3
    features = at_loudness(features, loudness, counts[0])  # 4
    hops = len(codes) * frames_stacked
    parts = np.split(features, np.cumsum(counts)[:-1], axis=1)  # 5
    inputs = np.concatenate([part.reshape(hops, -1) for part in parts], axis=1) + 2
    mel = parts[0].reshape(hops, bands)
    inverse = np.linalg.pinv(mel_filters(geometry["sample_rate"], n_fft, bands))
    base = np.maximum(10 ** np.minimum(mel, 4) @ inverse, 1e-5)  # 6
    hidden = stack(inputs, under("codec.decoder.", tensors))
    out = hidden @ tensors["codec.head.weight"].T + tensors["codec.head.bias"]
    magnitude, phase = np.split(out, 2, axis=1)  # 7
    turns = (np.arange(hops)[:, None] % 4 + 2) * np.arange(n_fft // 2 + 1) % 4
    spectrum = np.exp(np.minimum(7, np.log(base) + magnitude)) * np.exp(1j * (phase + turns * np.pi / 2))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)  # 8
    margin = (n_fft - hop) // 2
    texture = hidden @ tensors["codec.texture_head.weight"].T + tensors["codec.texture_head.bias"]  # 9
    share, gains, trusts = np.split(texture, [n_fft // 2 + 1, n_fft // 2 + 33], axis=1)
    noise = np.pad(noise_of(codes, frames_stacked * hop) / np.sqrt((window**2).sum()), margin)
    pieces = np.lib.stride_tricks.sliding_window_view(noise, n_fft)[::hop]
    spectrum = spectrum + np.exp(np.minimum(7, np.log(base) + share)) * np.fft.rfft(pieces * window)
    audio, squares = np.zeros((2, (hops + 3) * hop))
    for number, piece in enumerate(np.fft.irfft(spectrum, n=n_fft)):
        audio[number * hop : number * hop + n_fft] += piece * window
        squares[number * hop : number * hop + n_fft] += window**2
    audio = (audio / np.maximum(squares, 1e-4))[margin : margin + hops * hop]
    audio = matched(audio, parts[2], trusts.reshape(len(codes), -1), hop // steps)  # 10
    return audio * np.exp(spline(np.clip(gains, -4, 4).ravel(), hop // 32))  # 11


def at_loudness(shape: Array, loudness: Array, mel_features: int) -> Array:
    """Step 4."""
    features = shape + loudness
    c = features[:, :mel_features]
    x = np.clip(2 - (c.max(1, keepdims=True) - c), 0, 1)
    for _ in range(3):
        c = c + x * (loudness - np.log10((10 ** (2 * c)).mean(1, keepdims=True)) / 2)
    return np.concatenate([c, features[:, mel_features:]], axis=1)


def noise_of(codes: Array, step: int) -> Array:
    """Step 9, without the last division."""

    def wrapped(number: int) -> int:
        return (number + 2**63) % 2**64 - 2**63

    table, state = [], 0
    for _ in range(2 * 131_072):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        word = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
        table.append((((word ^ (word >> 31)) >> 11) + 0.5) / 2**53)
    u, v = np.array(table).reshape(-1, 2).T
    numbers = np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)
    starts = [
        wrapped((sum(40503 ** (q + 1) * int(c) for q, c in enumerate(frame)) + 2654435761 * t) * 6364136223846793005)
        >> 40
        for t, frame in enumerate(codes)
    ]
    return np.concatenate([numbers[(start + np.arange(step)) % 131_072] for start in starts])


def matched(audio: Array, envelope: Array, trusts: Array, step: int) -> Array:
    """Step 10. `envelope` and `trusts` are `[F, values of a frame]`."""
    for _ in range(3):
        padded = np.pad(audio, step // 2)
        p = np.array([(padded[i * step : (i + 2) * step] ** 2).mean() for i in range(envelope.size)]) + 1e-10
        p = p.reshape(envelope.shape)
        own = np.log(np.sqrt(p) + 0.3 * np.sqrt(p.mean(1, keepdims=True)))
        wanted = np.clip(envelope * np.log(10) - own, -1.5, 1.5) / (1 + np.exp(-trusts))
        audio = audio * np.exp(spline(wanted.ravel(), step))
    return audio


def spline(coefficients: Array, step: int) -> Array:
    """Uniform cubic B-spline: truncated powers, `[steps * step]`."""
    curve = np.zeros(coefficients.size * step)
    for place, coefficient in enumerate(coefficients):
        first = max(0, (place - 2) * step)
        x = (np.arange(first, min(len(curve), (place + 3) * step)) + 0.5) / step - (place + 0.5)
        shape = sum((-1) ** k * math.comb(4, k) * np.maximum(x + 2 - k, 0) ** 3 for k in range(5)) / 6
        curve[first : first + len(x)] += coefficient * shape
    return curve


def test_the_container_and_the_hashes_are_as_the_page_says(path: Path) -> None:
    values, tensors = read(path)
    assert (values["format"], values["version"]) == ("distill_model", [2, 0])
    assert values["payload_sha256"] == sha256(tensors)
    assert values["codec_sha256"] == sha256(under("codec.", tensors))


def test_codes_sound_as_the_page_says(codec: VQVAE, path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, codec.architecture.codebook_sizes, (11, 3))
    ours = decode(codec, torch.from_numpy(codes)[None])[0].numpy()
    theirs = decoded(*read(path), codes)
    assert theirs.shape == ours.shape
    assert abs(theirs - ours).max() < 1e-3 * abs(ours).max()
