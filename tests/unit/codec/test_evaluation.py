"""Evaluation of a codec: held-out recordings in metrics, in one line and as previews, and what the console says."""

import io
import json
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from rich.console import Console

from distill import progress as progress_module
from distill.audio.augment import waveform
from distill.audio.corpus import Corpus, ManifestRow, load_corpus
from distill.audio.ingest import ingest
from distill.audio.partial_noise import PartialNoise, partial_noise_summary
from distill.audio.partials import Tone, tone_summary
from distill.codec.artifact import load_codec
from distill.codec.data import CodecData
from distill.codec.fidelity import Fidelity, fidelity_line, held_out_fidelity, summary
from distill.codec.layout import FrameLayout, level_names
from distill.codec.model import VQVAE
from distill.codec.streaming import decode, encode, noise_of
from distill.codec.training import (
    PREVIEW_NAMES,
    PREVIEWS,
    CodecConsole,
    CodecTraining,
    print_codec,
    train_codec,
    train_vqvae,
    utilization_warnings,
)
from distill.execution import Execution
from distill.params import Params
from distill.progress import ProgressReport
from distill.training.distributed import make_fabric
from distill.training.events import TrainingResult, VQEpochMetrics, kept_weights
from unit.tiny import SIZES, tiny_codec, write_tone

SMALL = {"epochs": 3, "codebook_size": 8, "num_quantizers": 6, "hidden_size": 16, "num_layers": 1, "latent_size": 8}
PARAMS = Params.model_validate(
    {"corpus": {"path": "unused"}, "vqvae": {**SMALL, "crop_seconds": 0.25}, "split": {"val_fraction": 0.5}}
)
CONFIG = PARAMS.vqvae_config(6)
EXECUTION = Execution("cpu", "fp32")
Trained = tuple[CodecTraining, Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(6):
        write_tone(folder / "in" / f"{number}.wav", 0.3 + 0.02 * number, pitch=150.0 * (number + 1))
    ingest(folder / "in", folder / "out", 16_000, 0.0)
    return folder / "out"


@pytest.fixture(scope="module")
def data(folder: Path) -> CodecData:
    return CodecData.split(load_corpus(folder), 0.5, PARAMS.seed)


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A training and its artefact."""
    target = tmp_path_factory.mktemp("trained")
    return train_codec(folder, target / "vqvae", PARAMS, EXECUTION, target), target / "vqvae"


def alone(codec: VQVAE, corpus: Corpus, entry: ManifestRow) -> NDArray[np.float32]:
    """A recording by its codes and its noise floor."""
    codes = encode(codec, waveform(corpus, entry)[None])
    noise = noise_of(codec, corpus.side_info(entry), codes.shape[1])
    return np.asarray(decode(codec, codes, noise)[0, : entry.samples].numpy())


def test_the_metrics_of_a_training_are_those_of_its_saved_codec_on_held_out_recordings(
    trained: Trained, data: CodecData
) -> None:
    training, codec = trained[0], load_codec(trained[1])[0]
    corpus = data.corpus
    assert 0 < len(data.held_out) < len(corpus.entries)
    pairs = [(corpus.read(entry), alone(codec, corpus, entry), corpus.sample_rate) for entry in data.held_out]
    by_hand = {f"fidelity/{key}": value for key, value in summary(Fidelity.measure(*pair) for pair in pairs).items()}
    by_hand |= {f"tone/{key}": value for key, value in tone_summary([Tone.measure(*pair) for pair in pairs]).items()}
    noise = partial_noise_summary(PartialNoise.measure(one, rate, other) for one, other, rate in pairs)
    by_hand |= {f"partial_noise/{key}": value for key, value in noise.items()}
    measures = ("fidelity/", "tone/", "partial_noise/")
    found = {key: value for key, value in training.metrics.items() if key.startswith(measures)}
    assert found == pytest.approx(by_hand, abs=1e-3)
    assert {"fidelity/level_db/median", "fidelity/envelope/p10", "fidelity/level_db/mean_absolute"} <= set(found)
    assert {"tone/tonal_originals", "tone/tonal_decodes"} <= set(found)
    assert held_out_fidelity(codec, data) == found
    assert set(training.metrics) >= {"val_loss", "codebook/level_0/utilization", "best_epoch", "epochs_trained"}


def test_the_line_has_medians_and_percentiles_with_signs_and_units() -> None:
    medians = {"level_db": -0.42, "attack_ms": 2.0, "pre_attack_db": 0.2, "envelope": 0.934}
    figures = {f"fidelity/{name}/median": value for name, value in medians.items()}
    figures |= {f"fidelity/{name}/p10": value - 0.5 for name, value in medians.items()}
    figures |= {f"fidelity/{name}/p90": value + 1 for name, value in medians.items()}
    assert fidelity_line(figures) == (
        "held-out sound: level -0.4 dB (-0.9 to +0.6), attack +2.0 ms (+1.5 to +3.0), "
        "before the attack +0.2 dB (-0.3 to +1.2), envelope 0.93 (0.43 to 1.93) "
        "(medians, and from the 10th to the 90th percentile, decoded beside original)"
    )
    assert fidelity_line({"val_loss": 2.0}) == ""


def test_held_out_recordings_are_previewed_as_the_best_codec_makes_them(trained: Trained, data: CodecData) -> None:
    training, previews = trained[0], trained[1] / "previews"
    count = min(PREVIEWS, len(data.held_out))
    names = {f"preview_{n}{end}" for n in range(count) for end in ("_original.wav", "_best.wav", ".png")}
    assert {path.name for path in previews.iterdir()} == {*names, PREVIEW_NAMES}
    named = json.loads((previews / PREVIEW_NAMES).read_text())
    assert named["preview_0_original.wav"] == data.held_out[0].path
    assert matplotlib.image.imread(previews / "preview_0.png").shape[0] == 440  # a row of spectrograms for each sound
    corpus, first = data.corpus, data.held_out[0]
    for name, samples in (("original", corpus.read(first)), ("best", alone(training.model, corpus, first))):
        written, rate = soundfile.read(previews / f"preview_0_{name}.wav", dtype="float32")
        assert rate == 16_000
        assert np.abs(written - samples / max(1.0, np.abs(samples).max())).max() < 1e-4, name


def test_a_training_is_reproducible_and_previews_do_not_change_it(
    folder: Path, data: CodecData, trained: Trained, tmp_path: Path
) -> None:
    train_codec(folder, tmp_path / "vqvae", PARAMS, EXECUTION, tmp_path)
    for path in trained[1].rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "vqvae" / path.relative_to(trained[1])).read_bytes(), path.name
    without = train_vqvae(data.corpus, CONFIG, 0.5, PARAMS.seed, make_fabric(EXECUTION))
    expected = trained[0].result.last_tensors
    assert all(torch.equal(value, without.result.last_tensors[key]) for key, value in expected.items())


def health(*used: float) -> dict[str, dict[str, float]]:
    return {
        f"level_{level}": {"utilization": share, "perplexity": 9.5, "dead_codes": 100 * (1 - share)}
        for level, share in enumerate(used)
    }


def test_each_level_is_warned_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 1e9)
    monkeypatch.setattr(progress_module, "LastingConsole", lambda **_: Console(file=screen, width=120))
    with ProgressReport("codec") as progress:
        show = CodecConsole(progress)
        for number, used in enumerate([(0.5, 0.25), (0.5, 0.24), (0.2, 0.9)]):
            measured = health(*[0.1] * 4, *used)
            told = utilization_warnings(measured, FrameLayout(SIZES))
            show(VQEpochMetrics(number, 3, 1.5, 1.75, 1.7, 0.2, 0.1, 1e-3, 1.0, 1.0, measured, told))
    advice = "of the codewords are used on held-out recordings (expected 30 % or more): lower "
    advice += "vqvae.codebook_size (--codebook-size), or add recordings that differ"
    assert screen.getvalue().splitlines() == [
        f"warning: epoch 1: shape 2: 25% {advice} more",
        f"warning: epoch 3: shape 1: 20% {advice} more",
    ]


@pytest.mark.parametrize(("epochs", "shown"), [(1, 1), (12, 7), (16, 9), (500, 8)])
def test_the_health_of_each_level_is_shown_a_few_times_in_80_columns(
    monkeypatch: pytest.MonkeyPatch, epochs: int, shown: int
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 1e9)
    monkeypatch.setattr(progress_module, "LastingConsole", lambda **_: Console(file=screen, width=80))
    measured, names = health(*[0.25] * 15, 1.0), level_names(16)
    with ProgressReport("codec") as progress:
        show = CodecConsole(progress)
        for epoch in range(epochs):
            show(VQEpochMetrics(epoch, epochs, 1.5, 1.75, 1.7, 0.2, 0.1, 1e-3, 1.0, 1.0, measured, (), names))
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) == 8 * shown
    assert lines[0].split() == f"epoch 1 of {epochs} loudness note tuning atom shape 1 2 3 4 5 6".split()
    assert [line.split() for line in lines[5:8]] == [
        ["used,", "%", *["25"] * 5, "100"],
        ["perplexity", *["10"] * 6],
        ["never", "used", *["75"] * 5, "0"],
    ]


@pytest.mark.parametrize(
    ("best_epoch", "rows", "line"),
    [
        (1, [(3.0, 2.5), (2.0, 2.75)], "best epoch 1 of 2, loss 3.000, held out 2.500; at the end 2.000 and 2.750"),
        (
            0,
            [(3.0, 2.5)],
            f"{kept_weights(0, 1)}, held out 2.250; at the end 3.000 and 2.500",
        ),
        (0, [], f"{kept_weights(0, 0)}, held out 2.250"),
    ],
)
def test_the_end_has_losses_a_row_for_each_level_and_the_warnings(
    best_epoch: int, rows: list[tuple[float, float]], line: str
) -> None:
    history = [{"train_loss": train, "val_loss": val} for train, val in rows]
    best = history[best_epoch - 1] if best_epoch else {"val_loss": 2.25}
    best |= dict.fromkeys(("val_recon_loss", "val_mel_loss", "val_envelope_loss", "val_commit_loss"), 0.5)
    measured = health(*[0.1] * 4, 0.5, 0.1)
    best |= {f"codebook/{level}/{name}": value for level, row in measured.items() for name, value in row.items()}
    result = TrainingResult(
        {}, {}, best_epoch, best, history, remarks=[kept_weights(best_epoch, len(rows)), "it still fell"]
    )
    screen = io.StringIO()
    tones = {"tone/tonal_originals": 0.5, "tone/tonal_decodes": 0.25}
    tones |= {"partial_noise/distance": 8, "partial_noise/1250/original": -50, "partial_noise/1250/decoded": -42}
    training = CodecTraining(result=result, model=tiny_codec(), recordings=12, tier="small", metrics=tones)
    print_codec(training, Console(file=screen, width=60))
    lines = screen.getvalue().splitlines()
    assert lines.pop(1) == "held-out tones: 50% tonal, 25% once decoded"
    between = "8.0 dB from the originals': -42 dB (-50) from 1250 Hz"
    assert lines.pop(1) == f"noise between partials, decoded beside held out: {between}"
    losses = "recon 0.500, mel 0.500, envelope 0.500, commit 0.500"
    assert lines[0] == f"codec of 12 usable recordings, tier small: {line}; of the weights that are kept {losses}"
    assert [text.partition("  ")[0] for text in lines[3:9]] == list(FrameLayout(SIZES).names)
    assert lines[9].startswith("warning: shape 2: 10% of the codewords are used")
    assert lines[-1] == "it still fell"
    assert sum(kept_weights(best_epoch, len(rows)) in text for text in lines) == 1
