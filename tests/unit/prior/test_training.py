"""Prior training: it learns a pattern, and its held-out metrics equal a slow loop."""

import math
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from distill.codec.layout import NOTES, TUNINGS
from distill.codes.sequences import IGNORED, Batch, CodedRecording, CodeSequences, bos_token, eos_token
from distill.codes.store import CodesConfig
from distill.errors import ParamsError
from distill.generate.sampling.processors import Sampling
from distill.generate.sampling.sampler import Sequences, generators, sample_codes
from distill.params import get_adaptive_prior_config
from distill.prior.architectures import ARCHITECTURES, ArchitectureName, not_taken
from distill.prior.data import MIN_STEPS, PriorData, WindowSampler
from distill.prior.frame import FrameShape
from distill.prior.memory import probe
from distill.prior.task import validate_prior_epoch
from distill.prior.training import PriorTraining, print_prior, prior_metrics, prior_to_train
from distill.training import PriorEpochMetrics, PriorStepMetrics, PriorTrainingCompleteEvent, rollback
from distill.training import trainer as engine
from distill.training.checkpoints import CheckpointStore, curves_of, loss_curves, save_artifact
from unit.training.coded import (
    FABRIC,
    GEOMETRY,
    LEVELS,
    SIZE,
    coded,
    config,
    data,
    fit,
    killed_and_resumed,
    noise,
    pretrained_start,
    recordings,
    windows,
)

CONTEXT, HELD_OUT = 7, recordings(1, 5)


@pytest.fixture(scope="module", params=["frame", "flat", "memory"])
def counting(request: pytest.FixtureRequest) -> tuple[PriorTraining, list[Any]]:
    """A training on recordings that count up, in windows of seven frames, and its events."""
    events: list[Any] = []
    settings = config(architecture=request.param, epochs=5, context_seconds=CONTEXT / 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "DISTRACTORS", 12)  # probes in short haystacks
        return fit(data(recordings(0, 40), HELD_OUT), settings, events.append), events


def test_a_pattern_is_learnt_and_events_are_reported(counting: tuple[PriorTraining, list[Any]]) -> None:
    training, events = counting
    epochs = [event for event in events if isinstance(event, PriorEpochMetrics)]
    assert next(event for event in events if isinstance(event, PriorStepMetrics)).train_loss > math.log(3)
    assert epochs[-1].best_perplexity < 2
    assert epochs[-1].val_perplexity == pytest.approx(math.exp(epochs[-1].val_loss))
    assert epochs[-1].is_memorizing
    assert "perplexity" in epochs[-1].memorization_message
    assert any(isinstance(event, PriorStepMetrics) for event in events)
    complete = events[-1]
    assert isinstance(complete, PriorTrainingCompleteEvent)
    assert complete.best_perplexity == pytest.approx(min(event.val_perplexity for event in epochs))
    assert complete.was_memorizing
    assert not training.model.training


def test_held_out_metrics_equal_a_slow_loop(counting: tuple[PriorTraining, list[Any]]) -> None:
    """Code by code, each from the frames of its window alone."""
    model, best = counting[0].model, counting[0].result.best_metrics
    assert model.context_frames == CONTEXT
    span = model.span_frames
    assert (span == CONTEXT) != (model.shape.architecture == "memory")
    by_level: dict[int, list[float]] = {level: [] for level in range(LEVELS)}
    for codes in HELD_OUT:
        bos, eos = np.full((1, LEVELS), bos_token(SIZE)), np.full((1, LEVELS), eos_token(SIZE))
        sequence = torch.from_numpy(np.concatenate([bos, codes, eos]))
        for target in range(1, len(sequence)):
            start = (target - 1) // span * span
            for level in range(1 if target == len(sequence) - 1 else LEVELS):
                inputs, targets = sequence[None, start:target], sequence[None, start + 1 : target + 1].clone()
                targets[0, -1, level:] = IGNORED
                with torch.no_grad():
                    logits = model(Batch(inputs, targets, torch.tensor([start])))[0, -1, level]
                by_level[level].append(float(-logits.log_softmax(dim=-1)[sequence[target, level]]))
    nats = sum(sum(losses) for losses in by_level.values())
    count = sum(len(losses) for losses in by_level.values())
    assert best["val_loss"] == pytest.approx(nats / count, rel=3e-4)
    seconds = sum(len(codes) for codes in HELD_OUT) / 10.0
    assert best["val_bits_per_second"] == pytest.approx(nats / math.log(2) / seconds, rel=3e-4)
    for level, losses in by_level.items():
        assert best[f"level_{level}/val_perplexity"] == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)


def test_a_training_stopped_within_its_first_epoch_keeps_the_start(tmp_path: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    prior_data, settings = pretrained_start()
    events: list[Any] = []
    training = fit(prior_data, settings, events.append, cancel)
    result = training.result
    assert result.counts["stopped_as_asked"]
    assert not result.history
    assert result.best_metrics == result.start_metrics
    assert training.facts.epochs_trained == 0
    assert events[-1].final_val_loss == result.best_metrics["val_loss"]
    save_artifact(tmp_path / "prior", training.model, training.facts, result.rows)
    figures = prior_metrics(training)
    assert figures["val_bits_per_second"] == figures["val_bits_per_second_start"]
    assert loss_curves(tmp_path / "prior", "prior") == {}


@pytest.mark.parametrize("kill_at", [1, 20])
def test_a_killed_training_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: Any, kill_at: int) -> None:
    monkeypatch.setattr(engine, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(rollback, "WATCH_STEPS", 4)
    prior_data, settings = data(recordings(0, 12), recordings(1, 5), views=2), config(epochs=4, dropout=0.2)
    killed_and_resumed(prior_data, settings, CheckpointStore(tmp_path / "run"), kill_at)


def test_each_pass_takes_one_view_of_each_recording_and_short_ones_share_an_epoch() -> None:
    views = [CodedRecording([np.full((5, LEVELS), 3 * number + view) for view in range(3)]) for number in range(4)]
    sampler = WindowSampler(views, *windows(10, 2, 0))
    assert (sampler.passes, sampler.batches_per_epoch) == (5, MIN_STEPS)
    seen = set()
    for epoch in range(8):
        batches = [share.batch.targets[:, 0, 0].tolist() for share in sampler.batches(epoch, 0)]
        seen |= {tuple(sorted(batches[first] + batches[first + 1])) for first in range(0, MIN_STEPS, 2)}
    assert {code for codes in seen for code in codes} == set(range(SIZE))
    assert all([code // 3 for code in codes] == [0, 1, 2, 3] for codes in seen)  # one view of each recording a pass
    assert len(seen) > 20
    many = WindowSampler(views * 6, *windows(10, 2, 0))
    assert (many.passes, many.batches_per_epoch) == (1, 12)


def test_batches_are_a_function_of_seed_and_epoch_and_can_be_skipped() -> None:
    prior_data = coded(recordings(0, 12))

    def order(sampler: WindowSampler, epoch: int, skip: int = 0) -> list[list[int]]:
        return [share.batch.targets.flatten().tolist() for share in sampler.batches(epoch, skip)]

    sampler, again = (WindowSampler(prior_data, *windows(6, 3, 9)) for _ in range(2))
    assert order(sampler, 4) == order(again, 4)
    assert order(sampler, 4)[2:] == order(again, 4, 2)
    assert order(sampler, 4) != order(sampler, 5)
    assert len(order(sampler, 4)) == sampler.batches_per_epoch


def test_label_dropout_is_a_function_of_seed_and_epoch() -> None:
    labels = [number % 3 for number in range(40)]
    prior_data = coded(recordings(0, 40), 2, labels)

    def seen(epoch: int, dropout: float, skip: int = 0) -> list[list[int]]:
        sampler = WindowSampler(prior_data, *windows(30, 4, 9), label_dropout=dropout)
        return [share.batch.labels.tolist() for share in sampler.batches(epoch, skip)]  # type: ignore[union-attr]

    assert sorted(label for batch in seen(0, 0.0) for label in batch) == sorted(labels)
    assert [label for batch in seen(0, 1.0) for label in batch] == [0] * 40
    assert seen(3, 0.5)[2:] == seen(3, 0.5, skip=2)
    assert seen(3, 0.5) != seen(4, 0.5)
    kept = [sum(label > 0 for batch in seen(epoch, 0.25) for label in batch) for epoch in range(40)]
    assert np.mean(kept) == pytest.approx(0.75 * sum(label > 0 for label in labels), rel=0.1)


def test_an_overfitting_training_keeps_its_best_epoch_and_the_seed_decides() -> None:
    """Noise can only be memorised: held-out loss rises again, and the weights of its minimum are kept."""
    prior_data = data(noise(0, 6), noise(1, 6))
    settings = config(epochs=8, learning_rate=0.01, patience=0, dropout=0.1)
    training, other = (fit(prior_data, settings, seed=seed) for seed in (5, 6))
    losses = [row["val_loss"] for row in training.result.history]
    assert losses[-1] > min(losses) + 0.2
    assert training.result.best_epoch == 1 + losses.index(min(losses))
    nats, tokens = validate_prior_epoch(training.model, CodeSequences(noise(1, 6), GEOMETRY.codebook_sizes), 4, FABRIC)
    assert float(nats.sum() / tokens.sum()) == pytest.approx(min(losses), rel=1e-4)
    assert training.facts.final_perplexity > training.facts.best_perplexity
    assert training.result.history != other.result.history


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (803.0, ", before training 803; training the prior gained nothing here"),
        (810.0, ", before training 810"),
        (None, ""),
    ],
)
def test_the_end_says_where_training_gained_nothing(
    counting: tuple[PriorTraining, list[Any]], capsys: pytest.CaptureFixture[str], start: float | None, said: str
) -> None:
    training, _ = counting
    bits = {"val_bits_per_second": 802.0, "val_bits_per_second_counting": 900.0}
    bits |= {} if start is None else {"val_bits_per_second_start": start}
    print_prior(replace(training, metrics={**prior_metrics(training), **bits}), Console(width=500))
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == f"802 bits per second of held-out audio; counting alone 900{said}"
    assert "; by level loudness " in lines[1]


def test_the_end_says_what_a_memory_is_worth_and_its_curve_is_kept(
    counting: tuple[PriorTraining, list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    training, _ = counting
    metrics = {"val_bits_per_second_counting": 900.0, **prior_metrics(training)}
    print_prior(replace(training, metrics=metrics), Console(width=500))
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("memory: ")]
    is_memory = training.model.shape.architecture == "memory"
    assert ("prior/ablated/val_loss" in curves_of(training.result.history, "prior")) is is_memory
    assert len(said) == is_memory
    for line in said:
        figures = [metrics[name] for name in ("ablated/val_perplexity", "val_perplexity", "probe/ranked")]
        worth = (
            "memory: held-out perplexity {:.2f} without it, {:.2f} with it; probes retrieve top1 .*, ranked {:.2f}, "
        )
        assert re.match(worth.format(*figures), line)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_settings_that_an_architecture_does_not_take_are_those_of_others(architecture: ArchitectureName) -> None:
    of_depth = {"depth_layers", "pretrained", "count_experts", "history_dropout"}
    expected = {"frame": {"memory"}, "memory": set(), "flat": {"memory", *of_depth}}
    assert not_taken(architecture) == expected[architecture]


@pytest.mark.parametrize(("labels", "share"), [((), 0), (("a", "b"), 0.25)])
def test_history_dropout_needs_labels(labels: tuple[str, ...], share: float) -> None:
    some = replace(data(noise(0, 4), noise(1, 2)), labels=labels)
    assert prior_to_train(some, config(history_dropout=0.25), 0).history_dropout.p == share  # type: ignore[union-attr]


@pytest.mark.parametrize("architecture", ["frame", "flat"])
def test_labels_condition_samples(architecture: str) -> None:
    """Label 1 counts up, label 2 down, and nothing else says which."""
    up, down = ([codes[:2][::way].copy() for codes in recordings(seed, 150)] for seed, way in ((0, 1), (1, -1)))
    train, held_out = (
        [codes for pair in zip(up[part], down[part], strict=True) for codes in pair]
        for part in (slice(140), slice(140, 150))
    )
    some = replace(
        data([], []), train=coded(train, 1, [1, 2]), held_out=coded(held_out, 1, [1, 2]), labels=["up", "down"]
    )
    quick = {"epochs": 16, "learning_rate": 0.01, "batch_size": 8}
    settings = config(architecture=architecture, label_dropout=0.2, label_smoothing=0.0, **quick)
    model = fit(some, settings).model

    def share_up(label: int, guidance: float = 1.0) -> float:
        wanted = Sequences(40, 2, natural_ending=False, label=label, sampling=Sampling(guidance=guidance))
        drawn = sample_codes(model, wanted, generators(range(40)))
        steps = [int(codes[1, 0] - codes[0, 0]) % SIZE for codes in drawn]
        return steps.count(1) / max(1, steps.count(1) + steps.count(SIZE - 1))

    assert share_up(1) > 0.8
    assert share_up(2) < 0.2
    assert 0.1 < share_up(0) < 0.9
    assert share_up(1, 3.0) >= share_up(1) - 0.1


def test_the_memorisation_warning_names_near_duplicates() -> None:
    events: list[Any] = []
    train = noise(0, 6, frames=20)
    fit(data(train, train[:4]), config(epochs=12, learning_rate=0.01), callback=events.append)
    last = [event for event in events if isinstance(event, PriorEpochMetrics)][-1]
    assert last.is_memorizing
    assert "Near-duplicates explain it: 4 of 4 held-out recordings have a near-duplicate" in last.memorization_message


def test_fine_levels_of_noise_do_not_hide_that_the_coarse_ones_are_memorised() -> None:
    sides = []
    for seed, count in ((0, 40), (1, 5)):
        rng = np.random.default_rng(seed)
        sides.append(
            [np.hstack([one, one[:, :1], rng.integers(0, SIZE, (len(one), 5))]) for one in recordings(seed, count)]
        )
    train, held_out = map(coded, sides)
    codewords = torch.randn(11, SIZE, 4, generator=torch.Generator().manual_seed(0))
    prior_data = PriorData(train, held_out, codewords, GEOMETRY.model_copy(update={"codebook_sizes": (SIZE,) * 11}))
    facts = fit(prior_data, config(epochs=11)).facts
    assert facts.best_perplexity > 4
    assert facts.memorization.was_memorizing
    assert facts.memorization.val_perplexity < facts.memorization.threshold


def test_tones_that_are_easy_to_predict_make_no_warning() -> None:
    """Notes are held: perplexity 1. The rest is noise, which nobody can know."""
    sides = []
    for seed, count in ((0, 12), (1, 4)):
        rng = np.random.default_rng(seed)
        sides.append([np.insert(rng.integers(0, 4, (20, 2)), [1, 1, 1], 5, axis=1) for _ in range(count)])
    sizes = (SIZE, NOTES, TUNINGS, SIZE, SIZE)
    codewords = torch.randn(5, NOTES, 4, generator=torch.Generator().manual_seed(0))
    prior_data = PriorData(*map(coded, sides), codewords, GEOMETRY.model_copy(update={"codebook_sizes": sizes}))
    facts = fit(prior_data, config(epochs=11, label_smoothing=0.0)).facts
    assert facts.best_perplexity < config().memorization_perplexity
    assert not facts.memorization.was_memorizing
    assert facts.memorization.val_perplexity > 3


def test_counts_that_no_memory_holds_are_refused() -> None:
    codes = CodesConfig(codebook_sizes=(65_536, 65_536), frame_rate=86.0, codec_sha256="cafe")
    plain = get_adaptive_prior_config(50)
    with pytest.raises(
        ParamsError, match=r"prior\.count_experts: expected false where the counts of 2 levels of 65536 codewords"
    ):
        FrameShape.of(plain, codes, 3)
    assert not FrameShape.of(plain.model_copy(update={"count_experts": False}), codes, 3).count_experts
