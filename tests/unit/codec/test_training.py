"""Codec training on a tiny corpus: it improves, does not read held-out recordings, reports, cancels."""

import math
import re
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from distill.audio.augment import waveform
from distill.audio.corpus import Corpus, ManifestRow, load_corpus
from distill.audio.ingest import ingest
from distill.audio.write import write_audio
from distill.codec import initialise as initialise_module
from distill.codec import training as training_module
from distill.codec.constants import DRAWS
from distill.codec.data import CodecData, CropSampler, fixed_pieces
from distill.codec.fidelity import held_out_fidelity
from distill.codec.initialise import build_vqvae, initialise
from distill.codec.layout import NOTES, TUNINGS, FrameLayout
from distill.codec.model import VQVAE
from distill.codec.quantizer import codebook_health, codeword_counts
from distill.codec.streaming import decode, encode
from distill.codec.training import (
    CodecTask,
    train_vqvae,
    utilization_warnings,
)
from distill.demo.recordings import demo_recordings
from distill.errors import Interrupted, ParamsError
from distill.execution import Execution
from distill.params import VQVAEConfig, get_adaptive_vqvae_config
from distill.progress import ProgressReport
from distill.storage.weights import weights_sha256
from distill.training import VQEpochMetrics, VQStepMetrics, WatchMetrics
from distill.training.distributed import make_fabric
from distill.training.events import HEALTH, health_from_metrics
from distill.training.interruption import Interruption
from distill.training.run import Run

FABRIC = make_fabric(Execution("cpu", "fp32"))
SIZES = {"codebook_size": 16, "num_quantizers": 6, "hidden_size": 32, "num_layers": 2, "latent_size": 16}
CONFIG = get_adaptive_vqvae_config(8, epochs=12, learning_rate=3e-3, batch_size=8, crop_seconds=0.25, **SIZES)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    for number, recording in enumerate(demo_recordings()):
        if number % 5 == 3:
            path = folder / "in" / f"{recording.name.replace('/', '_')}.wav"
            write_audio(path, recording.samples[: recording.sample_rate // 2], recording.sample_rate)
    ingest(folder / "in", folder / "out", 16_000, 0.0)
    return load_corpus(folder / "out")


def train(corpus: Corpus, config: VQVAEConfig = CONFIG, **options: Any) -> Any:
    return train_vqvae(corpus, config, 0.3, 0, FABRIC, **options)


@pytest.fixture
def quick_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit without trials of augmentation and without synthetic sounds."""
    monkeypatch.setattr(initialise_module, "_best_strength", lambda *_: 1.0)
    monkeypatch.setattr(initialise_module, "_synthetic_features", lambda *_: [])


def test_the_fit_ends_when_asked(corpus: Corpus) -> None:
    asked = Interruption()
    asked.signal = signal.SIGINT
    with pytest.raises(Interrupted, match="interrupted by SIGINT: before the first step; run the same command again"):
        train(corpus, interruption=asked)


@pytest.mark.parametrize(("rate", "is_cold"), [(16_000, True), (24_000, False), (48_000, False), (96_000, True)])
def test_a_decoder_without_pretrained_weights_is_warned_of(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, rate: int, is_cold: bool
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(training_module, "initialise", lambda *_, **__: None)
    monkeypatch.setattr(ProgressReport, "say", lambda _, line: lines.append(line))
    model = build_vqvae(rate, get_adaptive_vqvae_config(8), 0, warm=False)
    data = CodecData(Corpus(corpus.folder, rate, corpus.entries), corpus.entries, corpus.entries)
    training_module._fit(model, data, 0, Run(FABRIC))
    expected = (
        rf"decoder starts from random weights: no pretrained weights exist for {rate} Hz with vqvae\.hidden_size 256"
    )
    assert [bool(re.search(expected, line)) for line in lines] == [True] * is_cold


def test_the_held_out_loss_is_the_mean_of_its_pieces(corpus: Corpus) -> None:
    entries = list(corpus.entries)
    torch.manual_seed(0)
    codec = build_vqvae(corpus.sample_rate, CONFIG, 0).eval()
    task = CodecTask(codec, CodecData(corpus, entries, entries), CONFIG, 0, FABRIC)
    with torch.no_grad():
        measured = task.validate()
        output = codec(*task.val_pieces, DRAWS)
        whole = task.loss(output.audio, task.val_pieces.audio)
    assert len(task.held_out_losses) == len(task.val_pieces.audio) > CONFIG.batch_size
    assert measured["val_recon_loss"] == pytest.approx(sum(task.held_out_losses) / len(task.val_pieces.audio))
    for name in ("recon", "mel", "envelope"):
        assert measured[f"val_{name}_loss"] == pytest.approx(float(whole[name]), rel=1e-4), name


def test_a_batch_that_memory_does_not_hold_is_refused(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_module, "free_memory", lambda: 32 << 20)
    codec = build_vqvae(corpus.sample_rate, CONFIG, 0)
    with pytest.raises(
        ParamsError, match=r"vqvae\.batch_size: expected at most 6 crops of \d+ samples in 32 MB of memory, found 8"
    ):
        CodecTask(codec, CodecData(corpus, corpus.entries, corpus.entries), CONFIG, 0, FABRIC)


@pytest.mark.usefixtures("quick_fit")
def test_training_improves_on_its_first_epoch_and_reports_events(corpus: Corpus) -> None:
    events: list[Any] = []
    config = CONFIG.model_copy(update={"epochs": 8, "patience": 0, "codebook_size": 128, "crop_seconds": 0.5})
    # Of so few recordings it depends on those that are held out whether training gains anything.
    training = train_vqvae(corpus, config, 0.3, 1, FABRIC, callback=events.append)
    rows = training.result.history
    epochs = [event for event in events if isinstance(event, VQEpochMetrics)]
    steps = [event for event in events if isinstance(event, VQStepMetrics)]
    assert epochs[-1].val_recon_loss < 0.99 * epochs[0].val_recon_loss
    assert [event.epoch for event in epochs] == [row["epoch"] - 1 for row in rows] == list(range(8))
    assert steps[0].codebook_health == {}
    assert list(epochs[0].codebook_health) == [f"level_{level}" for level in range(6)]
    assert set(epochs[0].codebook_health["level_0"]) == {"utilization", "perplexity", "dead_codes"}
    assert epochs[0].overfitting_gap == pytest.approx(epochs[0].val_recon_loss - rows[0]["train_recon_loss"])
    assert rows[0]["codebook/level_1/perplexity"] == epochs[0].codebook_health["level_1"]["perplexity"]
    size = steps[0].total_steps
    assert [event.step for event in steps] == [*range(1, size + 1)] * 8
    assert [event.overall_step for event in steps] == [*range(1, steps[-1].overall_total_steps + 1)]
    assert not training.model.training
    best = min(epochs, key=lambda event: event.val_loss)
    assert (training.result.best_epoch, training.codebook_health) == (best.epoch + 1, best.codebook_health)
    probes = [event for event in events if isinstance(event, WatchMetrics)]
    assert [event.step for event in probes][:4] == [1, 2, 3, 4]
    assert {event.figure for event in probes} == {"recon_loss"}
    assert training.result.counts["rollbacks"] == 0


def test_training_never_reads_a_held_out_recording(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    data, read, original = CodecData.split(corpus, 0.3, 0), [], Corpus.read

    def noting(self: Corpus, entry: ManifestRow, *rest: Any) -> Any:
        read.append(entry)
        return original(self, entry, *rest)

    monkeypatch.setattr(Corpus, "read", noting)
    model = build_vqvae(corpus.sample_rate, CONFIG, 0)
    initialise(model, corpus, data.train, 0)
    assert {entry.recording_id for entry in read} == {entry.recording_id for entry in data.train}
    task = CodecTask(model, data, CONFIG, 0, FABRIC)
    read.clear()
    assert len(list(task.batches(0, 0))) == task.steps_per_epoch
    held_out = {entry.recording_id for entry in data.held_out}
    assert held_out
    assert not held_out & {entry.recording_id for entry in read}


@pytest.mark.usefixtures("quick_fit")
def test_soft_recordings_train_the_same_codec_as_loud_ones(tmp_path: Path) -> None:
    """Bit by bit, with its figures, whatever the power of two that they are softer by."""
    trained, measured = [], []
    config = get_adaptive_vqvae_config(4, epochs=1, crop_seconds=0.25, **{**SIZES, "num_quantizers": 6})
    sounds = [(one.samples[:4000] * 2048).round() / 2048 for one in [*demo_recordings()][::12]]
    for gain in (1, 16):
        folder = tmp_path / str(gain)
        (folder / "in").mkdir(parents=True)
        for number, sound in enumerate(sounds):
            soundfile.write(folder / "in" / f"{number}.wav", sound / gain, 16_000, subtype="FLOAT")
        ingest(folder / "in", folder / "out", 16_000, 0.0)
        found = load_corpus(folder / "out")
        entries = tuple(replace(entry, group=entry.path) for entry in found.entries)  # the same sides
        corpus = Corpus(found.folder, found.sample_rate, entries)
        trained.append(train(corpus, config))
        measured.append(held_out_fidelity(trained[-1].model, CodecData.split(corpus, 0.3, 0)))
    loud, soft = (one.model for one in trained)
    assert soft.architecture.input_gain == 16 * loud.architecture.input_gain
    assert weights_sha256(soft) == weights_sha256(loud)
    assert measured[0] == measured[1]
    assert trained[0].result.best_metrics == trained[1].result.best_metrics


@pytest.mark.usefixtures("quick_fit")
def test_the_librarys_quantizer_is_trained_to_the_end(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[torch.Tensor] = []

    def noting(model: VQVAE, *args: Any, **options: Any) -> None:
        initialise(model, *args, **options)
        fitted.append(model.quantizer.codebooks.clone())

    monkeypatch.setattr(training_module, "initialise", noting)
    training = train(corpus, CONFIG.model_copy(update={"quantizer": "residual", "epochs": 2}))
    assert len(training.result.history) == 2
    last = training.result.last_tensors["quantizer.codebooks"]
    assert not torch.equal(last, fitted[0])  # the library moved them
    sound = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0)) * 0.1
    codes = encode(training.model, sound)
    assert codes[0].amax(dim=0).lt(torch.tensor(training.model.architecture.codebook_sizes)).all()
    assert decode(training.model, codes).isfinite().all()


@pytest.mark.usefixtures("quick_fit")
def test_cancel_keeps_a_usable_codec(corpus: Corpus) -> None:
    cancel = threading.Event()
    training = train(corpus, callback=lambda _: cancel.set(), cancel_event=cancel)
    assert training.result.counts["stopped_as_asked"]
    assert decode(training.model, torch.zeros(1, 3, 6, dtype=torch.int64)).isfinite().all()


def test_health_agrees_with_counting_and_low_use_is_warned_of_but_of_loudness() -> None:
    layout = FrameLayout((9, NOTES, TUNINGS, 9, 9, 10))
    divisors = torch.tensor([5, 5, 5, 5, 5, 1])
    codes = torch.randint(9, (40, 6), generator=torch.Generator().manual_seed(0)) // divisors
    health = codebook_health(codeword_counts(codes, layout.codebook_sizes), layout.codebook_sizes)
    for values, column, size in zip(health.values(), codes.T.tolist(), layout.codebook_sizes, strict=True):
        shares = [column.count(code) / 40 for code in set(column)]
        expected = (len(shares) / size, math.exp(-sum(share * math.log(share) for share in shares)), size - len(shares))
        assert tuple(values.values()) == pytest.approx(expected)
    assert utilization_warnings(health, layout, 35) == ()  # so few frames use few codewords
    (warning,) = utilization_warnings(health, layout, 40)
    assert warning.startswith("shape 1: 22% of the codewords are used on held-out recordings (expected 30 % or more)")
    many = {f"codebook/level_{level}/{name}": 0.5 for level in sorted(range(16), key=str) for name in HEALTH}
    assert list(health_from_metrics(many)) == [f"level_{level}" for level in range(16)]


def test_crops_are_a_function_of_epoch_and_step_and_each_process_gets_its_own(corpus: Corpus) -> None:
    sampler = CropSampler(corpus, corpus.entries, 5, 2048, 512, seed=3)
    batches = list(sampler.batches(1, 0))
    assert len(batches) == sampler.steps_per_epoch
    for again, batch in zip(sampler.batches(1, 1), batches[1:], strict=True):
        assert all(map(torch.equal, again, batch))
    assert not torch.equal(batches[0].audio, next(iter(sampler.batches(2, 0))).audio)
    for number in range(3):
        for own, batch in zip(sampler.batches(1, 0, slice(number, None, 3)), batches, strict=True):
            assert all(torch.equal(part, whole[number::3]) for part, whole in zip(own, batch, strict=True))


def test_a_silent_crop_is_drawn_again(tmp_path: Path) -> None:
    for seed in range(2):  # a noise of 0.1 s every 2.5 s
        sound = np.zeros((4, 20_000))
        sound[:, :800] = np.random.default_rng(seed).uniform(-0.5, 0.5, (4, 800))
        soundfile.write(tmp_path / f"{seed}.wav", sound.ravel(), 8000)
    ingest(tmp_path, tmp_path / "out", 8000, 0.5)
    corpus = load_corpus(tmp_path / "out")
    sampler = CropSampler(corpus, corpus.entries, 4, 2048, 512, seed=3)
    batches = list(sampler.batches(0, 0))
    assert sum(bool(crop.any()) for batch in batches for crop in batch.audio) > 0.9 * 4 * sampler.steps_per_epoch
    assert torch.equal(next(iter(sampler.batches(0, 0, slice(1, None, 2)))).audio, batches[0].audio[1::2])


def test_pieces_are_the_recordings_end_to_end(corpus: Corpus) -> None:
    joined = torch.cat([waveform(corpus, entry) for entry in corpus.entries])
    pieces, noise = fixed_pieces(corpus, corpus.entries, 3000, 500, 10_000)
    assert noise.shape == (len(pieces), 6, 8)
    assert torch.equal(pieces.flatten()[: len(joined)], joined)
    assert not pieces.flatten()[len(joined) :].any()
    some = fixed_pieces(corpus, corpus.entries, 3000, 500, 7)
    assert (some.audio.shape, some.noise.shape) == ((7, 3000), (7, 6, 8))
    for number in range(3):
        own = fixed_pieces(corpus, corpus.entries, 3000, 500, 7, slice(number, None, 3))
        assert all(torch.equal(part, whole[number::3]) for part, whole in zip(own, some, strict=True))
