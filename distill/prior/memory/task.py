"""Training of a `MemoryPrior`: polarisation of gates, motif sequences, probes."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from distill.codes.sequences import IGNORED, Batch, bos_token
from distill.params import PriorConfig
from distill.prior.data import PriorData, SpanSampler
from distill.prior.memory.gates import gate_metrics, polarisation_weight, stop_if_gates_collapse
from distill.prior.memory.haystacks import VALUE_FRAMES, FrameSource, motif_sequence
from distill.prior.memory.network import MemoryPrior, ablated
from distill.prior.memory.probes import probe_memory
from distill.prior.task import BatchShare, PriorTask, on_device, targets_in, window_nats
from distill.seeds import Stream, derive_seed
from distill.training.events import Epoch, PriorEvent, PriorMemoryMetrics, Step, WatchMetrics

MOTIFS = 24  # in a training sequence
PROBE_STEPS = 1000


class MemoryTask(PriorTask):
    """`PriorTask` with polarisation loss, motif sequences, gate statistics, memory probes and ablated validation."""

    model: MemoryPrior
    sampler_kind = SpanSampler

    def __init__(self, model: MemoryPrior, data: PriorData, config: PriorConfig, seed: int, fabric: Fabric) -> None:
        assert config.memory is not None
        super().__init__(model, data, config, seed, fabric)
        self.seed, self.memory = seed, config.memory
        self.total_steps = config.epochs * self.steps_per_epoch
        self.source = FrameSource(data.unaugmented, data.codes.codebook_size)
        self.probe_source = FrameSource(data.held_out, data.codes.codebook_size)

    def losses(self, model: nn.Module, batch: BatchShare) -> dict[str, Tensor]:
        losses = super().losses(model, batch)
        polarisation = self.model.gates.polarisation()
        weight = polarisation_weight(batch.step, self.total_steps, self.memory)
        objective = losses["objective"] + weight * polarisation
        motif_batch = self._motif_batch(batch.step)
        if motif_batch is not None:
            objective = objective + window_nats(model, motif_batch).plain.sum() / targets_in(motif_batch)
        return {**losses, "objective": objective, "polarisation_loss": polarisation.detach()}

    def probe(self) -> float:
        perplexity = super().probe()
        self.probed_state = self.model.gates, self.model.final_state
        return perplexity

    def inspect(self, step: int, earlier: Sequence[Mapping[str, float]]) -> dict[str, float]:
        gates, state = self.probed_state
        statistics = gates.figures()
        if self.memory.fast_fail:
            stop_if_gates_collapse(step, self.total_steps, statistics, earlier)
        line = gate_metrics(statistics)
        for layer, block in enumerate(state.blocks):
            line[f"memory/layer_{layer}/values"] = float(block.sums.norm())
            line[f"memory/layer_{layer}/keys"] = float(block.norm.mean())
        line["polarisation_weight"] = polarisation_weight(step, self.total_steps, self.memory)
        if step % PROBE_STEPS == 0:
            line |= probe_memory(
                self.model, self.probe_source, self.fabric, derive_seed(self.seed, Stream.MEMORY_PROBES)
            ).line
        return line

    def validate(self) -> dict[str, float]:
        measured = super().validate()
        with ablated(self.model):
            ablated_scores = super().validate()
        names = ("val_loss", "val_perplexity", "val_bits_per_second")
        return {**measured, **{f"ablated/{name}": ablated_scores[name] for name in names}}

    def events(self, report: Step | Epoch | WatchMetrics) -> Iterator[PriorEvent]:
        yield from super().events(report)
        if isinstance(report, WatchMetrics) and report.inspected:
            yield memory_metrics(report.step, report.inspected)

    def _motif_batch(self, step: int) -> Batch | None:
        """For a share of the steps a sequence whose motifs recur from beyond the receptive field; else None.

        Only the values of recurring motifs are targets.
        """
        rng = np.random.default_rng(derive_seed(self.seed, Stream.MOTIF_SEQUENCES, step))
        if rng.random() >= self.memory.motif_share:
            return None
        sequence = motif_sequence(rng, self.source, MOTIFS, self.model.memories.reach)
        frames = torch.from_numpy(sequence.frames)
        bos_frame = torch.full_like(frames[:1], bos_token(self.model.codebook_size))
        targets = torch.full_like(frames, IGNORED)
        for start in sequence.values:
            targets[start : start + VALUE_FRAMES] = frames[start : start + VALUE_FRAMES]
        inputs = torch.cat([bos_frame, frames[:-1]])
        return on_device(Batch(inputs[None], targets[None], torch.zeros(1, dtype=torch.int64)), self.fabric)


def memory_metrics(step: int, inspected: Mapping[str, float]) -> PriorMemoryMetrics:
    """The metrics of `MemoryTask.inspect` as an event."""
    gates: dict[str, dict[str, float]] = {}
    for name, value in inspected.items():
        if name.startswith("gates/"):
            _, layer, figure = name.split("/")
            gates.setdefault(layer, {})[figure] = value
    probe = {name.removeprefix("probe/"): value for name, value in inspected.items() if name.startswith("probe/")}
    return PriorMemoryMetrics(step, gates, probe)
