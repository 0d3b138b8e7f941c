"""The card of a model file, its facts and its date."""

import re
import time
from pathlib import Path

import pytest
from rich.console import Console
from unit.tiny import MEMORY, TRAINED, write_prior_model

from distill.errors import ParamsError
from distill.model_file.card import card_text, date_now, date_of, describe, facts, write_card
from distill.model_file.format import load_bundle
from distill.novelty.memorization import Memorization


def test_the_card_tells_what_the_file_is_and_takes_words_as_words(tmp_path: Path) -> None:
    path = tmp_path / "a|b.distill"
    metadata = write_prior_model(path)
    noted = metadata.model_copy(update={"metadata": {"note": "<script>|x\x1b[31m[/red]"}})
    write_card(path, noted)
    card = (tmp_path / "a|b.distill.md").read_text()
    assert metadata.payload_sha256 in card
    assert "frame, 1 layers of 16" in card
    assert "distill generate" in card
    assert "It holds no codes of its training recordings" in card
    assert "<script>" not in card
    assert "\x1b" not in card
    assert {line.count("|") - line.count("\\|") for line in card.splitlines() if line.startswith("|")} <= {3, 4}
    recorded = metadata.model_copy(update={"metadata": {"reference_recordings": 5}})
    assert "the codes of its 5 training recordings" in card_text("m.distill", recorded)
    assert card_text("m.distill", metadata) == card_text("m.distill", load_bundle(path).metadata)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(describe(path, noted))
    assert "[/red]" in capture.get()
    assert "\x1b" not in capture.get()


def test_the_facts_name_labels_memory_and_memorisation(tmp_path: Path) -> None:
    def found(labels: int = 0, **changes: object) -> dict[str, str]:
        metadata = write_prior_model(tmp_path / "a.distill", labels=[f"{number:02d}" for number in range(labels)])
        return dict(facts(metadata.model_copy(update=changes)))

    assert "labels" not in found()
    assert "warning" not in found()
    assert found(2)["labels"] == "00, 01"
    assert found(23)["labels"].startswith("00, 01, ")
    assert found(23)["labels"].endswith("18, 19 and 3 more")
    memorized = Memorization(was_memorizing=True, val_perplexity=1.5, threshold=2, codebook_size=8, recordings=5)
    trained = TRAINED.model_copy(update={"memorization": memorized})
    assert found(prior_metadata=trained)["warning"] == memorized.message
    assert ".distill/stop" in memorized.message
    remembering = dict(facts(write_prior_model(tmp_path / "m.distill", of=MEMORY)))
    assert remembering["prior"].endswith("s and a memory of what came before")


def test_the_date_is_now_or_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    before = date_of(time.time())
    assert before <= date_now() <= date_of(time.time() + 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", before)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert date_now() == "1970-01-02T00:00:00Z"


@pytest.mark.parametrize("wrong", ["", "tomorrow", "1e5", "9" * 30])
def test_a_wrong_date_is_a_sentence(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", wrong)
    with pytest.raises(
        ParamsError, match=r"SOURCE_DATE_EPOCH: expected a date as whole seconds since 1970, found .*unset it"
    ):
        date_now()
