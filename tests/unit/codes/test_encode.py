"""A corpus to codes: together or alone, in one piece or streamed, the codes are the same."""

from copy import copy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from unit.tiny import RATE, tiny_codec

from distill.audio.augment import AS_IS, View, views_of, waveform
from distill.audio.corpus import Corpus, ManifestRow, load_corpus
from distill.audio.ingest import ingest
from distill.audio.write import write_audio
from distill.codec.coordinates import codewords_of
from distill.codec.model import VQVAE
from distill.codec.streaming import encode, encode_from
from distill.codes import encode as encoding
from distill.codes.encode import RecordingView, encode_for_prior, encode_views, usage
from distill.codes.held_out import SplitRow, rows_by_side, split_recordings, write_split
from distill.codes.store import CodesReader
from distill.errors import ArtifactError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for number, length in enumerate([900, 9_000, 900, 4_100, 9_050, 700, 80_000, 9_000, 4_100, 512]):
        write_audio(folder / "in" / f"{number}.wav", (0.2 * rng.standard_normal(length)).astype(np.float32), RATE)
    ingest(folder / "in", folder / "out", RATE, 0.0)
    return load_corpus(folder / "out")


@pytest.mark.parametrize(("window", "together"), [(1, 1), (100, 40), (10_000, 10_000)])
def test_codes_do_not_depend_on_what_is_coded_together(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, window: int, together: int
) -> None:
    monkeypatch.setattr(encoding, "BLOCK_FRAMES", window)
    monkeypatch.setattr(encoding, "CHUNK_FRAMES", together)
    codec = tiny_codec()
    seen: list[int] = []
    folder = tmp_path / "codes"
    counts = encode_for_prior(codec, "", corpus, folder, 1, 0.3, 1, progress=lambda done, *_: seen.append(done))
    reader = CodesReader(folder)
    assert [row.recording_id for row in reader.rows] == [entry.recording_id for entry in corpus.entries]
    assert not [path for path in folder.iterdir() if path.is_dir()]
    total = torch.zeros(3, 8, dtype=torch.int64)
    for row, entry in zip(reader.rows, corpus.entries, strict=True):
        alone = encode(codec, waveform(corpus, entry)[None])[0]
        np.testing.assert_array_equal(reader.codes(row), alone.numpy())
        for level in range(3):
            total[level] += torch.bincount(alone[:, level], minlength=8)
    assert torch.equal(counts, total)
    assert seen[-1] == len(corpus.entries)
    assert seen == sorted(seen)


def test_a_long_recording_is_read_piece_by_piece(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = max(corpus.entries, key=lambda entry: entry.samples)
    codec = tiny_codec()
    expected = encode(codec, waveform(corpus, longest)[None])[0].numpy()
    lengths: list[int | None] = []

    def watched(
        corpus: Corpus, entry: ManifestRow, start: int = 0, length: int | None = None, view: View = AS_IS
    ) -> torch.Tensor:
        lengths.append(length)
        return waveform(corpus, entry, start, length, view)

    monkeypatch.setattr(encoding, "waveform", watched)
    monkeypatch.setattr(encoding, "encode_from", partial(encode_from, chunk_frames=8))
    np.testing.assert_array_equal(encode_views(codec, corpus, [RecordingView(longest, AS_IS)])[0], expected)
    assert len(lengths) > 5
    assert max(length for length in lengths if length is not None) < longest.samples / 2


def test_a_view_is_shifted_by_less_than_a_frame_and_louder_or_softer(corpus: Corpus) -> None:
    entry = max(corpus.entries, key=lambda entry: entry.samples)
    views = views_of(entry, 16, 512, 3)
    assert views[0] == AS_IS
    assert [view.number for view in views] == list(range(16))
    assert all(0 <= view.shift < 512 for view in views)
    assert len({view.shift for view in views[1:]}) > 10
    decibels = 20 * np.log10([view.gain for view in views[1:]])
    assert decibels.min() >= -8 - 1e-9
    assert decibels.max() <= 2 + 1e-9
    assert decibels.max() - decibels.min() > 5
    view = views[5]
    read = waveform(corpus, entry, 100, 50, view)
    expected = waveform(corpus, entry)[100 + view.shift : 150 + view.shift] * view.gain
    torch.testing.assert_close(read, expected.clamp(-1, 1))
    assert views == views_of(entry, 16, 512, 3) != views_of(entry, 16, 512, 4)
    short = min(corpus.entries, key=lambda entry: entry.samples)
    assert all(view.shift * 2 < short.samples for view in views_of(short, 16, 512, 3))


def test_views_are_for_what_is_learnt_from(tmp_path: Path, corpus: Corpus) -> None:
    codec = tiny_codec()
    encode_for_prior(codec, "abc", corpus, tmp_path / "codes", views=3, val_fraction=0.3, seed=1)
    reader = CodesReader(tmp_path / "codes")
    np.testing.assert_array_equal(reader.codewords(), codewords_of(codec).vectors.numpy())
    assert reader.config.shared_coordinates == codec.architecture.gain_shape
    assert reader.config.codec_sha256 == "abc"
    rows = split_recordings(reader.rows, 1, 0.3)
    assert len(rows) == len(corpus.entries)
    write_split(tmp_path / "split.parquet", rows)
    sides = rows_by_side(reader, tmp_path / "split.parquet")
    assert {len(views) for views in sides.train.values()} == {3}
    assert len(sides.held_out) + len(sides.train) == len(corpus.entries)
    assert sum(row.recording_id in sides.held_out for row in reader.rows) == len(sides.held_out)
    some = next(iter(sides.train))
    entry = next(entry for entry in corpus.entries if entry.recording_id == some)
    for view in views_of(entry, 3, codec.spectrogram.samples_per_frame, 1):
        expected = encode(codec, waveform(corpus, entry, view=view)[None])[0].numpy()
        np.testing.assert_array_equal(reader.codes(reader.rows[sides.train[some][view.number]]), expected)


def test_an_empty_side_and_codewords_of_another_codec_are_sentences(tmp_path: Path, corpus: Corpus) -> None:
    codec = tiny_codec()
    encode_for_prior(codec, "abc", corpus, tmp_path / "codes", views=1, val_fraction=0.3, seed=1)
    reader = CodesReader(tmp_path / "codes")
    rows = [SplitRow(row.recording_id, row.group, "train") for row in reader.rows]
    write_split(tmp_path / "split.parquet", rows)
    with pytest.raises(ArtifactError, match="expected recordings on both sides, found none on side val; change"):
        rows_by_side(reader, tmp_path / "split.parquet")
    write_split(tmp_path / "split.parquet", rows[1:])
    with pytest.raises(ArtifactError, match="expected a side for every recording, found none for 1 of them"):
        rows_by_side(reader, tmp_path / "split.parquet")
    save_file({"codewords": np.zeros((3, 9, 8), dtype=np.float32)}, tmp_path / "codes" / "codewords.safetensors")
    with pytest.raises(ArtifactError, match=r"expected 8 codewords for each of 3 levels.*found \[3, 9, 8\]"):
        reader.codewords()
    (tmp_path / "codes" / "codewords.safetensors").unlink()
    with pytest.raises(ArtifactError, match="expected the codec's codewords, found none that can be read"):
        reader.codewords()


def test_usage_against_a_plain_count() -> None:
    figures = usage(torch.tensor([[4, 0, 4, 0], [1, 1, 1, 1]]))
    assert figures == {
        "level_0/utilization": 0.5,
        "level_0/perplexity": pytest.approx(2.0),
        "level_1/utilization": 1.0,
        "level_1/perplexity": pytest.approx(4.0),
    }


def test_kept_blocks_are_not_encoded_again(tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "BLOCK_FRAMES", 40)
    codec = tiny_codec()
    encoded: list[int] = []
    original = encoding._encode_block

    def counted(codec: VQVAE, corpus: Corpus, block: encoding.ViewBlock, path: Path) -> None:
        encoded.append(len(block.views))
        original(codec, corpus, block, path)

    monkeypatch.setattr(encoding, "_encode_block", counted)

    def encode(corpus: Corpus, name: str, kept: Path | None, codec_sha256: str = "abc") -> dict[str, bytes]:
        encoded.clear()
        encode_for_prior(codec, codec_sha256, corpus, tmp_path / name, 2, 0.3, 1, kept=kept)
        return {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}

    kept = tmp_path / "kept"
    fresh = encode(corpus, "fresh", None)
    assert encode(corpus, "first", kept) == fresh
    count = len(encoded)
    assert count > 2
    assert encode(corpus, "second", kept) == fresh
    assert encoded == []
    fewer = copy(corpus)
    fewer.entries = corpus.entries[1:]
    assert encode(fewer, "fewer", kept) == encode(fewer, "fewer fresh", None)
    encode(corpus, "again", kept)
    assert 1 <= len(encoded) < count  # blocks around what came and went
    encode(corpus, "other codec", kept, "abd")
    assert len(encoded) == count
    assert len(list(kept.iterdir())) == 1
    damaged = next(path for path in kept.glob("*/*"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"expected codes of recordings, found .*; remove it and run again"):
        encode(corpus, "damaged", kept, "abd")
