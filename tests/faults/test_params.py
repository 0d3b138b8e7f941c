"""YAML of every kind in `params.yaml` is refused in one sentence: see `faults.fuzz` for settings with other values."""

from pathlib import Path

import pytest

from distill.errors import ParamsError
from distill.params import load_params


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
