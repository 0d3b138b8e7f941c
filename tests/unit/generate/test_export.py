"""A model as ONNX files: a player without PyTorch draws the same codes and makes the same sounds of them."""

import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from examples.play_onnx import Graph, Phases, Random, decoded, drawn

import distill.generate.export as module
from distill.audio.side_info import SideInfo
from distill.codec.model import VQVAE
from distill.codec.streaming import decode, noise_of
from distill.codes.store import Codes
from distill.generate.export import export
from distill.generate.sampling.sampler import Sampling, Sequences, generators, sample_codes, uniform
from distill.prior.base import Prior
from distill.storage.files import made_by_distill, write_bytes
from unit.command import CommandLine
from unit.generate.sampling.test_sampler import SIZES, sharp_prior
from unit.tiny import prior_shape, tonal_codec, tonal_codes, write_prior_model

FLOORS = ([[2] * 8], [[4, 5, 6, 7, 8, 9, 10, 11]], [[12] * 8])
KNOWN = [SideInfo(noise=np.array(floor, np.uint8)) for floor in FLOORS]
MEDIAN = KNOWN[1]
LABELS, LONGEST = ["bell", "drum"], 28  # frames


@pytest.fixture(scope="module")
def codec() -> VQVAE:
    return tonal_codec()


@pytest.fixture(scope="module")
def prior() -> Prior:
    made = sharp_prior("frame", LABELS, scale=0.4)
    made.longest.fill_(LONGEST)
    return made


@pytest.fixture(scope="module")
def folder(codec: VQVAE, prior: Prior, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("exported")
    assert [path.name for path in export(codec, prior, made, recordings=KNOWN)] == ["decoder.onnx", "prior.onnx"]
    return made


@pytest.fixture(scope="module")
def decoder(folder: Path) -> Graph:
    return Graph(folder / "decoder.onnx")


@pytest.fixture(scope="module")
def step(folder: Path) -> Graph:
    return Graph(folder / "prior.onnx")


def test_the_random_numbers_are_those_of_torch() -> None:
    ours, theirs = generators([12345])[0], Random(12345)
    for count in (1, 10, 16, 700):
        np.testing.assert_array_equal(theirs.uniform(count), uniform(ours, count))


@pytest.mark.parametrize(("label", "temperature"), [("", 1.0), ("drum", 1.0), ("bell", 0.7)])
def test_the_same_codes_are_drawn_over_several_windows(
    prior: Prior, step: Graph, label: str, temperature: float
) -> None:
    number = LABELS.index(label) + 1 if label else 0
    wanted = Sequences(1, 40, False, number, sampling=Sampling(temperature))
    (ours,) = sample_codes(prior, wanted, generators([7]))
    theirs = np.array(list(islice(drawn(step, 7, temperature, label, may_end=False), 40)))
    np.testing.assert_array_equal(theirs, ours)
    assert len(np.unique(ours, axis=0)) > 10


def test_sounds_end_where_they_end_by_themselves(prior: Prior, step: Graph) -> None:
    lengths = []
    for seed in range(12):
        (ours,) = sample_codes(prior, Sequences(1, 60), generators([seed]))
        np.testing.assert_array_equal(list(drawn(step, seed)), ours)
        lengths.append(len(ours))
    assert min(lengths) < max(lengths) == LONGEST


def test_codes_can_be_kept(step: Graph) -> None:
    kept = np.array([[3, -1, -1, 5, -1]])
    inputs = {
        "frames": np.full((1, 1, len(SIZES)), step.facts["bos"]),
        "past": np.zeros((1, 0, len(SIZES)), np.int64),
        "cache": np.zeros(step.facts["cache"], np.float32),
        **{name: np.zeros(1, np.int64) for name in ("position", "label")},
        "temperature": np.ones(1, np.float32),
        "may_end": np.zeros(1, bool),
    }
    drawn_codes = [step(**inputs, kept=kept, numbers=Random(seed).uniform(len(SIZES))[None])[0][0] for seed in range(8)]
    assert {(codes[0], codes[3]) for codes in drawn_codes} == {(3, 5)}
    assert len({tuple(codes) for codes in drawn_codes}) > 1


def test_phases_follow_from_the_codes_so_far(codec: VQVAE, decoder: Graph) -> None:
    codes, phases, made = tonal_codes(codec), Phases(decoder.facts), []
    for number, frame in enumerate(codes):
        phases.add(frame)
        if number:
            made.append(phases.frame(number - 1))
    made.append(phases.frame(len(codes) - 1))
    tones = codec.layout.split(torch.from_numpy(codes)[None])[1]
    ours, theirs = codec.tone.phases(tones)[0].numpy(), np.concatenate(made)
    sounds = codec.tone.partials(tones)[1][0].numpy() > 0
    apart = abs(ours - theirs)[sounds]
    assert sounds.any()
    assert np.minimum(apart, 1 - apart).max() < 1e-5


def audible(codes: Codes) -> Codes:
    """The same with no jumps of loudness of more than 100 dB: beside these, what a runtime rounds is heard."""
    codes[:, 0] = 20 + codes[:, 0] * 5 // 7
    return codes


@pytest.mark.parametrize("at_once", [1, 8, 1000])
def test_a_stream_of_codes_sounds_as_the_whole(codec: VQVAE, decoder: Graph, at_once: int) -> None:
    codes = np.tile(audible(tonal_codes(codec)), (3, 1))
    ours = decode(codec, torch.from_numpy(codes)[None], noise_of(codec, MEDIAN, len(codes)))[0].numpy()
    theirs = np.concatenate(list(decoded(decoder, codes, at_once)))
    assert theirs.shape == ours.shape
    assert (theirs - ours).std() < 1e-3 * ours.std()  # -60 dB


@pytest.mark.parametrize("frames", [1, 2, 5, 30])
def test_short_sounds_are_whole(codec: VQVAE, decoder: Graph, frames: int) -> None:
    codes = audible(tonal_codes(codec))[:frames]
    ours = decode(codec, torch.from_numpy(codes)[None], noise_of(codec, MEDIAN, len(codes)))[0].numpy()
    theirs = np.concatenate(list(decoded(decoder, codes)))
    assert abs(theirs - ours).max() < 1e-3 * abs(ours).max()


def test_sound_comes_before_the_codes_end(codec: VQVAE, decoder: Graph) -> None:
    """Its delay is `context_frames`, the frames that are decoded at once, and the frame that pitch glides to."""
    asked = []

    def frames() -> Iterator[Codes]:
        for number, frame in enumerate(np.tile(tonal_codes(codec), (5, 1))):
            asked.append(number)
            yield frame

    next(decoded(decoder, frames(), at_once=4))
    assert len(asked) == 4 + decoder.facts["context_frames"] + 1


def test_files_are_ours_and_not_replaced_by_accident(
    folder: Path, shell: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("decoder.onnx", "prior.onnx"):
        assert made_by_distill(folder / name)
        assert __file__.encode() not in (data := (folder / name).read_bytes())
        assert b"site-packages" not in data
        assert b"export.py" not in data
    write_prior_model(Path("m.distill"), labels=["a"])
    result = shell("export", "m.distill", "-o", str(folder))
    assert (result.status, result.out) == (2, "")
    assert "expected a new file, found one that Distill made; use --replace to replace it" in result.err
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    result = shell("export", "m.distill", "-o", "new")
    assert result.status == 2
    assert not Path("new").exists()
    assert "install them with `pip install 'distill-audio[export]'`" in result.err


def test_a_prior_without_a_graph_is_left_out(shell: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_write", lambda graph, path: write_bytes(path, type(graph).__name__.encode()))
    write_prior_model(Path("m.distill"), of=prior_shape("memory"))
    result = shell("export", "m.distill", "-o", "made", "--json")
    assert list(json.loads(result.out)["files"]) == [str(Path("made/decoder.onnx"))]
    assert "a prior of the architecture memory is not written" in result.err
    assert [path.read_text() for path in Path("made").iterdir()] == ["DecoderGraph"]
