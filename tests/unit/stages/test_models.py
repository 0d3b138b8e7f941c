"""What the pipeline does with models of its name that it did not make, and what `make clean` removes."""

import hashlib
from pathlib import Path

import pytest

from distill.model_file.build import WRITTEN, card_path
from distill.model_file.format import load_bundle, save_bundle
from distill.pipeline.workspace import workplace
from distill.storage.files import write_json
from stages.ops import clean
from stages.ops.models import is_of_pipeline, keep_other_model
from unit.tiny import write_prior_model

MODEL = Path("models/mine.distill")
KEPT = (
    "models/mine.distill: expected the one that the pipeline made, found another, which is kept as {}; take another "
    "bundle.name to have both under their names"
)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".dvc").mkdir()


def written(text: str, model: Path = MODEL) -> str:
    """Write a model with a card; returns its MD5."""
    model.parent.mkdir(exist_ok=True)
    model.write_text(text)
    card_path(model).write_text(f"card of {text}")
    return hashlib.md5(text.encode()).hexdigest()


def lock(*named: tuple[Path, str]) -> None:
    outs = "".join(f"    - path: {path}\n      hash: md5\n      md5: {md5}\n" for path, md5 in named)
    Path("dvc.lock").write_text(
        f"schema: '2.0'\nstages:\n  bundle:\n    cmd: python -m stages.bundle\n    outs:\n{outs}"
    )


def cached(text: str, cache: str = ".dvc/cache") -> None:
    md5 = hashlib.md5(text.encode()).hexdigest()
    path = Path(cache, "files/md5", md5[:2], md5[2:])
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_a_model_of_another_origin_is_kept_with_its_card_under_a_new_name() -> None:
    assert keep_other_model(MODEL) == ""
    for number in (1, 2):
        written(f"trained {number}")
        kept = Path(f"models/mine-kept-{number}.distill")
        assert keep_other_model(MODEL) == KEPT.format(kept)
        assert (kept.read_text(), card_path(kept).read_text()) == (f"trained {number}", f"card of trained {number}")
    assert len(list(Path("models").iterdir())) == 4


def test_a_result_of_the_pipeline_is_left_to_dvc() -> None:
    lock((MODEL, written("made")))
    assert keep_other_model(MODEL) == ""
    written("made earlier")
    cached("made earlier")
    assert keep_other_model(MODEL) == ""
    written("made with another cache")
    cached("made with another cache", "shared")
    Path(".dvc/config").write_text("[cache]\n    dir = ../shared\n")
    assert keep_other_model(MODEL) == ""
    written("made earlier")  # a card in the cache is not that of another model
    cached("card of made earlier", "shared")
    assert keep_other_model(MODEL) == KEPT.format("models/mine-kept-1.distill")
    assert card_path(MODEL).exists()


def test_what_bundle_wrote_before_dvc_was_killed_is_of_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    MODEL.parent.mkdir()
    write_prior_model(MODEL)
    bundle = load_bundle(MODEL)
    fingerprint = bundle.metadata.provenance.prior_fingerprint
    config = type("Config", (), {"fingerprint": fingerprint})
    monkeypatch.setattr("distill.training.checkpoints.load_config", lambda *_: config)
    assert is_of_pipeline(MODEL)
    dated = bundle.metadata.model_copy(update={"metadata": {WRITTEN: "2026-01-31T12:00:00Z"}})
    save_bundle(MODEL, bundle.codec, bundle.prior, dated, bundle.reference)
    assert not is_of_pipeline(MODEL)


def test_clean_names_and_removes_what_the_pipeline_made(capsys: pytest.CaptureFixture[str]) -> None:
    theirs, copy = Path("models/theirs.distill"), Path("models/copy.distill")
    md5 = written("made")
    lock((MODEL, md5), (theirs, "0" * 32))
    written("trained", theirs)
    written("made", copy)
    for name in ("artifacts/corpus/a", ".distill/ingest/a", ".distill/codes/a", ".distill/checkpoints/a/b"):
        write_json(Path(name), 1)
    for name in (".distill/stages.jsonl", ".distill/dvc.lock", ".distill/corpora/c0ffee"):
        write_json(Path(name), 1)
    assert clean.main() == 0
    assert capsys.readouterr().out.splitlines() == [
        "removing:",
        *("  artifacts", "  models/mine.distill", "  models/mine.distill.md", "  .distill/ingest", "  .distill/codes"),
        *("  .distill/stages.jsonl", "  .distill/dvc.lock", "  .distill/checkpoints"),
    ]
    assert sorted(path.as_posix() for path in Path().rglob("*") if path.is_file()) == [
        ".distill/corpora/c0ffee",
        "dvc.lock",
        *("models/copy.distill", "models/copy.distill.md", "models/theirs.distill", "models/theirs.distill.md"),
    ]
    assert clean.main() == 0
    assert capsys.readouterr().out == "nothing to remove\n"


def test_clean_leaves_work_in_progress_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    for name in (".distill/train/a/corpus/b", ".distill/checkpoints/a/b", ".distill/jobs/a/b", "artifacts/corpus/a"):
        write_json(Path(name), 1)
    assert clean.main() == 0
    assert capsys.readouterr().out == "removing:\n  artifacts\n"
    write_json(Path("artifacts/corpus/a"), 1)
    with workplace(Path(".distill/repro")):
        assert clean.main() == 2
    assert capsys.readouterr().err == (
        ".distill/repro: expected no other process with this pipeline, found one that holds the lock; wait until it ends\n"
    )
    assert Path("artifacts/corpus/a").exists()
