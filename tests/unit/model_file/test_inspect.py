"""What is told of model files: the card and its date, the list of a folder, and the checks of `distill verify`."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from distill.errors import ArtifactError, ParamsError
from distill.model_file.build import card_text, date_now, date_of, facts
from distill.model_file.format import load_bundle, save_bundle
from distill.model_file.inspect import describe, list_models, verify
from distill.novelty.memorization import Memorization
from unit.tiny import MEMORY, TRAINED, networks, write_model, write_prior_model


def test_the_card_tells_what_the_file_is_and_takes_words_as_words(tmp_path: Path) -> None:
    path = tmp_path / "a|b.distill"
    metadata = write_prior_model(path)
    noted = metadata.model_copy(update={"metadata": {"note": "<script>|x\x1b[31m[/red]"}})
    card = card_text(path.name, noted)
    for told in ("frame, 1 layers of 16", "distill generate", "It holds no codes of its training recordings"):
        assert told in card
    assert metadata.payload_sha256 in card
    assert "<script>" not in card
    assert "\x1b" not in card
    assert {line.count("|") - line.count("\\|") for line in card.splitlines() if line.startswith("|")} <= {3, 4}
    recorded = metadata.model_copy(update={"metadata": {"reference_recordings": 5}})
    assert "the codes of its 5 training recordings" in card_text("m.distill", recorded)
    assert card_text("m.distill", metadata) == card_text("m.distill", load_bundle(path).metadata)
    described = "".join(describe(path, noted, 200))
    assert "[/red]" in described
    assert "\x1b" not in described


def test_the_facts_name_labels_memory_and_memorisation(tmp_path: Path) -> None:
    def found(labels: int = 0, **changes: object) -> dict[str, str]:
        metadata = write_prior_model(tmp_path / "a.distill", labels=[f"{number:02d}" for number in range(labels)])
        return dict(facts(metadata.model_copy(update=changes)))

    assert not {"labels", "warning"} & found().keys()
    assert found(2)["labels"] == "00, 01"
    assert re.fullmatch("00, 01, .* 18, 19 and 3 more", found(23)["labels"])
    levels = "6 levels of 71 (loudness) + 128 (note) + 16 (tuning) + 7 (atom) + 2 × 8 (shape) codes, "
    assert found()["codec"].startswith(levels)
    memorized = Memorization(was_memorizing=True, val_perplexity=1.5, threshold=2, codebook_size=8, recordings=5)
    trained = TRAINED.model_copy(update={"memorization": memorized})
    assert found(prior_metadata=trained)["warning"] == memorized.message
    undated = "no date, as equal inputs give equal files; MLflow has that of the run"
    dated = TRAINED.model_copy(update={"training_date": "2026-01-31T12:00:00Z"})
    assert [found()["trained"], found(prior_metadata=dated)["trained"]] == [undated, "2026-01-31T12:00:00Z"]
    remembering = dict(facts(write_prior_model(tmp_path / "m.distill", of=MEMORY)))
    assert remembering["prior"].endswith("s and a memory of what came before")


def test_the_date_is_now_or_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    before = date_of(time.time())
    assert before <= date_now() <= date_of(time.time() + 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", before)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert date_now() == "1970-01-02T00:00:00Z"
    for wrong in ("", "tomorrow", "1e5", "9" * 30):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", wrong)
        with pytest.raises(ParamsError, match=r"SOURCE_DATE_EPOCH: expected whole seconds since .*unset it"):
            date_now()


def note(path: Path, **noted: Any) -> None:
    """Write other free metadata."""
    bundle = load_bundle(path)
    save_bundle(
        path, bundle.codec, bundle.prior, bundle.metadata.model_copy(update={"metadata": noted}), bundle.reference
    )


def test_every_model_is_listed_with_what_it_can(tmp_path: Path) -> None:
    write_model(tmp_path / "codec.distill")
    write_prior_model(tmp_path / "bare.distill", reference=False)
    note(tmp_path / "bare.distill", recordings=[1], tier="\x1b[31m", val_bits_per_second="many")  # not believed
    write_prior_model(tmp_path / "full.distill", labels=["kick", "snare"])
    note(tmp_path / "full.distill", recordings=12, tier="small", val_bits_per_second=721.5)
    (tmp_path / "full.distill.md").write_text("a card is no model")
    bare, codec, full = list_models(tmp_path)
    told = [(one.name, one.can_generate, one.can_judge, one.recordings) for one in (bare, codec, full)]
    assert told == [("bare", True, False, None), ("codec", False, False, None), ("full", True, True, 12)]
    assert (bare.tier, bare.val_bits_per_second) == (None, None)
    assert (full.tier, full.val_bits_per_second, full.labels) == ("small", 721.5, ("kick", "snare"))
    assert (codec.utilization, full.utilization) == (None, 0.5)  # of shape levels alone
    assert full.date.endswith("Z")
    assert full.path == str(tmp_path / "full.distill")
    assert not any(one.problem for one in (bare, codec, full))


def test_weights_that_are_numbers_and_no_model_are_found_by_use(tmp_path: Path) -> None:
    path = tmp_path / "a.distill"
    metadata = write_prior_model(path)
    codec, prior = networks()
    for value in (codec.quantizer.codebooks, prior.codewords):
        value.fill_(3e38)
    save_bundle(path, codec, None, metadata.model_copy(update={"prior_config": None, "prior_metadata": None}))
    with pytest.raises(ArtifactError, match="expected finite samples of the codec, found NaN or infinite values"):
        verify(path)
    save_bundle(path, networks()[0], prior, metadata)
    with pytest.raises(ArtifactError, match=r"a\.distill: expected finite logits of the prior, found NaN or infinite"):
        verify(path)
