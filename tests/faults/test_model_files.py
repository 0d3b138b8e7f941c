"""Model files that were made to harm: see `faults.hostile`, and `faults.fuzz` for damaged and forged ones."""

import json
from pathlib import Path

import pytest

from programs import fork
from unit.tiny import MEMORY, write_model, write_prior_model

KINDS = ("codec", "labels", "memory", "trained")


@pytest.mark.parametrize("kind", KINDS)
def test_models_made_to_harm_are_refused_and_do_nothing(
    tmp_path: Path, trained: Path, kind: str, exhaustive: bool
) -> None:
    """Every field wrong, names that climb, sizes beyond reason, pickles."""
    model = tmp_path / "good.distill"
    if kind == "codec":
        write_model(model)
    elif kind == "trained":
        model.write_bytes((trained / "a.distill").read_bytes())
    else:
        write_prior_model(model, ["a", "b"], **({"of": MEMORY} if kind == "memory" else {}))
    every = 1 if exhaustive else len(KINDS)
    done = fork(tmp_path, "faults.hostile", str(model), str(every), str(KINDS.index(kind) % every)).end()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["wrong"], found["seen"], found["reached"]) == ([], [], False)
    assert found["refused"] == found["files"] > 50
    assert found["slowest"] < 2
