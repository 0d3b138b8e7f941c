"""Evaluation of a codec: held-out recordings whole, in metrics and in one line."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console
from unit.tiny import write_tone

from distill.audio.augment import waveform
from distill.audio.corpus import Corpus, load_corpus
from distill.audio.ingest import ingest
from distill.codec import evaluation
from distill.codec.artifact import load_codec
from distill.codec.evaluation import decoded_pairs, fidelity_line, held_out_fidelity
from distill.codec.fidelity import Fidelity, summary
from distill.codec.model import VQVAE
from distill.codec.report import print_codec
from distill.codec.run import train_codec
from distill.codec.training import CodecTraining
from distill.execution import Execution
from distill.params import Params
from distill.split import split_groups
from distill.training.folders import RunFolders
from distill.training.run import FinishedRun

SECONDS = 0.2  # of a recording that is compared
PARAMS = Params.model_validate(
    {
        "corpus": {"path": "unused"},
        "vqvae": {
            **{"epochs": 1, "codebook_size": 8, "num_quantizers": 2, "hidden_size": 16, "num_layers": 1},
            **{"latent_size": 8, "crop_seconds": 0.25},
        },
        "split": {"val_fraction": 0.5},
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(6):
        write_tone(folder / "in" / f"{number}.wav", 0.3 + 0.02 * number, pitch=150.0 * (number + 1))
    ingest(folder / "in", folder / "out", 16_000, 0.0)
    return folder / "out"


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Corpus:
    return load_corpus(folder)


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FinishedRun[CodecTraining], VQVAE]:
    """A training, and the codec as it was saved."""
    target = tmp_path_factory.mktemp("trained")
    run = train_codec(folder, target / "vqvae", PARAMS, Execution("cpu", "fp32"), RunFolders.below(target, None))
    return run, load_codec(target / "vqvae")[0]


def alone(codec: VQVAE, audio: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(codec.decode(codec.encode(audio[None]))[0, : len(audio)].numpy())


def test_the_metrics_of_a_training_are_those_of_its_saved_codec_on_held_out_recordings(
    trained: tuple[FinishedRun[CodecTraining], VQVAE], corpus: Corpus
) -> None:
    run, codec = trained
    sides = split_groups((entry.group for entry in corpus.entries), PARAMS.seed, 0.5)
    held_out = [waveform(corpus, entry) for entry in corpus.entries if sides[entry.group] == "val"]
    assert 0 < len(held_out) < len(corpus.entries)
    by_hand = summary(Fidelity.measure(one.numpy(), alone(codec, one), corpus.sample_rate) for one in held_out)
    found = {key: value for key, value in run.figures.items() if key.startswith("fidelity/")}
    assert found == pytest.approx({f"fidelity/{key}": value for key, value in by_hand.items()}, abs=1e-3)
    assert {"fidelity/level_db/median", "fidelity/envelope/p10", "fidelity/level_db/mean_absolute"} <= set(found)


def test_measuring_again_gives_the_same_metrics(
    trained: tuple[FinishedRun[CodecTraining], VQVAE], corpus: Corpus
) -> None:
    run, codec = trained
    again = held_out_fidelity(codec, corpus, run.trained.held_out)
    assert again == {key: value for key, value in run.figures.items() if key.startswith("fidelity/")}


def test_pairs_are_the_first_seconds_and_as_long_as_each_other(
    trained: tuple[FinishedRun[CodecTraining], VQVAE], corpus: Corpus
) -> None:
    pairs = list(decoded_pairs(trained[1], corpus, corpus.entries, SECONDS))
    assert len(pairs) == len(corpus.entries)
    for entry, (original, decoded) in zip(corpus.entries, pairs, strict=True):
        sound = waveform(corpus, entry, 0, round(SECONDS * corpus.sample_rate))
        assert np.array_equal(original, sound.numpy())
        assert decoded.shape == original.shape
        assert np.allclose(decoded, alone(trained[1], sound), atol=1e-4)


def test_long_recordings_are_fewer(
    trained: tuple[FinishedRun[CodecTraining], VQVAE], corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "TOTAL_SECONDS", 0.8)  # of recordings of .3 to .4 s: two of six
    some = held_out_fidelity(trained[1], corpus, corpus.entries)
    pairs = decoded_pairs(trained[1], corpus, [corpus.entries[0], corpus.entries[-1]])
    two = summary(Fidelity.measure(*pair, corpus.sample_rate) for pair in pairs)
    assert some == {f"fidelity/{key}": value for key, value in two.items()}


def test_the_line_has_medians_with_signs_and_units() -> None:
    medians = {"level_db": -0.42, "peak_db": -1.25, "attack_ms": 2.0, "envelope": 0.934}
    medians |= {"treble_db": 0.31, "flutter_db": 0.18}
    figures = {f"fidelity/{name}/median": value for name, value in medians.items()}
    assert fidelity_line({**figures, "fidelity/level_db/p10": -9.0}) == (
        "held-out sound: level -0.4 dB, peak -1.2 dB, attack +2.0 ms, envelope 0.93, above 6 kHz +0.3 dB, "
        "flutter +0.2 dB (medians, decoded beside original)"
    )


@pytest.mark.parametrize("figures", [{}, {"val_loss": 2.0}])
def test_without_measures_there_is_no_line(figures: Mapping[str, float]) -> None:
    assert fidelity_line(figures) == ""


def test_the_report_of_a_training_has_the_line(trained: tuple[FinishedRun[CodecTraining], VQVAE]) -> None:
    screen = io.StringIO()
    print_codec(trained[0].trained, trained[0].figures, Console(file=screen, width=60))
    lines = screen.getvalue().splitlines()
    assert lines[1] == fidelity_line(trained[0].figures)
    assert lines[1].startswith("held-out sound: level ")
