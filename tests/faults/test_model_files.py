"""Model files that were damaged or forged: see `faults.hostile`."""

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
    """Every field wrong, names that climb, sizes beyond reason, pickles; mutants; and forgeries with hashes that fit."""
    model = tmp_path / "good.distill"
    if kind == "codec":
        write_model(model)
    elif kind == "trained":
        model.write_bytes((trained / "a.distill").read_bytes())
    else:
        write_prior_model(model, ["a", "b"], **({"of": MEMORY} if kind == "memory" else {}))
    mutants, forged, every = (10_000, 2_000, 1) if exhaustive else (40, 6, len(KINDS))
    numbers = (mutants, forged, every, KINDS.index(kind) % every)
    done = fork(tmp_path, "faults.hostile", str(model), *map(str, numbers)).end()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["wrong"], found["seen"], found["reached"]) == ([], [], False)
    assert found["refused"] >= mutants / 2  # the others differ from a model in nothing that matters
    assert found["slowest"] < 2
    assert found["wrong_forged"] == {}
    assert 0 < found["refused_forged"] < forged or not exhaustive
    assert found["slowest_forged"] < 60
    assert found["megabytes"] < 2500
