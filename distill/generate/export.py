"""ONNX export of a model's decoder, and of one step of its prior, for programs without PyTorch.

Graphs are traced from the networks and functions that Distill itself runs. docs/export.md describes inputs and outputs;
`examples/play_onnx.py` plays them.

Shapes: F frames, T hops, K partials, Q levels, S frames so far, H heads, D width; the batch is 1.
"""

import json
import logging
import pkgutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.functional import one_hot, scaled_dot_product_attention

from distill.audio.noise_floor import STEPS
from distill.audio.side_info import UNKNOWN, SideInfo
from distill.codec.layout import TUNINGS
from distill.codec.model import VQVAE
from distill.codec.search import REACH
from distill.codec.streaming import decoded_context, noise_of
from distill.codec.tones.layer import PARTIALS
from distill.codes.sequences import bos_token, eos_token
from distill.errors import ParamsError
from distill.generate.sampling.processors import (
    LogitsProcessor,
    Sampling,
    SamplingStep,
    chain,
    keep,
)
from distill.generate.sampling.sampler import draw, undo_label_smoothing
from distill.prior.architectures import ARCHITECTURES
from distill.prior.base import Prior
from distill.prior.frame import FramePrior
from distill.prior.transformer import KeyValueCache
from distill.progress import Progress, silent
from distill.storage.files import MARK, atomic_path, check_replaceable

FRAMES = 40  # frames of the traced example; graphs take any number


class Graph(nn.Module):
    """Module to export: `forward` on tensors, example inputs by name, and `facts` for players in the file's metadata.

    `sizes` names the input axes of variable length.
    """

    outputs: tuple[str, ...]
    facts: dict[str, Any]
    example: dict[str, Tensor]
    sizes: dict[str, dict[int, Any]]


class DecoderGraph(Graph):
    """Samples `[1, F * samples_per_frame]` of codes `[1, F, Q]` at positions `[F]`, with phases of tones `[1, T, K]`.

    `noise` `[1, F, noise bands]` is log10 of noise to tone, for the noise between partials.
    """

    outputs = ("samples",)

    def __init__(self, codec: VQVAE, recordings: Sequence[SideInfo]) -> None:
        super().__init__()
        rows = np.concatenate([about.noise for about in recordings or [UNKNOWN]])
        self.codec, config, levels = codec, codec.spectrogram, codec.architecture.codebook_sizes
        self.facts = {
            "sample_rate": config.sample_rate,
            "samples_per_frame": config.samples_per_frame,
            "hop_length": config.hop_length,
            "context_frames": decoded_context(codec) + REACH,
            "codebook_sizes": levels,
            "tunings": TUNINGS,
            "partials": PARTIALS,
            "noise": STEPS[np.median(rows, axis=0).astype(int)].round(1).tolist(),
            "ratios": [
                [ratio for ratio in ratios if ratio] for ratios in codec.tone.ratios.tolist()
            ],
        }
        codes = torch.ones(1, FRAMES, len(levels), dtype=torch.int64)
        phases = codec.tone.phases(codec.layout.split(codes)[1])
        self.example = {
            "codes": codes,
            "positions": torch.arange(FRAMES),
            "phases": phases,
            "noise": noise_of(codec, UNKNOWN, FRAMES),
        }
        frames = Dim("frames", min=5, max=1 << 20)  # shorter inputs work too: the graph is the same
        self.sizes = {
            "codes": {1: frames},
            "positions": {0: frames},
            "phases": {1: config.stack * frames},
            "noise": {1: frames},
        }

    def forward(self, codes: Tensor, positions: Tensor, phases: Tensor, noise: Tensor) -> Tensor:
        """See the class."""
        features = self.codec.unproject(self.codec.dequantise(codes))
        return self.codec.synthesise(features, codes, noise, positions, phases=phases)


class GrowingCache(KeyValueCache):
    """Keys and values `[layers, 1, 2, H, S, D / H]` from the graph's input, with new positions added for its output."""

    def __init__(self, layers: Tensor) -> None:
        self.layers, self.length = list(layers), layers.shape[4]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `KeyValueCache`."""
        self.layers[layer] = torch.cat(
            [self.layers[layer], torch.stack([key, value], dim=1)], dim=3
        )
        key, value = self.layers[layer].unbind(1)
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril(self.length)
        return scaled_dot_product_attention(query, key, value, attn_mask=mask)


class FrameGraph(Graph):
    """One step of a `FramePrior`: read new frames, and sample the next frame with the default logits processors."""

    outputs = ("codes", "cache_after")

    def __init__(self, prior: FramePrior) -> None:
        super().__init__()
        self.prior, shape, levels = prior, prior.shape, prior.num_quantizers
        self.smoothing: list[float] = prior.smoothing.tolist()
        head = shape.hidden_size // shape.num_heads
        self.facts = {
            "codebook_sizes": shape.codebook_sizes,
            "context_frames": prior.context_frames,
            "most_frames": prior.most_frames,
            "bos": bos_token(prior.codebook_size),
            "eos": eos_token(prior.codebook_size),
            "labels": shape.labels,
            "cache": [shape.num_layers, 1, 2, shape.num_heads, 0, head],
        }
        self.example = {
            "frames": torch.ones(1, 3, levels, dtype=torch.int64),
            "past": torch.ones(1, FRAMES, levels, dtype=torch.int64),
            "cache": torch.zeros(shape.num_layers, 1, 2, shape.num_heads, FRAMES, head),
            "position": torch.zeros(1, dtype=torch.int64),
            "label": torch.zeros(1, dtype=torch.int64),
            "numbers": torch.full((1, levels), 0.5, dtype=torch.float64),
            "temperature": torch.ones(1),
            "may_end": torch.ones(1, dtype=torch.bool),
            "kept": torch.full((1, levels), -1),
        }
        new, past = Dim("new", min=1, max=1 << 20), Dim("past", min=0, max=1 << 20)
        self.sizes = {name: {} for name in self.example} | {
            "frames": {1: new},
            "past": {1: past},
            "cache": {4: past},
        }

    def forward(
        self,
        frames: Tensor,
        past: Tensor,
        cache: Tensor,
        position: Tensor,
        label: Tensor,
        numbers: Tensor,
        temperature: Tensor,
        may_end: Tensor,
        kept: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Codes `[1, Q]` of the frame after new `frames` `[1, F, Q]`, and the extended cache.

        The first code is EOS if the sound has ended. `past` `[1, S, Q]` are the earlier frames of the window, and
        `cache` `[layers, 1, 2, H, S, D / H]` their keys and values. `position` `[1]` is the start of the window in the
        sound; `label` `[1]` counts from 1, with 0 for no label. `numbers` `[1, Q]` are uniform in [0, 1). `kept`
        `[1, Q]` are fixed codes, -1 where to sample.
        """
        prior = self.prior
        state = prior.start(label)
        state.positions, state.count, state.frames, state.cache = (
            position,
            past.shape[1],
            past,
            GrowingCache(cache),
        )
        prior.advance(frames, state, newest=1)
        processors = chain(
            Sampling(), prior.shape.layout, [_temper(temperature), keep(kept[:, None])]
        )
        codes, end = frames[:, 0, :0], torch.tensor([eos_token(prior.codebook_size)])
        for level, size in enumerate(prior.shape.codebook_sizes):
            logits = prior.next_logits(codes, state).float()
            is_end = one_hot(end, logits.shape[1]).bool()
            possible = (
                logits[:, :size] if level else logits.masked_fill(is_end & ~may_end, -torch.inf)
            )
            shares = undo_label_smoothing(possible, self.smoothing[level], size)
            step = SamplingStep(0, level, torch.zeros(1, dtype=torch.int64), codes, codes)
            for processor in processors:
                shares = processor(shares, step)
            codes = torch.cat([codes, draw(shares, numbers[:, level])[:, None]], dim=1)
        return codes, torch.stack(state.cache.layers)


def _temper(temperature: Tensor) -> LogitsProcessor:
    """Temperature `[1]` as in `truncation`, but as an input of the graph."""
    return lambda shares, _: shares.pow(1 / temperature)


def export(
    codec: VQVAE,
    prior: Prior,
    folder: Path,
    replace: bool = False,
    progress: Progress = silent,
    recordings: Sequence[SideInfo] = (),
) -> list[Path]:
    """Write `decoder.onnx`, and `prior.onnx` if the architecture has a graph, into a folder; return their paths.

    The median noise floor of the training `recordings` becomes a fact of the decoder. Raises ParamsError if a file
    exists (with `replace`, only if Distill did not make it), or if the packages of the extra `export` are missing.
    """
    _check_packages()
    graphs: dict[Path, Graph] = {folder / "decoder.onnx": DecoderGraph(codec, recordings)}
    if name := ARCHITECTURES[prior.shape.architecture].graph:
        graphs[folder / "prior.onnx"] = pkgutil.resolve_name(name)(prior)
    check_replaceable("-o", graphs, replace)
    for done, (path, graph) in enumerate(graphs.items()):
        progress(done, len(graphs), path.name)
        with torch.inference_mode(False), torch.no_grad():
            _write(graph.eval(), path)
    progress(len(graphs), len(graphs), "done")
    return list(graphs)


def _check_packages() -> None:
    try:
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(("onnx", "ml_dtypes")):
            raise
        raise ParamsError(
            f"export: expected the packages onnx and onnxscript, found no {error.name}; install them with "
            "`pip install 'distill-audio[export]'` or `make setup`"
        ) from error


def _write(graph: Graph, path: Path) -> None:
    """Trace a graph and write it to a file, with its facts in the file's metadata."""
    from onnx_ir.passes import common as passes
    from onnxscript import optimizer

    windows = torch.ops.aten.hann_window
    logging.getLogger("torch.onnx._internal.exporter").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings concern the exporter's internals
        traced = torch.export.export(
            graph, (), graph.example, dynamic_shapes=graph.sizes, strict=False
        )
        exported = torch.onnx.export(
            traced,
            dynamo=True,
            verbose=False,
            optimize=False,
            custom_translation_table=dict.fromkeys(
                [windows.default, windows.periodic], _hann_window
            ),
            output_names=graph.outputs,
        )
    model = cast(Any, exported).model
    # The exporter's own optimisation takes minutes: a rule that it tries compares all pairs of slices.
    optimizer.inline(model)
    optimizer.fold_constants(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.DeduplicateInitializersPass()(model)
    passes.CommonSubexpressionEliminationPass()(model)
    optimizer.remove_unused_nodes(model)
    for node in model.graph:
        node.metadata_props.clear()  # holds source lines with folder names
    model.doc_string = MARK
    model.metadata_props["distill"] = json.dumps(graph.facts)
    with atomic_path(path) as temporary:
        cast(Any, exported).save(temporary)


def _hann_window(length: int, periodic: bool = True, **_: Any) -> Any:
    """Translate `torch.hann_window` to ONNX."""
    import onnxscript

    opset: Any = onnxscript.opset20
    return opset.HannWindow(opset.Constant(value_int=length), periodic=int(periodic))
