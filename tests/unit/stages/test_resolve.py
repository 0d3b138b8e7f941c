"""Stage `resolve`: what other stages see of the settings of tiers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.audio import corpus
from distill.params import Params, default_params, default_values
from stages import resolve
from stages.running import SETTINGS

Written = Callable[[Params], dict[str, str]]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    """What the stage writes for each stage, for a corpus of ten recordings: the tier is small."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(corpus, "read_manifest", lambda _: range(10))
    monkeypatch.setattr(corpus, "kept_rows", list)

    def run(params: Params) -> dict[str, str]:
        resolve.main(params)
        return {path.stem: path.read_text() for path in SETTINGS.iterdir()}

    return run


def keys_of(values: Any, before: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if not isinstance(values, dict):
        return [(before, values)]
    return [key for name, value in values.items() for key in keys_of(value, (*before, name))]


def nested(keys: tuple[str, ...], value: Any) -> dict[str, Any]:
    return {keys[0]: nested(keys[1:], value) if keys[1:] else value}


@pytest.mark.parametrize("tier", ["medium", "large"])
def test_no_setting_of_a_tier_that_is_not_used_is_seen(written: Written, tier: str) -> None:
    before = written(default_params())
    for keys, value in keys_of(default_values()["tiers"][tier]):
        other = 1000 if value is None else 2 * value if isinstance(value, int) else value / 2 + 0.01
        assert written(default_params(**nested(("tiers", tier, *keys), other))) == before, keys


def test_a_setting_runs_the_stages_again_that_see_it(written: Written) -> None:
    before = written(default_params())

    def seen(**sections: Any) -> set[str]:
        after = written(default_params(**sections))
        return {stage for stage in before if after[stage] != before[stage]}

    assert seen(tiers={"small": {"vqvae": {"epochs": 3}}}) == {"train_vqvae"}
    assert seen(tiers={"small": {"prior": {"dropout": 0.25}}}) == {"train_prior"}
    assert seen(tiers={"small": {"frame": {"num_layers": 4}}}) == {"train_prior"}
    assert seen(tiers={"small": {"pretrained": {"patience": 3}}}) == {"train_prior"}
    assert seen(vqvae={"epochs": 3}) == {"train_vqvae"}
    assert seen(vqvae={"learning_rate": 0.001}) == set()  # what `auto` stood for
    assert seen(qualities={"standard": {"num_quantizers": 12}}) == {"train_vqvae"}
    assert seen(qualities={"high": {"num_quantizers": 12}}) == set()
    assert seen(prior={"dropout": 0.25}) == {"train_prior"}
    assert seen(prior={"transpose": 1}) == {"encode_codes", "train_prior"}
    assert seen(split={"val_fraction": 0.5}) == {"train_prior"}
    assert seen(tier="medium") == {"train_vqvae", "train_prior"}
    assert seen(tiers={"small": {"max_recordings": 9}}) == {"train_vqvae", "train_prior"}
