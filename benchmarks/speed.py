"""Speed of the prior beside other libraries, in training and in sampling, and of generation from a model file.

Each network works in a process of its own, so that none is affected by the memory use of another, and all take turns.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import nn

from benchmarks.arguments import say
from benchmarks.libraries import Shape, to_sample, to_train
from benchmarks.report import Table
from distill.api import Model
from distill.execution import Precision, execution_from_environment
from distill.generate.requests.generation import GenerationRequest, Seeds, generate_sounds
from distill.generate.sampling.sampler import Sequences, generators, sample_codes
from distill.prior.flat import CodePrior, FlatPrior, FlatShape
from distill.process import keep_freed_memory
from distill.training.distributed import make_fabric

OURS = "ours, CodePrior"
LEVELS = 4
BATCHES = (1, 16)
ROUNDS = 9
STEPS, TIMES = 4, 2  # training steps and sampled batches in a round
SECONDS = 4.0  # length of a generated sound

TRAINED = (
    "network",
    "tokens/s, fp32",
    "tokens/s, bf16",
    "ours bf16 / its fp32",
    "ours bf16 / its bf16",
)
SAMPLED = ("network", "tokens/s, one", "tokens/s, 16", "ours / it, one", "ours / it, 16")
GENERATED = ("model", "x real time, one", "x real time, 16 at once", "cold start, s")

K = TypeVar("K")


def measure_training() -> Table:
    """Median throughput of training steps for the shape of `Shape`: forward, backward and AdamW."""
    say("training speed")
    beside = dict.fromkeys(("fp32", "bf16"), "bf16")
    rows = _compared(
        "training", to_train(), beside, lambda _: STEPS * Shape.batch * Shape.tokens, STEPS
    )
    return Table("training", TRAINED, rows)


def measure_sampling() -> Table:
    """Median speed of sampling 188 tokens with a cache in fp32."""
    say("sampling speed")
    batches = {str(batch): str(batch) for batch in BATCHES}
    rows = _compared(
        "sampling", to_sample(), batches, lambda batch: TIMES * int(batch) * Shape.tokens, TIMES
    )
    return Table("sampling", SAMPLED, rows)


def _compared(
    kind: str,
    peers: Iterable[str],
    beside: Mapping[str, str],
    tokens: Callable[[str], int],
    times: int,
) -> tuple[tuple[str, ...], ...]:
    """Rows of a network: its speed in each setting of `beside`, and the median of ours beside it, in that other setting."""
    names = (OURS, *peers)
    seconds = _in_turn(
        {(name, setting): _Turn(kind, name, setting) for name in names for setting in beside}, times
    )
    rows = []
    for name in names:
        speeds = [tokens(setting) / statistics.median(seconds[name, setting]) for setting in beside]
        pairs = [
            zip(seconds[name, setting], seconds[OURS, other], strict=True)
            for setting, other in beside.items()
        ]
        ratios = [statistics.median(its / ours for its, ours in both) for both in pairs]
        rows.append(
            (name, *(f"{value:.0f}" for value in speeds), *(f"{value:.2f}" for value in ratios))
        )
    return tuple(rows)


def measure_generation(model: Path) -> Table:
    """Median speed of generation with a loaded model, and of `distill generate` from its start to a file of a second."""
    say(f"generating with {model.name}")
    context, row = Model(model).context, [model.name]
    for batch in BATCHES:
        seconds = []
        for seed in range(ROUNDS):
            began = time.perf_counter()
            request = GenerationRequest(batch, SECONDS, natural_ending=False)
            generate_sounds(context, request, Seeds(seed))
            seconds.append(time.perf_counter() - began)
        row.append(f"{batch * SECONDS / statistics.median(seconds[1:]):.1f}")
    starts = []
    for seed in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            command = [
                "generate",
                str(model),
                "--seed",
                str(seed),
                "--seconds",
                "1",
                "--out",
                folder,
                "--json",
            ]
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "distill", *command], capture_output=True, check=True
            )
            starts.append(time.perf_counter() - began)
            assert Path(json.loads(done.stdout)["sounds"][0]["file"]).exists()
    return Table("generation", GENERATED, ((*row, f"{statistics.median(starts):.1f}"),))


class _Turn(AbstractContextManager["_Turn"]):
    """A process of this module that works on request. See `_serve`."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "benchmarks.speed", *arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def seconds(self, times: int) -> float:
        """Seconds to do its work `times` times."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(times, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def _in_turn(turns: Mapping[K, _Turn], times: int) -> dict[K, list[float]]:
    """Seconds of each interleaved round of `times` calls, after two rounds in which memory is still being allocated."""
    with ExitStack() as stack:
        for turn in turns.values():
            stack.enter_context(turn)
        for turn in turns.values():
            turn.seconds(2 * times)
        seconds: dict[K, list[float]] = {key: [] for key in turns}
        for _ in range(ROUNDS):
            for key, turn in turns.items():
                seconds[key].append(turn.seconds(times))
    return seconds


def _serve(work: Callable[[], object]) -> None:
    """For each count read from stdin, do the work that often and print the seconds."""
    for line in sys.stdin:
        began = time.perf_counter()
        for _ in range(int(line)):
            work()
        print(time.perf_counter() - began, flush=True)


def _training(name: str, precision: str) -> Callable[[], object]:
    """A training step on fixed tokens."""
    if name == OURS:
        keep_freed_memory()  # as our training does
    fabric = make_fabric(
        replace(execution_from_environment(), precision=cast(Precision, precision))
    )
    sizes = (Shape.codes, Shape.tokens, LEVELS, Shape.width, Shape.layers, Shape.heads)
    model = CodePrior(*sizes, dropout=0.0) if name == OURS else to_train()[name]()
    wrapped, optimizer = fabric.setup(
        model, torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    )
    tokens = torch.randint(
        Shape.codes, (Shape.batch, Shape.tokens + 1), generator=torch.Generator().manual_seed(0)
    )
    tokens = fabric.to_device(tokens)

    def step() -> None:
        logits = wrapped(tokens[:, :-1]).float().flatten(0, 1)
        loss = nn.functional.cross_entropy(logits, tokens[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        optimizer.step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return step


def _sampling(name: str, batch: str) -> Callable[[], object]:
    if name != OURS:
        return to_sample()[name](int(batch))
    frames = Shape.tokens // LEVELS
    shape = FlatShape(
        codebook_sizes=(Shape.codes,) * LEVELS,
        context_frames=frames + 1,
        hidden_size=Shape.width,
        num_layers=Shape.layers,
        num_heads=Shape.heads,
        labels=[],
    )
    prior = FlatPrior(shape).eval()
    sequences = Sequences(int(batch), frames, natural_ending=False)
    return lambda: sample_codes(prior, sequences, generators(range(sequences.count)))


if __name__ == "__main__":
    torch.manual_seed(0)
    kind, network, setting = sys.argv[1:]
    _serve({"training": _training, "sampling": _sampling}[kind](network, setting))
