"""Training task of a `MemoryPrior`: gate polarisation, recurring motifs, and retrieval probes."""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.codes.sequences import IGNORED, Batch, Window
from distill.errors import DistillError
from distill.params import MemoryConfig, PriorConfig
from distill.prior.data import BatchShare, PriorData, WindowSampler, shuffled
from distill.prior.memory.block import MemoryShape
from distill.prior.memory.motifs import FrameSource, motif_sequence, with_bos
from distill.prior.memory.network import MemoryPrior, ablated
from distill.prior.memory.probe import HAYSTACKS, QUESTIONS, probe_memory
from distill.prior.task import DepthTask, target_nats, targets_in
from distill.seeds import Stream, derive_seed
from distill.training.events import Epoch, PriorEvent, PriorMemoryMetrics, Step, WatchMetrics

MOTIFS = 24  # motifs per training sequence

# Steps at which the memory is probed, in addition to every `PROBE_STEPS` and the end; short trainings get probes too.
FIRST_PROBES = frozenset({1, 2, 3, 4, 200})
PROBE_STEPS = 1000  # interval between later probes
QUICK_PROBE = 1, 4  # haystacks, and needles in each, of a probe during training
MIN_STD = 0.01  # minimum standard deviation of gates that have not collapsed


class SpanSampler(WindowSampler):
    """Samples windows, and for a quarter of the long recordings spans of up to `span_frames`.

    Spans train the memory; windows keep many recordings in a batch. Batches have similar numbers of frames and few
    shapes, because torch keeps kernels for each shape in memory.
    """

    shape: MemoryShape

    def _count_batches(self) -> int:
        size, context = self.batch_size, self.shape.context_frames
        inputs = self.sequences.lengths[self.first] - 1
        self.long = np.flatnonzero(inputs > context)  # indices of recordings
        self.num_spanned = math.ceil(0.25 * len(self.long))
        share = self.num_spanned / max(1, len(self.long))
        self.span_counts = -(-inputs[self.long] // self.shape.span_frames)
        windows = np.sort(self.counts[self.long])
        short = int(self.counts.sum() - windows.sum())
        # At most one batch per span or window, whichever recordings are chosen.
        self.span_batches = min(
            math.ceil(share * float(inputs[self.long].sum()) / (size * context)),
            int(np.sort(self.span_counts)[: self.num_spanned].sum()),
        )
        self.window_batches = min(
            math.ceil((short + (1 - share) * int(windows.sum())) / size),
            short + int(windows[: len(self.long) - self.num_spanned].sum()),
        )
        return self.span_batches + self.window_batches

    def _padded(self, windows: Sequence[Window]) -> tuple[int, int]:
        longest = max(map(len, windows))
        most = (
            self.shape.context_frames
            if longest <= self.shape.context_frames
            else self.shape.span_frames
        )
        return round_up_shape(len(windows)), min(round_up_shape(longest), most)

    def _windows(self, chosen: NDArray[np.int64], generator: Generator) -> list[list[Window]]:
        shape, numbers = self.shape, generator.permutation(len(self.long))[: self.num_spanned]
        spanned = self.long[numbers]
        spans = self._random_windows(
            chosen[spanned], self.span_counts[numbers], shape.span_frames, generator
        )
        others = np.setdiff1d(np.arange(len(chosen)), spanned)
        windows = self._random_windows(
            chosen[others], self.counts[others], shape.context_frames, generator
        )
        mixed = even_batches(shuffled(windows, generator), self.window_batches)
        return shuffled(even_batches(sorted(spans, key=len), self.span_batches) + mixed, generator)


def round_up_shape(number: int) -> int:
    """Round up to a grid of eight sizes from each power of two to the next."""
    step = 1 << max(0, number.bit_length() - 4)
    return -(-number // step) * step


def even_batches(windows: Sequence[Window], count: int) -> list[list[Window]]:
    """Split windows, in order, into `count` batches with similar numbers of frames.

    No batch is empty if there are at least `count` windows.
    """
    total = np.cumsum([0, *(len(window) for window in windows)])
    edges = [0]
    for number in range(1, count):
        target = int(np.searchsorted(total, total[-1] * number / count))
        edges.append(min(max(target, edges[-1] + 1), len(windows) - (count - number)))
    edges.append(len(windows))
    return [list(windows[first:last]) for first, last in itertools.pairwise(edges)] if count else []


class MemoryTask(DepthTask):
    """`DepthTask` with polarisation loss, motif sequences, gate statistics, memory probes and ablated validation."""

    model: MemoryPrior
    sampler_kind = SpanSampler

    def __init__(
        self, model: MemoryPrior, data: PriorData, config: PriorConfig, seed: int, fabric: Fabric
    ) -> None:
        assert config.memory is not None
        super().__init__(model, data, config, seed, fabric)
        self.seed, self.memory = seed, config.memory
        self.total_steps = config.epochs * self.steps_per_epoch
        self.source = FrameSource(
            [recording.codes for recording in data.train], data.codes.codebook_sizes
        )
        self.probe_source = FrameSource(
            [recording.codes for recording in data.held_out], data.codes.codebook_sizes
        )

    def losses(self, model: nn.Module, batch: BatchShare) -> dict[str, Tensor]:
        losses = super().losses(model, batch)
        polarisation = polarisation_loss(self.model.gates)
        weight = polarisation_weight(batch.step, self.total_steps, self.memory)
        objective = losses["objective"] + weight * polarisation
        motif_batch = self._motif_batch(batch.step)
        if motif_batch is not None:
            nats = target_nats(model(motif_batch), motif_batch.targets).plain
            objective = objective + nats.sum() / targets_in(motif_batch)
        return {**losses, "objective": objective, "polarisation_loss": polarisation.detach()}

    def probe(self) -> float:
        perplexity = super().probe()
        self.probed_gates = self.model.gates
        return perplexity

    def inspect(self, step: int, earlier: Sequence[Mapping[str, float]]) -> dict[str, float]:
        line = gate_metrics(self.probed_gates)
        if self.memory.fast_fail:
            stop_if_gates_collapse(step, self.total_steps, line, earlier)
        line["polarisation_weight"] = polarisation_weight(step, self.total_steps, self.memory)
        if is_memory_probed(step):
            line |= {
                f"probe/{name}": value for name, value in self.probe_memory(*QUICK_PROBE).items()
            }
        return line

    def probe_memory(
        self, haystacks: int = HAYSTACKS, questions: int = QUESTIONS
    ) -> dict[str, float]:
        """Run `probe_memory` on the network, in eval mode, with the same needles each time."""
        seed = derive_seed(self.seed, Stream.MEMORY_PROBES)
        return probe_memory(self.model, self.probe_source, self.fabric, seed, haystacks, questions)

    def validate(self) -> dict[str, float]:
        measured = super().validate()
        with ablated(self.model):
            ablated_scores = super().validate()
        names = ("val_loss", "val_perplexity", "val_bits_per_second")
        return {**measured, **{f"ablated/{name}": ablated_scores[name] for name in names}}

    def events(self, report: Step | Epoch | WatchMetrics) -> Iterator[PriorEvent]:
        yield from super().events(report)
        match report:
            case WatchMetrics(inspected=inspected) if inspected:
                groups: defaultdict[str, dict[str, float]] = defaultdict(dict)
                for name, value in inspected.items():
                    group, _, statistic = name.removeprefix("gates/").rpartition("/")
                    groups[group][statistic] = value
                groups.pop("", None)
                yield PriorMemoryMetrics(
                    report.step, probe=groups.pop("probe", {}), gates=dict(groups)
                )

    def _motif_batch(self, step: int) -> Batch | None:
        """At random steps, a batch with a sequence whose motifs recur beyond the receptive field; otherwise None.

        Only the values of recurring motifs are targets.
        """
        rng = np.random.default_rng(derive_seed(self.seed, Stream.MOTIF_SEQUENCES, step))
        if rng.random() >= self.memory.motif_share:
            return None
        frames, is_value = motif_sequence(rng, self.source, MOTIFS, self.model.stack.reach)
        codes = with_bos(frames, self.model.codebook_size)
        targets = codes[:, 1:].masked_fill(~torch.from_numpy(is_value)[:, None], IGNORED)
        return Batch(codes[:, :-1], targets, torch.zeros(1, dtype=torch.int64)).map(
            self.fabric.to_device
        )


def is_memory_probed(step: int) -> bool:
    """Whether the memory is probed after `step` steps."""
    return step in FIRST_PROBES or step % PROBE_STEPS == 0


def polarisation_loss(gates: Tensor) -> Tensor:
    """Mean of `1 - |2 g - 1|` of gates `[layers, B, T, D]`: 0 for gates at 0 or 1, 1 for gates at 0.5."""
    undecided = 1 - (2 * gates.float().flatten(1) - 1).abs()
    return (undecided.sum(dim=1) / undecided.shape[1]).mean()


def polarisation_weight(step: int, total_steps: int, memory: MemoryConfig) -> float:
    """Weight of the polarisation loss: constant through the warm-up, then decaying exponentially to a hundredth."""
    warmup = memory.polarisation_warmup
    progress = max(0.0, step / max(1, total_steps) - warmup) / max(1e-9, 1 - warmup)
    return float(memory.polarisation * 0.01 ** min(1.0, progress))


def gate_metrics(gates: Tensor) -> dict[str, float]:
    """Statistics of gates `[layers, B, T, D]` under their metric names.

    `closed` and `open` are the proportions of gates below 0.1 and above 0.9.
    """
    gates = gates.detach().float().flatten(1)
    statistics = {
        "mean": gates.mean(dim=1),
        "std": gates.std(dim=1, correction=0),
        "min": gates.amin(dim=1),
        "max": gates.amax(dim=1),
        "closed": (gates < 0.1).float().mean(dim=1),
        "open": (gates > 0.9).float().mean(dim=1),
    }
    return {
        f"gates/layer_{layer}/{name}": float(values[layer])
        for layer in range(len(gates))
        for name, values in statistics.items()
    }


def stop_if_gates_collapse(
    step: int, total_steps: int, line: Mapping[str, float], earlier: Sequence[Mapping[str, float]]
) -> None:
    """Fast-fail: raise DistillError if the gates have collapsed. The layer with the largest value counts.

    `line` has the `gate_metrics` after `step` steps, `earlier` the metrics of earlier checks. Gates have collapsed if

    - from step 100 on, their standard deviation is below `MIN_STD`; or
    - from step 500 on, their variance is below 1.5 times its first value since step 100, and under 20 % are polarised.
      (The variance of gates that polarised early cannot grow.)

    Trainings under 1000 steps are checked proportionally earlier.
    """

    def largest(line: Mapping[str, float], statistic: str) -> float:
        return max(
            value
            for name, value in line.items()
            if name.startswith("gates/") and name.endswith(statistic)
        )

    scale, std = min(1.0, total_steps / 1000), largest(line, "/std")
    problem, first_check = "", 100 * scale
    if step >= first_check and std < MIN_STD:
        problem = f"that differ, with a standard deviation of at least {MIN_STD}, found {std:.4f}"
    before = [
        metrics
        for metrics in earlier
        if metrics["step"] >= first_check and "gates/layer_0/std" in metrics
    ]
    if not problem and step >= 500 * scale and before:
        first = largest(before[0], "/std")
        polarised = max(
            line[key] + line[key.replace("/closed", "/open")]
            for key in line
            if key.endswith("/closed")
        )
        if std**2 < 1.5 * first**2 and polarised < 0.2:
            variances = f"a variance of {std**2:.4f} after {first**2:.4f}"
            problem = (
                f"that open and close, found {variances} and {polarised:.0%} of them polarised"
            )
    if problem:
        raise DistillError(
            f"training stopped at step {step}: expected gates of the memory {problem}; the memory is not used: set "
            "prior.architecture: frame, or prior.memory.fast_fail: false to continue training"
        )
