"""Training of a `MemoryPrior`: learning, reports, resume and early failure."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from unit.training.coded import FABRIC, SIZE, config, data, fit, killed_and_resumed, windows

from distill.codes.sequences import CodeSequences
from distill.errors import DistillError, ParamsError
from distill.params import PriorConfig
from distill.prior.data import SpanSampler, even_batches
from distill.prior.memory import task as memory_task
from distill.prior.memory.network import MemoryPrior, ablated
from distill.prior.memory.probes import Probes, probe_memory
from distill.prior.task import similar_length_batches, validate_prior_epoch
from distill.prior.training import fit_prior
from distill.training import PriorMemoryMetrics, WatchMetrics, rollback
from distill.training import trainer as engine
from distill.training.checkpoints import CheckpointStore
from distill.training.run import Run


def repeating(seed: int, count: int, phrase: int = 12, rounds: int = 6) -> list[np.ndarray]:
    """Recordings that each repeat a random phrase: to predict it takes a memory of one phrase."""
    rng = np.random.default_rng(seed)
    return [np.tile(rng.integers(0, SIZE, (phrase, 2)), (rounds, 1)) for _ in range(count)]


def settings(memory: dict[str, Any] | None = None, **changes: Any) -> PriorConfig:
    kept = {"span_seconds": 10.0, "shard_length": 64, "chunk_size": 8, "key_size": 16, "fast_fail": False}
    wanted = {**kept, **(memory or {})}
    return config(**{"architecture": "memory", "context_seconds": 0.4, "memory": wanted, **changes})


def test_only_the_memory_predicts_repetitions_beyond_the_window() -> None:
    prior_data = data(repeating(0, 16), repeating(1, 4))
    events: list[Any] = []
    training = fit(prior_data, settings(epochs=2), callback=events.append)
    plain = fit(prior_data, config(architecture="frame", context_seconds=0.4, epochs=2))
    model, best = training.model, training.result.best_metrics
    assert isinstance(model, MemoryPrior)
    assert model.memories.reach < 24
    assert best["val_loss"] < 0.8 * plain.result.best_metrics["val_loss"]
    assert best["val_loss"] < 0.8 * best["ablated/val_loss"]
    with ablated(model):
        nats, tokens = validate_prior_epoch(model, CodeSequences(prior_data.held_out, SIZE, 2), 4, FABRIC)
    assert float(nats.sum() / tokens.sum()) == pytest.approx(best["ablated/val_loss"], rel=1e-4)
    assert best["polarisation_loss"] <= 1
    gates = [event for event in events if isinstance(event, PriorMemoryMetrics)]
    assert gates
    assert set(gates[-1].gates) == {"layer_0", "layer_1"}
    assert set(gates[-1].gates["layer_0"]) == {"mean", "std", "min", "max", "closed", "open"}
    looks = [event for event in events if isinstance(event, WatchMetrics)]
    assert [event.step for event in looks] == [event.step for event in gates]
    assert all(event.inspected["memory/layer_0/keys"] > 0 for event in looks)


def test_probes_are_reported_and_change_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollback, "WATCH_STEPS", 8)
    prior_data, events = data(repeating(0, 8), repeating(1, 3)), []
    without = fit(prior_data, settings(epochs=1))
    monkeypatch.setattr(memory_task, "PROBE_STEPS", 8)
    probed = fit(prior_data, settings(epochs=1), callback=events.append)
    found = [event.probe for event in events if isinstance(event, PriorMemoryMetrics) and event.step == 8]
    assert found
    assert set(found[0]) >= {"mechanism", "in_situ", "in_situ_absent", "ranked", "ranked_ablated", "ranked_absent"}
    assert all(
        torch.equal(value, probed.result.best_tensors[key]) for key, value in without.result.best_tensors.items()
    )


def probes(**changes: float) -> Probes:
    needles = dict.fromkeys(("mechanism", "in_situ", "top1", "ranked"), 0.9)
    return Probes(**{**dict.fromkeys((part.name for part in fields(Probes)), 0.0), **needles, "chance": 0.1, **changes})


def test_probes_pass_where_needles_are_retrieved_and_controls_are_at_chance() -> None:
    assert probes().passed
    assert probes(top1_ablated=0.15).passed
    missed = {
        "mechanism": 0.7,
        "top1": 0.7,
        "in_situ_absent": 0.3,
        "ranked_absent": 0.3,
        "top1_ablated": 0.16,
        "ranked_ablated": 0.07,
    }
    assert not any(probes(**{name: value}).passed for name, value in missed.items())


def test_the_worst_probe_counts_but_the_mean_of_ablated_ones() -> None:
    worst = Probes.worst([probes(), probes(ranked=0.8, top1_absent=0.1, top1_ablated=0.2)])
    assert worst == probes(ranked=0.8, top1_absent=0.1, top1_ablated=0.1)


def test_a_probe_restores_mode_and_random_states() -> None:
    prior_data = data(repeating(0, 8), repeating(1, 3))
    model = fit(prior_data, settings(epochs=1)).model
    assert isinstance(model, MemoryPrior)
    model.train()
    source = memory_task.FrameSource(prior_data.held_out, SIZE)
    torch.manual_seed(3)
    state, weights = torch.get_rng_state(), {key: value.clone() for key, value in model.state_dict().items()}
    first = probe_memory(model, source, FABRIC, 5)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert not model.retrieval.ablated
    assert probe_memory(model, source, FABRIC, 5) == first
    assert isinstance(first, Probes)


def test_a_killed_training_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(engine, "CHECKPOINT_SHARE", 1e9)
    monkeypatch.setattr(rollback, "WATCH_STEPS", 3)
    prior_data = data(repeating(0, 3), repeating(1, 3))
    asked = settings(epochs=1, dropout=0.2, memory={"motif_share": 0.5})
    killed_and_resumed(prior_data, asked, CheckpointStore(tmp_path / "run"), 5)


def test_collapsed_gates_stop_training_and_keep_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollback, "WATCH_STEPS", 2)
    monkeypatch.setattr("distill.prior.memory.gates.MIN_STD", 0.9)  # no gates vary as much
    store = CheckpointStore(tmp_path / "run")
    prior_data = data(repeating(0, 8), repeating(1, 3))
    with pytest.raises(DistillError, match="expected gates of the memory that differ, with a standard deviation"):
        fit_prior(prior_data, settings(epochs=3, memory={"fast_fail": True}), 0, Run(FABRIC, store))
    assert store.newest() is not None


def test_a_context_too_long_for_the_shards_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"prior.context_seconds: expected at most 0.8 for .*64 frames\), found 0.9"):
        fit(data(repeating(0, 4), repeating(1, 2)), settings(context_seconds=0.9))


def test_every_epoch_has_as_many_batches_of_spans_and_of_windows() -> None:
    recordings = [[codes] for codes in [*repeating(0, 9), *repeating(1, 3, 3, 1), *repeating(2, 1, 50, 9)]]
    sampler = SpanSampler(recordings, windows(4, 8, span_frames=100))
    for epoch in range(6):
        batches = list(sampler.batches(epoch, 0))
        assert len(batches) == sampler.batches_per_epoch
        lengths = [batch.inputs.shape[1] for batch in batches]
        assert max(lengths) > 4 >= min(lengths)
        assert sum(length > 4 for length in lengths) == sampler.span_batches
        again = list(sampler.batches(epoch, 2))
        assert all(torch.equal(one.inputs, two.inputs) for one, two in zip(batches[2:], again, strict=True))


def test_batches_have_few_shapes() -> None:
    lengths = np.random.default_rng(3).integers(200, 900, 40)
    recordings = [[codes] for length in lengths for codes in repeating(int(length), 1, int(length), 1)]
    sampler = SpanSampler(recordings, windows(20, 64, span_frames=1000))
    shapes = {tuple(batch.inputs.shape[:2]) for epoch in range(20) for batch in sampler.batches(epoch, 0)}
    assert len(shapes) < 30
    assert {frames for _, frames in shapes} <= {20, *range(208, 512, 16), *range(512, 1000, 64), 1000}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_and_uneven_recordings_fill_every_epoch(count: int) -> None:
    recordings = [[codes] for codes in [*repeating(0, 1, 50, 9), *repeating(1, 2, 5, 1)][:count]]
    sampler = SpanSampler(recordings, windows(4, 1, span_frames=100))
    for epoch in range(6):
        batches = list(sampler.batches(epoch, 0))
        assert len(batches) == sampler.batches_per_epoch
        assert all(len(batch.inputs) for batch in batches)


def test_short_recordings_have_windows_only() -> None:
    sampler = SpanSampler([[codes] for codes in repeating(0, 5, 2, 1)], windows(4, 2, span_frames=100))
    assert sampler.span_batches == 0
    assert len(list(sampler.batches(0, 0))) == sampler.batches_per_epoch


def test_batches_are_even_and_whole() -> None:
    windows = [window_of(length) for length in (1, 1, 2, 3, 5, 30)]
    for count in range(1, 7):
        batches = even_batches(windows, count)
        assert [window for batch in batches for window in batch] == windows
        assert all(batches)
    assert [sum(map(len, batch)) for batch in even_batches(windows, 2)] == [12, 30]


def test_long_sequences_are_validated_in_smaller_batches() -> None:
    windows = [window_of(length) for length in (2, 3, 4, 4, 9, 40)]
    sizes = [[len(window) for window in batch] for batch in similar_length_batches(windows, 3, 4)]
    assert sizes == [[2, 3, 4], [4], [9], [40]]
    assert [len(batch) for batch in similar_length_batches([windows[0]] * 7, 3, 4)] == [3, 3, 1]


def window_of(length: int) -> Any:
    from distill.codes.sequences import Window

    return Window(0, 0, length)
