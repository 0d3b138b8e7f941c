"""A corpus to codes: together or alone, in one piece or streamed, the codes are the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from unit.tiny import RATE, tiny_codec

from distill import encoding
from distill.audio.corpus import Corpus, CorpusEntry, ingest, load_corpus
from distill.audio.writing import write_audio
from distill.codes.store import CodesConfig, CodesReader, CodesWriter
from distill.encoding import encode_corpus, encode_entries, usage, waveform


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for number, length in enumerate([900, 9_000, 900, 4_100, 9_050, 700, 80_000, 9_000, 4_100, 512]):
        write_audio(folder / "in" / f"{number}.wav", (0.2 * rng.standard_normal(length)).astype(np.float32), RATE)
    ingest(folder / "in", folder / "out", RATE, 0.0, 1)
    return load_corpus(folder / "out")


@pytest.mark.parametrize(("window", "together"), [(1, 1), (100, 40), (10_000, 10_000)])
def test_codes_do_not_depend_on_what_is_coded_together(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, window: int, together: int
) -> None:
    monkeypatch.setattr(encoding, "WINDOW_FRAMES", window)
    monkeypatch.setattr(encoding, "CHUNK_FRAMES", together)
    codec = tiny_codec()
    seen: list[int] = []
    config = CodesConfig(codebook_size=8, num_quantizers=3, frame_rate=1.0, codec_sha256="")
    counts = encode_corpus(codec, corpus, CodesWriter(tmp_path, config), lambda done, *_: seen.append(done))
    reader = CodesReader(tmp_path)
    assert [row.recording_id for row in reader.rows] == [entry.recording_id for entry in corpus.entries]
    total = torch.zeros(3, 8, dtype=torch.int64)
    for row, entry in zip(reader.rows, corpus.entries, strict=True):
        alone = codec.encode(waveform(corpus, entry)[None])[0]
        np.testing.assert_array_equal(reader.codes(row), alone.numpy())
        for level in range(3):
            total[level] += torch.bincount(alone[:, level], minlength=8)
    assert torch.equal(counts, total)
    assert seen[-1] == len(corpus.entries)
    assert seen == sorted(seen)


def test_a_long_recording_is_read_piece_by_piece(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = max(corpus.entries, key=lambda entry: entry.samples)
    codec = tiny_codec()
    expected = codec.encode(waveform(corpus, longest)[None])[0].numpy()
    original, lengths = codec.encode_from, []

    def watched(corpus: Corpus, entry: CorpusEntry, start: int = 0, length: int | None = None) -> torch.Tensor:
        lengths.append(length)
        return waveform(corpus, entry, start, length)

    monkeypatch.setattr(encoding, "waveform", watched)
    monkeypatch.setattr(codec, "encode_from", lambda read, samples: original(read, samples, chunk_frames=8))
    np.testing.assert_array_equal(encode_entries(codec, corpus, [longest])[0], expected)
    assert len(lengths) > 5
    assert max(length for length in lengths if length is not None) < longest.samples / 2


def test_usage_against_a_plain_count() -> None:
    figures = usage(torch.tensor([[4, 0, 4, 0], [1, 1, 1, 1]]))
    assert figures == {
        "level_0/utilization": 0.5,
        "level_0/perplexity": pytest.approx(2.0),
        "level_1/utilization": 1.0,
        "level_1/perplexity": pytest.approx(4.0),
    }
