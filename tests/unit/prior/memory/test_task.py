"""Training of a `MemoryPrior`: learning, gates, motifs, probes, resume and early failure."""

import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.codes.sequences import Batch
from distill.errors import DistillError, ParamsError
from distill.params import PriorConfig
from distill.prior.memory import motifs, network, probe
from distill.prior.memory import task as module
from distill.prior.memory.motifs import FrameSource
from distill.prior.memory.network import MemoryPrior
from distill.prior.memory.task import stop_if_gates_collapse
from distill.prior.training import prior_to_train
from distill.seeds import Stream, derive_seed
from distill.storage.weights import tensors_sha256
from distill.training import PriorMemoryMetrics, PriorStepMetrics, rollback
from distill.training import trainer as engine
from distill.training.checkpoints import CheckpointStore
from unit.training.coded import FABRIC, config, data, fit, killed_and_resumed, repeating


def settings(memory: dict[str, Any] | None = None, **changes: Any) -> PriorConfig:
    kept = {"span_seconds": 10.0, "shard_length": 64, "chunk_size": 8, "key_size": 16, "fast_fail": False}
    return config(architecture="memory", memory={**kept, **(memory or {})}, **{"context_seconds": 0.4, **changes})


@pytest.fixture
def few_distractors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes in short haystacks."""
    monkeypatch.setattr(probe, "DISTRACTORS", 12)


SMALL, FEW = data(repeating(0, 8), repeating(1, 3)), data(repeating(0, 3), repeating(1, 3))


def test_only_the_memory_predicts_repetitions_beyond_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollback, "WATCH_STEPS", 8)
    monkeypatch.setattr(module, "FIRST_PROBES", frozenset())
    prior_data, events = data(repeating(0, 10, rounds=4), repeating(1, 4, rounds=4)), list[Any]()
    quick: dict[str, Any] = {"epochs": 1, "learning_rate": 6e-3}
    training = fit(prior_data, settings(**quick), callback=events.append)
    plain = fit(prior_data, config(architecture="frame", context_seconds=0.4, **quick))
    model, best = training.model, training.result.best_metrics
    assert isinstance(model, MemoryPrior)
    assert model.stack.reach < 24
    assert best["val_loss"] < 0.8 * plain.result.best_metrics["val_loss"]
    assert best["val_loss"] < 0.8 * best["ablated/val_loss"]
    looks = {event.step: event for event in events if isinstance(event, PriorMemoryMetrics)}
    assert set(looks[8].gates) == {"layer_0", "layer_1"}
    assert set(looks[8].gates["layer_0"]) == {"mean", "std", "min", "max", "closed", "open"}
    assert not looks[8].probe


@pytest.mark.usefixtures("few_distractors")
@pytest.mark.parametrize(
    ("stop_at", "changes", "probed", "steps"),
    [
        (None, {"epochs": 1}, [1, 2, 3, 4, 8], 11),
        (5, {}, [1, 2, 3, 4], 5),
        (None, {"budget_minutes": 1e-9}, [1], 1),
    ],
)
def test_a_memory_is_probed_in_any_training_and_at_its_end(
    stop_at: int | None, changes: dict[str, Any], probed: list[int], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollback, "WATCH_STEPS", 8)
    monkeypatch.setattr(module, "PROBE_STEPS", 8)
    events, stop = list[Any](), threading.Event()

    def watch(event: Any) -> None:
        events.append(event)
        if isinstance(event, PriorStepMetrics) and event.overall_step == stop_at:
            stop.set()

    training = fit(FEW, settings(**changes), watch, stop)
    found = [event for event in events if isinstance(event, PriorMemoryMetrics) and event.probe]
    assert [event.step for event in found] == [*probed, steps]
    names = {f"{name}{kind}" for name in probe.FIGURES for kind in (*probe.ABLATIONS, "_absent")}
    assert all(set(event.probe) == {*names, "chance"} for event in found)
    # The last one is of the weights that are kept, and compares runs.
    kept = {
        name.removeprefix("probe/"): value for name, value in training.result.best_metrics.items() if "probe/" in name
    }
    source, seed = (
        FrameSource([one.codes for one in FEW.held_out], FEW.codes.codebook_sizes),
        derive_seed(0, Stream.MEMORY_PROBES),
    )
    assert found[-1].probe == kept == probe.probe_memory(training.model, source, FABRIC, seed)  # type: ignore[arg-type]


@pytest.mark.usefixtures("few_distractors")
def test_a_killed_training_and_one_without_probes_end_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(engine, "CHECKPOINT_SHARE", 1e9)
    monkeypatch.setattr(rollback, "WATCH_STEPS", 4)
    monkeypatch.setattr(module, "MOTIFS", 6)
    asked = settings(epochs=1, dropout=0.2, memory={"motif_share": 0.5})
    probed = killed_and_resumed(FEW, asked, CheckpointStore(tmp_path / "run"), 5)
    monkeypatch.setattr(module, "FIRST_PROBES", frozenset())
    assert tensors_sha256(fit(FEW, asked).result.last_tensors) == tensors_sha256(probed.result.last_tensors)


def test_recomputed_shards_have_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = []
    for kept in (0, 9):
        monkeypatch.setattr(network, "KEPT_SHARDS", kept)
        model = prior_to_train(SMALL, settings(dropout=0.2), 0)
        torch.manual_seed(0)
        codes = torch.from_numpy(repeating(0, 2, rounds=12)[1])[None]
        model(Batch(codes[:, :-1], codes[:, 1:], torch.zeros(1, dtype=torch.int64))).logsumexp(dim=3).sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_collapsed_gates_stop_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollback, "WATCH_STEPS", 2)
    monkeypatch.setattr(module, "MIN_STD", 0.9)  # no gates vary as much
    with pytest.raises(DistillError, match="expected gates of the memory that differ, with a standard deviation"):
        fit(SMALL, settings(epochs=3, memory={"fast_fail": True}))


@pytest.mark.parametrize(
    ("step", "total", "std", "polarised", "first", "message"),
    [
        (50, 1000, 0.005, 0, None, ""),
        (100, 1000, 0.005, 0, None, "step 100: expected gates .* deviation of at least 0.01, found 0.0050"),
        (10, 100, 0.005, 0, None, r"set prior\.architecture: frame, or prior\.memory\.fast_fail: false"),
        (500, 1000, 0.12, 0, 0.1, "found a variance of 0.0144 after 0.0100 and 0% of them polarised"),
        (500, 1000, 0.123, 0, 0.1, ""),  # half as much again
        (500, 1000, 0.45, 0.8, 0.45, ""),  # near the bound of their variance since the first check
    ],
)
def test_gates_that_neither_vary_nor_polarise_stop_training(
    step: int, total: int, std: float, polarised: float, first: float | None, message: str
) -> None:
    def line(step: int, std: float) -> dict[str, float]:
        layer = {"std": std, "closed": polarised / 2, "open": polarised / 2}
        return {"step": step, "gates/layer_1/std": 0.001, **{f"gates/layer_0/{name}": layer[name] for name in layer}}

    earlier = [line(50, 0.4), {"step": 100, "loss": 1.0}, *([line(100, first), line(150, 0.4)] if first else [])]
    with pytest.raises(DistillError, match=message) if message else nullcontext():
        stop_if_gates_collapse(step, total, line(step, std), earlier)


def test_the_polarisation_weight_is_constant_and_then_decays_to_a_hundredth() -> None:
    memory = settings(memory={"polarisation": 2.0, "polarisation_warmup": 0.1}).memory
    assert memory is not None
    weights = [module.polarisation_weight(step, 1000, memory) for step in (0, 100, 550, 1000)]
    assert weights == pytest.approx([2.0, 2.0, 0.2, 0.02])


def test_polarisation_moves_gates_apart_and_statistics_are_those_of_the_gates() -> None:
    logits = torch.tensor([-1.0, 1.0]).view(1, 1, 2, 1).requires_grad_()
    module.polarisation_loss(logits.sigmoid()).backward()
    assert logits.grad is not None
    assert logits.grad[0, 0, 0, 0] > 0 > logits.grad[0, 0, 1, 0]
    two_layers = torch.tensor([[0.0, 1.0, 0.0, 1.0], [0.05, 0.5, 0.6, 0.85]]).view(2, 1, 4, 1)
    assert module.polarisation_loss(two_layers[:1]) == 0
    assert list(module.gate_metrics(two_layers).values()) == pytest.approx(
        [0.5, 0.5, 0, 1, 0.5, 0.5, 0.5, 0.2894, 0.05, 0.85, 0.25, 0], abs=1e-4
    )


CODES = np.random.default_rng(0).integers(3, 16, (250, 2))  # codes below 3 are never used
SOURCE = FrameSource([CODES[:9], CODES[9:40], CODES[40:]], (16,) * CODES.shape[1])


def positions_of(part: np.ndarray, frames: np.ndarray) -> list[int]:
    return [at for at in range(len(frames) - len(part) + 1) if np.array_equal(frames[at : at + len(part)], part)]


def test_motifs_are_made_of_used_codes_and_recur_beyond_the_distance() -> None:
    training, probes = (SOURCE.motifs(np.random.default_rng(1), 200, parity) for parity in (0, 1))
    assert training.min() >= 3
    assert not {motif.tobytes() for motif in training} & {motif.tobytes() for motif in probes}
    frames, is_value = motifs.motif_sequence(np.random.default_rng(4), SOURCE, 6, 50)
    starts = np.flatnonzero(np.diff(is_value.astype(int)) == 1) + 1 - motifs.KEY_FRAMES
    assert len(starts) == 6
    for start in starts:
        first, second = positions_of(frames[start : start + motifs.MOTIF_FRAMES], frames)
        assert second == start >= first + motifs.MOTIF_FRAMES + 50
    assert len({len(motifs.motif_sequence(np.random.default_rng(seed), SOURCE, 6, 50)[0]) for seed in range(9)}) == 1


def test_a_haystack_holds_its_motifs_and_no_absent_ones() -> None:
    frames, every = motifs.haystack(np.random.default_rng(5), SOURCE, 11, 40)
    positions = [positions_of(motif, frames) for motif in every]
    assert [len(found) for found in positions] == [1] * 11 + [0] * 11
    assert max(positions[:11]) == positions[10] <= [len(frames) - 40 - motifs.MOTIF_FRAMES]


def test_a_context_too_long_for_the_shards_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"prior.context_seconds: expected at most 0.8 for .*64 frames\), found 0.9"):
        prior_to_train(SMALL, settings(context_seconds=0.9), 0)
