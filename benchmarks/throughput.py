"""Training throughput against other libraries, in interleaved processes."""

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
from lightning_fabric import Fabric

from benchmarks.prior_peers import OURS, Build, Shape, peers
from benchmarks.turns import Turn, in_turn, serve
from distill.allocator import keep_freed_memory
from distill.execution import Precision, execution_from_environment
from distill.prior.flat.network import CodePrior
from distill.training.fabric import make_fabric

ROUNDS = 7
ROUND_STEPS = 4
FIRST_STEPS = 8  # warm-up: memory is still being allocated


@dataclass(frozen=True)
class Throughput:
    """Training throughput in tokens per second, by precision."""

    name: str
    fp32: float
    bf16: float


def measure_throughput(say: Callable[[str], None]) -> tuple[Throughput, ...]:
    """Median throughput of training steps for the shape of `Shape`."""
    say("training throughput")
    turns = {
        (name, precision): Turn("benchmarks.throughput", name, precision)
        for name in _builders()
        for precision in ("fp32", "bf16")
    }
    seconds = in_turn(turns, ROUNDS, ROUND_STEPS, FIRST_STEPS)
    tokens = ROUND_STEPS * Shape.batch * Shape.tokens
    speed = {key: tokens / statistics.median(times) for key, times in seconds.items()}
    return tuple(Throughput(name, speed[name, "fp32"], speed[name, "bf16"]) for name in _builders())


def _builders() -> dict[str, Build]:
    return {OURS: _code_prior, **peers()}


def _code_prior(shape: Shape) -> torch.nn.Module:
    return CodePrior(shape.codes, shape.tokens, 4, shape.width, shape.layers, shape.heads, 0.0)


def _steps(model: torch.nn.Module, shape: Shape, fabric: Fabric) -> Callable[[], None]:
    """Build a training step on fixed tokens."""
    wrapped, optimizer = fabric.setup(model, torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True))
    tokens = torch.randint(shape.codes, (shape.batch, shape.tokens + 1), generator=torch.Generator().manual_seed(0))
    tokens = fabric.to_device(tokens)

    def step() -> None:
        logits = wrapped(tokens[:, :-1]).float().flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        optimizer.step()

    return step


def _main(name: str, precision: Precision) -> None:
    """Serve training steps of one network."""
    if name == OURS:
        keep_freed_memory()  # as our training does
    execution = replace(execution_from_environment(), precision=precision)
    step = _steps(_builders()[name](Shape()), Shape(), make_fabric(execution))

    def work() -> None:
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    serve(work)


if __name__ == "__main__":
    _main(sys.argv[1], cast(Precision, sys.argv[2]))
