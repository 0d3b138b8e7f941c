"""Previews: the right weights at each moment, the same files each time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from unit.tiny import write_tone

from distill.audio.augment import waveform
from distill.audio.corpus import Corpus, load_corpus
from distill.audio.ingest import ingest
from distill.codec.build import build_vqvae
from distill.codec.initialise import initialise
from distill.codec.previews import PREVIEWS, CodecPreviews
from distill.codec.training import CodecTraining
from distill.execution import Execution
from distill.params import get_adaptive_vqvae_config
from distill.split import split_groups
from distill.training import train_vqvae
from distill.training.fabric import make_fabric

FABRIC = make_fabric(Execution("cpu", "fp32"))
CONFIG = get_adaptive_vqvae_config(
    8, epochs=3, codebook_size=8, num_quantizers=2, hidden_size=16, num_layers=1, latent_size=8, crop_seconds=0.25
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(4):
        write_tone(folder / "in" / f"{number}.wav", 0.3 + 0.02 * number, pitch=150.0 * (number + 1))
    ingest(folder / "in", folder / "out", 16_000, 0.0)
    return load_corpus(folder / "out")


def train(corpus: Corpus) -> tuple[CodecPreviews, CodecTraining]:
    previews = CodecPreviews(corpus)
    training = train_vqvae(corpus, CONFIG, 0.5, 0, FABRIC, on_start=previews.start)
    previews.finish(training)
    return previews, training


@pytest.fixture(scope="module")
def trained(corpus: Corpus) -> tuple[CodecPreviews, CodecTraining]:
    return train(corpus)


def reconstruction(codec: Any, audio: torch.Tensor) -> Any:
    return codec.decode(codec.encode(audio[None]))[0, : len(audio)].numpy()


def test_each_moment_is_reconstructed_with_its_own_weights(
    corpus: Corpus, trained: tuple[CodecPreviews, CodecTraining], tmp_path: Path
) -> None:
    previews, training = trained
    previews.write(tmp_path)
    count = min(PREVIEWS, len(training.held_out))
    names = {f"preview_{n}_{moment}.wav" for n in range(count) for moment in ("original", "start", "best", "end")}
    assert {path.name for path in tmp_path.iterdir()} == names | {f"preview_{n}.png" for n in range(count)}
    sides = split_groups((entry.group for entry in corpus.entries), 0, 0.5)
    start = build_vqvae(16_000, CONFIG, 0)
    initialise(start, corpus, [entry for entry in corpus.entries if sides[entry.group] == "train"], 0)
    end = build_vqvae(16_000, CONFIG, 0).eval()
    end.load_state_dict(training.result.last_tensors)
    entry = training.held_out[0]
    assert sides[entry.group] == "val"
    audio = waveform(corpus, entry)
    expected = {"original": audio.numpy(), "best": reconstruction(training.model, audio)}
    expected |= {"start": reconstruction(start, audio), "end": reconstruction(end, audio)}
    for moment, samples in expected.items():
        written, rate = soundfile.read(tmp_path / f"preview_0_{moment}.wav", dtype="float32")
        assert rate == 16_000
        assert np.abs(written - samples / max(1.0, np.abs(samples).max())).max() < 1e-4, moment
    assert not np.array_equal(expected["start"], expected["end"])


def test_images_have_a_row_for_each_moment(
    corpus: Corpus, trained: tuple[CodecPreviews, CodecTraining], tmp_path: Path
) -> None:
    import matplotlib.image

    previews = CodecPreviews(corpus)
    model = build_vqvae(16_000, CONFIG, 0)
    initialise(model, corpus, corpus.entries, 0)
    previews.start(model, corpus.entries[:1])
    previews.write(tmp_path / "first")
    assert not list((tmp_path / "first").glob("*_best.wav"))
    trained[0].write(tmp_path / "last")
    heights = [matplotlib.image.imread(tmp_path / name / "preview_0.png").shape[0] for name in ("first", "last")]
    assert heights == [440, 840]


def test_previews_are_reproducible_and_do_not_change_training(
    corpus: Corpus, trained: tuple[CodecPreviews, CodecTraining], tmp_path: Path
) -> None:
    first, training = trained
    second, _ = train(corpus)
    first.write(tmp_path / "a")
    second.write(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    without_previews = train_vqvae(corpus, CONFIG, 0.5, 0, FABRIC)
    assert all(
        torch.equal(value, without_previews.result.last_tensors[key])
        for key, value in training.result.last_tensors.items()
    )
