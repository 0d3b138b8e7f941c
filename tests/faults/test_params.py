"""Settings of every kind in `params.yaml`: one sentence, or settings of a run."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.errors import ParamsError
from distill.params import default_values, load_params

RECORDINGS = (5, 500, 100_000)
NUMBERS = st.integers(-3, 70) | st.floats() | st.sampled_from([2**31, 2**63, 10**30, math.nan, math.inf, 1e-320, 0.5])
TEXTS = st.text(max_size=9) | st.sampled_from(["auto", "none", "small", "../x", "", " ", "\x1b[31m", "frame", "flat"])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def sections_of(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The settings and all sections in them."""
    inner = (sections_of(value) for value in values.values() if isinstance(value, dict))
    return [values, *(section for found in inner for section in found)]


@st.composite
def changed(draw: st.DrawFn) -> dict[str, Any]:
    """The defaults with a few other values, added keys and missing ones."""
    values = copy.deepcopy(default_values())
    for _ in range(draw(st.integers(1, 4))):
        section = draw(st.sampled_from([one for one in sections_of(values) if one]))
        key = draw(st.sampled_from(list(section)))
        action = draw(st.sampled_from(["remove", "add", "change", "change", "change"]))
        other = draw(NUMBERS if action == "change" and isinstance(section[key], (int, float)) else VALUES)
        if action == "remove":
            del section[key]
        else:
            section[draw(TEXTS) if action == "add" else key] = other
    return values


def test_settings_are_refused_in_a_sentence_or_resolved(tmp_path: Path, exhaustive: bool) -> None:
    path, seen = tmp_path / "params.yaml", {"refused": 0, "resolved": 0}

    @settings(max_examples=5_000 if exhaustive else 150, deadline=None, database=None, derandomize=True)
    @given(changed())
    def is_a_sentence_or_resolves(values: dict[str, Any]) -> None:
        path.write_text(yaml.safe_dump(values, allow_unicode=False), encoding="utf-8")
        try:
            params = load_params(path)
            for recordings in RECORDINGS:
                params.vqvae_config(recordings)
                params.prior_config(recordings)
                assert 0 < params.split.resolve(recordings) < 1
        except ParamsError as error:
            refused = str(error)
        else:
            seen["resolved"] += 1
            return
        seen["refused"] += 1
        assert refused.isprintable(), ascii(refused)
        assert len(refused) < 1000

    is_a_sentence_or_resolves()
    assert min(seen.values()) > 20, seen


@pytest.mark.parametrize(
    "text",
    [
        "", "7", "[]", "a: &a [*a]", "seed: !!python/object/apply:os.system [touch reached]", "\x00", "seed: 0\nseed: 1",
        "{" * 5000, "seed: " + "9" * 5000, "seed: &a [x]\nprior: {epochs: *a}", "? [a]\n: b", "- " * 3000, "\ufeffseed: x",
        "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
        ),
    ],
)  # fmt: skip
def test_yaml_of_every_kind_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ParamsError) as refused:
        load_params(path)
    assert str(refused.value).isprintable(), ascii(str(refused.value))
    assert len(str(refused.value)) < 1000
    assert not Path("reached").exists()
