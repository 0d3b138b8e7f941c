"""A corpus to codes: together or alone, in one piece or streamed, the codes are the same."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soxr
import torch
from safetensors.numpy import load_file, save_file

from distill.audio.augment import AS_IS, View, views_of, waveform
from distill.audio.corpus import MANIFEST, SCHEMA, Corpus, ManifestRow, load_corpus, read_manifest
from distill.audio.ingest import ingest
from distill.audio.side_info import read_side_info, write_side_info
from distill.audio.write import write_audio
from distill.codec import quantizer, streaming
from distill.codec.coordinates import codewords_of
from distill.codec.data import CodecData
from distill.codec.layout import SHAPE
from distill.codec.model import VQVAE
from distill.codec.quantizer import codebook_health, codeword_counts
from distill.codec.streaming import encode
from distill.codes import encode as encoding
from distill.codes.encode import code_corpus
from distill.codes.store import (
    SPLIT_SCHEMA,
    CodesReader,
    SplitRow,
    out_of_range,
    read_split,
    rows_by_side,
    split_codes,
)
from distill.errors import ArtifactError
from distill.execution import Execution
from distill.params import Params, default_params
from distill.prior.data import read_prior_data
from distill.storage.tables import write_rows
from distill.storage.work import HERE
from unit.tiny import RATE, SIZES, tiny_codec


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(1)
    for number, length in enumerate([900, 9_000, 900, 4_100, 9_050, 700, 80_000, 9_000, 4_100, 512]):
        write_audio(folder / "in" / f"{number}.wav", (0.2 * rng.standard_normal(length)).astype(np.float32), RATE)
    ingest(folder / "in", folder / "out", RATE, 0.0)
    return load_corpus(folder / "out")


def settings(views: int) -> Params:
    return default_params(seed=1, codes={"views": views}, split={"val_fraction": 0.3})


def encoded(
    corpus: Path, folder: Path, views: int = 1, kept: Path | None = None, sha256: str = "abc"
) -> dict[str, float]:
    execution = Execution("cpu", "fp32", 1)
    return code_corpus(tiny_codec(), sha256, corpus, folder, settings(views), execution, HERE, kept)


@pytest.fixture(scope="module")
def codes(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Codes of the corpus as it is, which no test changes."""
    folder = tmp_path_factory.mktemp("encoded") / "codes"
    encoded(corpus.folder, folder)
    return folder


@pytest.mark.parametrize(("window", "together"), [(1, 6), (100, 40), (10_000, 10_000)])
def test_codes_do_not_depend_on_what_is_coded_together(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, window: int, together: int
) -> None:
    monkeypatch.setattr(encoding, "BLOCK_FRAMES", window)
    monkeypatch.setattr(streaming, "CHUNK_FRAMES", together)
    metrics = encoded(corpus.folder, tmp_path / "codes")
    reader = CodesReader(tmp_path / "codes")
    data = CodecData.split(corpus, 0.3, 1)
    entries = sorted([*data.train, *data.held_out], key=lambda entry: entry.path)
    assert [row.recording_id for row in reader.rows] == [entry.recording_id for entry in entries]
    assert not [path for path in (tmp_path / "codes").iterdir() if path.is_dir()]
    counts = torch.zeros(len(SIZES), max(SIZES), dtype=torch.float64)
    for row, entry in zip(reader.rows, entries, strict=True):
        alone = encode(tiny_codec(), waveform(corpus, entry)[None])[0]
        np.testing.assert_array_equal(reader.codes(row), alone.numpy())
        counts += codeword_counts(alone, SIZES)
    assert {"frames": counts[0].sum(), "tokens": counts.sum(), "views": 1}.items() <= metrics.items()
    for level, used in codebook_health(counts, SIZES).items():
        assert used["utilization"] == metrics[f"{level}/utilization"]
        assert used["perplexity"] == metrics[f"{level}/perplexity"]


def test_side_information_lies_beside_the_codes_also_that_of_an_end(tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((12 * RATE, 2)).astype(np.float32)
    write_audio(tmp_path / "in" / "wide.wav", noise, RATE)
    ingest(tmp_path / "in", tmp_path / "out", RATE, 0.0)
    encoded(tmp_path / "out", tmp_path / "codes")
    side_info = CodesReader(tmp_path / "codes").side_info()
    corpus = load_corpus(tmp_path / "out")
    (whole,) = map(corpus.side_info, corpus.entries)
    assert len(whole.image) == len(whole.noise) == 12
    lengths = [len(about.image) for about in side_info.values()]
    assert [len(about.noise) for about in side_info.values()] == lengths
    assert len(lengths) == 2
    assert sum(lengths) in (11, 12, 13)
    split_codes(tmp_path / "codes", tmp_path / "split.parquet", settings(1))
    reference = read_prior_data(tmp_path / "codes", tmp_path / "split.parquet", 1).reference()
    about = reference.side_info_of("wide.wav")
    np.testing.assert_array_equal(about.image, whole.image[: lengths[0]])
    np.testing.assert_array_equal(about.noise, whole.noise[: lengths[0]])


def test_codes_of_a_mono_corpus_have_noise_floors_alone(codes: Path) -> None:
    assert load_file(codes / "side_info.safetensors").keys() == {"noise", "noise_lengths"}
    assert not any(about.is_stereo for about in CodesReader(codes).side_info().values())


def test_recordings_louder_than_those_of_the_codec_are_coded_softer_and_said(
    tmp_path: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = tiny_codec()
    codec.architecture = codec.architecture.model_copy(update={"input_gain": 64.0})
    code_corpus(codec, "abc", corpus.folder, tmp_path / "codes", settings(1), Execution("cpu", "fp32", 1), HERE)
    reader = CodesReader(tmp_path / "codes")
    data = CodecData.split(corpus, settings(1).split.resolve(len(corpus.entries)), settings(1).seed)
    entries = sorted([*data.train, *data.held_out], key=lambda entry: entry.path)
    for row, entry in zip(reader.rows, entries, strict=True):
        softer = waveform(corpus, entry, view=View(gain=1 / (entry.peak * 64 / 2)))
        np.testing.assert_array_equal(reader.codes(row), encode(codec, softer[None])[0].numpy())
    said = "warning: 10 of 10 recordings are louder than those that the codec learnt, such as 0.wav; made softer"
    assert said in capsys.readouterr().err


def test_a_long_recording_is_read_piece_by_piece(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = max(corpus.entries, key=lambda entry: entry.samples)
    codec = tiny_codec()
    expected = encode(codec, waveform(corpus, longest)[None])[0].numpy()
    lengths: list[int] = []

    def watched(corpus: Corpus, entry: ManifestRow, start: int, length: int, view: View) -> torch.Tensor:
        lengths.append(length)
        return waveform(corpus, entry, start, length, view)

    monkeypatch.setattr(encoding, "waveform", watched)
    monkeypatch.setattr(streaming, "CHUNK_FRAMES", 8)
    encoding._encode_block(codec, corpus, [(longest, AS_IS)], tmp_path / "block")
    np.testing.assert_array_equal(encoding._read_block(tmp_path / "block")[0], expected)
    assert len(lengths) > 5
    assert max(lengths) < longest.samples / 2


def test_a_view_is_shifted_by_less_than_a_frame_and_louder_or_softer(corpus: Corpus) -> None:
    entry = max(corpus.entries, key=lambda entry: entry.samples)
    views = views_of(entry, 16, 512, 3)
    assert views[0] == AS_IS
    assert [view.number for view in views] == list(range(16))
    assert all(0 <= view.shift < 512 for view in views)
    assert len({view.shift for view in views[1:]}) > 10
    decibels = 20 * np.log10([view.gain for view in views[1:]])
    assert -8 - 1e-9 <= decibels.min() < decibels.max() - 5 <= -3 + 1e-9
    view = replace(views[5], decibels=())
    read = waveform(corpus, entry, 100, 50, view)
    expected = waveform(corpus, entry)[100 + view.shift : 150 + view.shift] * view.gain
    torch.testing.assert_close(read, expected.clamp(-1, 1))
    assert views == views_of(entry, 16, 512, 3) != views_of(entry, 16, 512, 4)
    short = min(corpus.entries, key=lambda entry: entry.samples)
    assert all(view.shift * 2 < short.samples for view in views_of(short, 16, 512, 3))


@pytest.mark.parametrize("semitones", [-12, -5, 1, 12])
def test_a_view_in_another_key_is_the_recording_faster_or_slower(corpus: Corpus, semitones: int) -> None:
    entry = max(corpus.entries, key=lambda entry: entry.samples)
    view = View(1, 100, 0.5, semitones)
    assert abs(1200 * np.log2(float(view.speed)) - 100 * semitones) < 3  # cents
    whole = waveform(corpus, entry, view=view)
    assert len(whole) == view.samples(entry) == int((entry.samples - 100) / view.speed)
    expected = soxr.resample(corpus.read(entry, 100), float(view.speed), 1.0, "VHQ")[: len(whole)] * 0.5
    np.testing.assert_allclose(whole.numpy()[: len(expected)], expected, atol=0.01)
    parts = [waveform(corpus, entry, first, min(999, len(whole) - first), view) for first in range(0, len(whole), 999)]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=0)


def test_every_other_view_is_in_a_key_within_reach(corpus: Corpus) -> None:
    entry = corpus.entries[0]
    views = views_of(entry, 64, 512, 3, transpose=4)
    assert {view.semitones for view in views[1::2]} == set(range(-4, 5))
    assert not any(view.semitones for view in views[::2])
    as_they_are = views_of(entry, 64, 512, 3)
    assert [replace(view, semitones=0) for view in views] == as_they_are


def test_views_are_equalised_each_in_its_own_way(tmp_path: Path) -> None:
    rate, hertz = 44_100, np.array([250, 1000, 4000])
    sines = 0.05 * np.sin(2 * np.pi * hertz[:, None] * np.arange(rate) / rate)
    for name, some in (("one", sines[:1]), ("three", sines)):
        write_audio(tmp_path / "in" / f"{name}.wav", some.sum(axis=0).astype(np.float32), rate)
    ingest(tmp_path / "in", tmp_path / "out", rate, 0.0)
    corpus = load_corpus(tmp_path / "out")
    entry = corpus.entries[1]
    views = views_of(entry, 16, 512, 3)
    assert views[0].decibels == ()
    assert len({view.decibels for view in views}) == 16
    assert all(abs(sum(view.decibels)) < 1e-9 for view in views)
    assert 3 < np.std([view.decibels for view in views[1:]]) < 9
    view = View(1, 0, 0.5, 0, (3.0, 6.0, -6.0, 9.0, -12.0))
    whole, plain = waveform(corpus, entry, view=view), waveform(corpus, entry)
    assert len(whole) == len(plain)
    found, given = (np.abs(np.fft.rfft(samples.numpy()))[hertz] for samples in (whole, plain))
    np.testing.assert_allclose(20 * np.log10(found / given / 0.5), [6.0, -6.0, 9.0], atol=1.0)
    parts = [waveform(corpus, entry, first, min(999, len(whole) - first), view) for first in range(0, len(whole), 999)]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-6, rtol=0)


def test_views_are_for_what_is_learnt_from(tmp_path: Path, corpus: Corpus) -> None:
    codec, split = tiny_codec(), tmp_path / "split.parquet"
    used = encoded(corpus.folder, tmp_path / "codes", 3)
    reader = CodesReader(tmp_path / "codes")
    assert reader.config.codebook_sizes == codec.architecture.codebook_sizes == SIZES
    assert not any(out_of_range(reader.codes(row), reader.config.codebook_sizes) for row in reader.rows)
    loudness = np.concatenate([reader.codes(row)[:, 0] for row in reader.rows if row.view == 0])
    assert used["level_0/utilization"] == len(set(loudness.tolist())) / reader.config.codebook_sizes[0]
    np.testing.assert_array_equal(reader.codewords(), codewords_of(codec).numpy())
    assert reader.config.codec_sha256 == "abc"
    metrics = split_codes(tmp_path / "codes", split, settings(3))
    sides = rows_by_side(reader, split)
    assert [{len(views) for views in rows.values()} for rows in sides.values()] == [{3}, {1}]
    assert {f"{side}_recordings": len(rows) for side, rows in sides.items()}.items() <= metrics.items()
    data = CodecData.split(corpus, 0.3, 1)
    for side, entries in (("train", data.train), ("val", data.held_out)):
        assert list(sides[side]) == [entry.recording_id for entry in entries]
    assert {(row.recording_id, row.group) for row in read_split(split)} == {
        (entry.recording_id, entry.group) for entry in (*data.train, *data.held_out)
    }
    longest = max(data.train, key=lambda entry: entry.samples)
    end = next(entry for entry in data.held_out if entry.path == longest.path)
    assert (end.recording_id, end.group) == (f"{longest.recording_id}:end", f"{longest.group}:end")
    whole = next(entry for entry in corpus.entries if entry.path == longest.path)
    both = [corpus.read(longest), corpus.read(end)]
    np.testing.assert_array_equal(np.concatenate(both), corpus.read(whole))
    some, entry = next((entry.recording_id, entry) for entry in data.train)
    for view in views_of(entry, 3, codec.spectrogram.samples_per_frame, 1, settings(3).prior_config(1).transpose):
        expected = encode(codec, waveform(corpus, entry, view=view)[None])[0].numpy()
        np.testing.assert_array_equal(reader.codes(sides["train"][some][view.number]), expected)


def test_an_empty_side_and_codewords_of_another_codec_are_sentences(tmp_path: Path, codes: Path) -> None:
    shutil.copytree(codes, tmp_path / "codes")
    reader, split = CodesReader(tmp_path / "codes"), tmp_path / "split.parquet"
    rows = [SplitRow(row.recording_id, row.group, "train") for row in reader.rows]
    for some, sentence in (
        (rows, "expected recordings on both sides, found none on side val; change"),
        (rows[1:], "expected a side for every recording, found none for 1 of them"),
    ):
        write_rows(split, some, SPLIT_SCHEMA)
        with pytest.raises(ArtifactError, match=sentence):
            rows_by_side(reader, split)
    codewords = tmp_path / "codes" / "codewords.safetensors"
    save_file({"codewords": np.zeros((6, 9, 8), dtype=np.float32)}, codewords)
    with pytest.raises(ArtifactError, match=r"expected up to 128 codewords for each of 6 levels.*found \[6, 9, 8\]"):
        reader.codewords()
    codewords.unlink()
    with pytest.raises(ArtifactError, match="expected the codec's codewords, found no such file"):
        reader.codewords()


def test_kept_blocks_are_not_encoded_again(tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "BLOCK_FRAMES", 40)
    blocks: list[int] = []
    original = encoding._encode_block

    def counted(codec: VQVAE, corpus: Corpus, block: encoding.Block, path: Path) -> None:
        blocks.append(len(block))
        original(codec, corpus, block, path)

    monkeypatch.setattr(encoding, "_encode_block", counted)

    def files(corpus: Path, name: str, kept: Path | None, sha256: str = "abc") -> dict[str, bytes]:
        blocks.clear()
        encoded(corpus, tmp_path / name, 2, kept, sha256)
        return {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}

    kept, fewer = tmp_path / "kept", tmp_path / "fewer corpus"
    shutil.copytree(corpus.folder, fewer)
    write_rows(fewer / MANIFEST, read_manifest(fewer / MANIFEST)[1:], SCHEMA)
    write_side_info(fewer, read_side_info(fewer, 10)[1:])
    fresh = files(corpus.folder, "fresh", None)
    assert files(corpus.folder, "first", kept) == fresh
    count = len(blocks)
    assert count > 2
    assert files(corpus.folder, "second", kept) == fresh
    assert blocks == []
    assert files(fewer, "fewer", kept) == files(fewer, "fewer fresh", None)
    files(corpus.folder, "again", kept)
    assert 1 <= len(blocks) < count  # blocks around what came and went
    files(corpus.folder, "other codec", kept, "abd")
    assert len(blocks) == count
    assert len(list(kept.iterdir())) == 1
    damaged = next(path for path in kept.glob("*/*"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"expected codes of recordings, found .*; remove it and run again"):
        files(corpus.folder, "damaged", kept, "abd")


def test_codewords_that_few_recordings_use_are_warned_of_by_all_codes(
    tmp_path: Path,
    corpus: Corpus,
    codes: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reader, level = CodesReader(codes), SHAPE + 1
    used = {int(code) for row in reader.rows for code in reader.codes(row)[:, level]}
    share = len(used) / SIZES[level]
    for bound, is_said in ((share, False), (share + 0.01, True)):
        monkeypatch.setattr(quantizer, "LOW_UTILIZATION", bound)
        encoded(corpus.folder, tmp_path / "again")
        said = f"warning: shape 2: {int(100 * share)}% of the codewords are used on all recordings"
        assert (said in capsys.readouterr().err) is is_said
