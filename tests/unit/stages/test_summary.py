"""The summary of `make repro`."""

import json
from pathlib import Path

import pytest

from distill.audio.ingest_report import few_recordings
from distill.novelty.memorization import Memorization
from distill.params import Params
from stages.ops.summary import summarise
from unit.tiny import prior_artifact

MEMORIZED = Memorization(was_memorizing=True, val_perplexity=1.5, threshold=2, codebook_size=8, recordings=5)


def write(path: str, values: object) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(values))


@pytest.mark.parametrize("memorizing", [True, False])
def test_it_warns_of_memorisation_in_the_words_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], memorizing: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text("stages: {}")
    names = ("utilization", "perplexity", "dead_codes")
    levels = {f"codebook/level_{level}/{name}": level / 100 for level in range(12) for name in names}
    tones = {"tone/tonal_originals": 0.5, "tone/tonal_decodes": 0.25}
    kept = {"best_epoch": 0, "epochs_trained": 12}
    write("metrics/train_vqvae.json", {**dict(sorted(levels.items())), **tones, **kept})
    prior = {"val_perplexity": 1.5, "val_bits_per_second": 9.0, "best_epoch": 1, "epochs_trained": 3}
    probed = {"ablated/val_perplexity": 1.75, "probe/top1": 0.9, "probe/ranked": 0.8, "probe/in_situ": 0.7}
    write("metrics/train_prior.json", {**prior, **probed, "is_memorizing": float(memorizing)})
    write("metrics/audition.json", {"new": 0, "close": 0, "copies": 2, "tonal_rate": 0.5})
    ingest = {"used": 5, "warned": 0, "duplicates": 0, "rejected": 0, "seconds": 1.0, "trimmed_seconds": 2.0}
    write("metrics/ingest.json", {**ingest, "left_out": 3, "left_out_suffixes": "2 .mid, 1 .txt"})
    artifact = prior_artifact(memorization=MEMORIZED)
    write("artifacts/prior/config.json", artifact.model_dump(mode="json"))
    summarise(Params.model_validate({"corpus": {"path": "sounds"}}), [], 1.0)
    printed = " ".join(capsys.readouterr().out.split())
    assert "5 usable, 0 rejected, 1.0 s, 2.0 s of silence trimmed; 3 left out: 2 .mid, 1 .txt" in printed
    assert "codewords used loudness 0%, note 1%, tuning 2%, atom 3%, shape 1 4%" in printed
    assert "(best epoch 1 of 3)" in printed
    assert "codec no epoch of 12 was better on held-out recordings by enough, so the weights from before" in printed
    assert "2 sounds: 0 new, 0 close, 2 copies; 50% tonal" in printed
    assert "held-out tones 50% tonal, 25% once decoded" in printed
    assert "shape 7 10%, shape 8 11%" in printed
    assert "fewer than" not in printed
    said = (
        "memory held-out perplexity 1.75 without it, 1.50 with it; probes retrieve top1 0.90, ranked 0.80, in_situ 0.70"
    )
    assert said in printed
    assert (" ".join(MEMORIZED.message.split()) in printed) is memorizing
    assert ("touch .distill/stop" in printed) is memorizing
    write("metrics/ingest.json", {**ingest, "used": 2, "warned": 2, "duplicates": 1, "left_out": 0})
    summarise(Params.model_validate({"corpus": {"path": "sounds"}}), [], 1.0)
    assert few_recordings(3) in " ".join(capsys.readouterr().out.split())
