"""Long memory of a prior: chunk sizes, associative recall, long sequences, and held-out bits against a plain window."""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from benchmarks.acceptance.layer import FEATURES, PLAIN, ChunkSpeed, chunk_speeds
from benchmarks.acceptance.trial import memory_config
from benchmarks.prior import Say, code_folder_within
from distill.allocator import keep_freed_memory
from distill.codes.sequences import bos_token
from distill.execution import Execution
from distill.params import Params
from distill.prior.base import build_prior
from distill.prior.decode.memory import MemorySampler
from distill.prior.decode.samplers import sampler_of
from distill.prior.memory.block import MemoryStack
from distill.prior.memory.config import MemoryShape, MemorySize
from distill.prior.memory.haystacks import FrameSource
from distill.prior.memory.network import MemoryPrior, ablated
from distill.prior.memory.probes import Probes, worst_probes
from distill.prior.training import fit_prior
from distill.training.fabric import make_fabric

LENGTH, ROUNDS = 16_384, 5
LENGTHS = (4096, 16_384, 65_536)  # frames
DISTANCES = (0, 1024, 4096, 16_384)  # least frames between a needle and its query
SEEDS = 3

VOCABULARY, PAIRS, RECALL_LENGTH, LONGER = 256, 8, 256, 1024
FILLERS, VALUES = 128, 64  # first codes of fillers and of values
RECALL_SECONDS, SOLVED = 170.0, 0.995
RECALL_SIZE = MemorySize(window=32, shard_length=2048, chunk_size=64, key_size=16)


@dataclass(frozen=True)
class RecallResult:
    """Accuracy of multi-query associative recall (Arora et al. 2023, Zoology) after training at 256 positions."""

    seed: int
    seconds: float
    accuracy: float
    ablated: float
    longer: float  # at 1024 positions


@dataclass(frozen=True)
class Length:
    """Time of a training step of one sequence of `frames` frames, and size of the sampler's state after it."""

    frames: int
    seconds: float
    state_bytes: int

    @property
    def microseconds(self) -> float:
        """Microseconds a frame."""
        return 1e6 * self.seconds / self.frames


@dataclass(frozen=True)
class Use:
    """Held-out bits per second of priors of equal width, depth and window, with and without a memory.

    `probes` are the worst of three seeds for each distance in frames.
    """

    corpus: str
    recordings: int
    seed: int
    plain: float
    ablated: float
    memory: float
    plain_seconds: float
    memory_seconds: float
    probes: tuple[tuple[int, Probes], ...]


@dataclass(frozen=True)
class LongMemory:
    """Measurements that need no recordings."""

    chunks: tuple[ChunkSpeed, ...]
    recalled: tuple[RecallResult, ...]
    lengths: tuple[Length, ...]


def measure_long_memory(say: Say) -> LongMemory:
    """Measure chunk sizes, associative recall and long sequences."""
    keep_freed_memory()
    say("memory: chunk sizes")
    chunks = [speed for kind in (PLAIN, FEATURES) for speed in chunk_speeds(kind, LENGTH, ROUNDS)]
    recalled = []
    for seed in range(SEEDS):
        say(f"memory: associative recall, seed {seed}")
        recalled.append(_recall(seed))
    say("memory: long sequences")
    return LongMemory(tuple(chunks), tuple(recalled), tuple(_lengths()))


def measure_use(
    folder: Path, params: Params, codec_seconds: float, seeds: int, execution: Execution, say: Say
) -> list[Use]:
    """Train priors with and without a memory on the codes of a folder, for each seed. Raises DistillError."""
    fabric, found = make_fabric(execution), []
    with tempfile.TemporaryDirectory() as temporary:
        data = code_folder_within(folder, params, codec_seconds, Path(temporary), execution, say).data
    for seed in range(seeds):
        trained, seconds = {}, {}
        for architecture in ("frame", "memory"):
            say(f"{architecture}, seed {seed}")
            names = ("patience", "epochs", "learning_rate")
            given = {name: getattr(params.prior, name) for name in names}
            config = memory_config(data, architecture=architecture, **given)
            began = time.perf_counter()
            trained[architecture] = fit_prior(data, config, seed, fabric)
            seconds[architecture] = time.perf_counter() - began
        model = cast(MemoryPrior, trained["memory"].model)
        source = FrameSource(data.held_out, data.codes.codebook_size)
        probes = [(distance, worst_probes(model, source, fabric, seed, SEEDS, distance)) for distance in DISTANCES]
        plain, memory = (trained[name].result.best_metrics for name in ("frame", "memory"))
        found.append(
            Use(
                folder.resolve().name,
                data.recordings,
                seed,
                plain["val_bits_per_second"],
                memory["ablated/val_bits_per_second"],
                memory["val_bits_per_second"],
                seconds["frame"],
                seconds["memory"],
                tuple(probes),
            )
        )
    return found


class _RecallNet(nn.Module):
    """Language model of two memory blocks: codes `[B, T]` to logits `[B, T, V]`."""

    def __init__(self) -> None:
        super().__init__()
        width = 64
        self.embed = nn.Embedding(VOCABULARY, width)
        self.stack = MemoryStack(width, 2, 2, 0.0, RECALL_SIZE)
        self.head = nn.Linear(width, VOCABULARY, bias=False)
        for part in (self.embed, self.head):
            nn.init.normal_(part.weight, std=0.02)

    def forward(self, codes: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.stack(self.embed(codes))))


def _pairs(batch: int, length: int, far: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Recall task: key-value pairs, at least `far` fillers, then each key once more among fillers.

    Returns codes `[B, T]` and targets `[B, T]`: the values at the repeated keys, -100 elsewhere.
    """
    codes = torch.randint(FILLERS, VOCABULARY, (batch, length), generator=generator)
    keys = torch.rand(batch, VALUES, generator=generator).argsort(dim=1)[:, :PAIRS]
    values = torch.randint(VALUES, FILLERS, (batch, PAIRS), generator=generator)
    codes[:, 0 : 2 * PAIRS : 2], codes[:, 1 : 2 * PAIRS : 2] = keys, values
    slots = (length - 2 * PAIRS - far) // 2
    queries = 2 * PAIRS + far + 2 * torch.rand(batch, slots, generator=generator).argsort(dim=1)[:, :PAIRS]
    targets, rows = torch.full_like(codes, -100), torch.arange(batch)[:, None]
    codes[rows, queries], codes[rows, queries + 1], targets[rows, queries] = keys, values, values
    return codes, targets


@torch.no_grad()
def _accuracy(net: _RecallNet, codes: Tensor, targets: Tensor) -> float:
    predicted, counted = net(codes).argmax(dim=2), targets >= 0
    return float((predicted[counted] == targets[counted]).float().mean())


def _recall(seed: int, rate: float = 4e-3) -> RecallResult:
    """Train to SOLVED, at most `RECALL_SECONDS`. Values are beyond the receptive field of the blocks' windows."""
    torch.manual_seed(seed)
    net, generator = _RecallNet(), torch.Generator().manual_seed(seed)
    far = net.stack.reach
    queries = _pairs(256, RECALL_LENGTH, far, torch.Generator().manual_seed(1000))
    longer = _pairs(64, LONGER, far, torch.Generator().manual_seed(1001))
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.95))
    began, step = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < RECALL_SECONDS:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * max(0.05, 1 - spent / RECALL_SECONDS)
        codes, targets = _pairs(32, RECALL_LENGTH, far, generator)
        loss = nn.functional.cross_entropy(net(codes).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0 and _accuracy(net, *queries) >= SOLVED:
            break
    spent = time.perf_counter() - began
    accuracy, at_length = _accuracy(net, *queries), _accuracy(net, *longer)
    with ablated(net):
        ablated_scores = _accuracy(net, *queries)
    return RecallResult(seed, spent, accuracy, ablated_scores, at_length)


def _lengths() -> list[Length]:
    """Forward and backward of one sequence of each length in turn; then the state of a sampler after it."""
    shape = MemoryShape(
        codebook_size=128,
        num_quantizers=4,
        context_frames=47,
        hidden_size=128,
        num_layers=3,
        num_heads=4,
        depth_layers=2,
        codeword_size=64,
        count_experts=False,
        labels=[],
        shard_length=2048,
        chunk_size=64,
        key_size=32,
        span_frames=max(LENGTHS),
    )
    torch.manual_seed(0)
    model = cast(MemoryPrior, build_prior(shape, torch.randn(4, 128, 64)))
    frames = torch.randint(0, 128, (1, max(LENGTHS) + 1, 4), generator=torch.Generator().manual_seed(0))
    frames[:, 0] = bos_token(128)

    def step(length: int) -> float:
        began = time.perf_counter()
        logits = model(frames[:, :length], frames[:, 1 : length + 1], torch.zeros(1, dtype=torch.int64))
        chosen = logits.gather(3, frames[:, 1 : length + 1, :, None])
        (logits.logsumexp(dim=3)[..., None] - chosen).mean().backward()
        return time.perf_counter() - began

    step(min(LENGTHS))
    rounds = [{length: step(length) for length in LENGTHS} for _ in range(ROUNDS)]
    found = []
    for length in LENGTHS:
        sampler = cast(MemorySampler, sampler_of(model.eval(), 1, frames[:, 1:length]))
        sampler.next_frame(_first)
        found.append(Length(length, statistics.median(one[length] for one in rounds), sampler.bytes))
    return found


def _first(logits: Tensor, level: int, frame: int) -> Tensor:  # noqa: ARG001
    return logits.argmax(dim=1)
