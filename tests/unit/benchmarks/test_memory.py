from pathlib import Path

from benchmarks.memory import SAMPLE_RATE, write_synthetic_corpus
from distill.audio.corpus import load_corpus


def test_a_synthetic_corpus_can_be_opened_and_has_the_given_hours(tmp_path: Path) -> None:
    assert write_synthetic_corpus(tmp_path, hours=12 / 3600, recording_seconds=4, seed=0) == 3
    corpus = load_corpus(tmp_path)
    assert [entry.samples for entry in corpus.entries] == [4 * SAMPLE_RATE] * 3
    assert all(corpus.pcm(entry).any() for entry in corpus.entries)
