"""Settings: refused values with their messages, the defaults of tiers, and what is shown of a setting."""

from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import yaml

from distill.errors import ParamsError
from distill.params import (
    Params,
    TierName,
    default_params,
    default_values,
    get_adaptive_prior_config,
    get_adaptive_vqvae_config,
    load_params,
    setting,
    validated,
)
from distill.prior.architectures import ARCHITECTURES
from distill.verbs.generate import GenerateSettings

FILE = Path(__file__).parents[2] / "params.yaml"


def loaded(tmp_path: Path, text: str) -> Params:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return load_params(path)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"prior": {"epoch": "auto"}},
            "prior.epoch: expected a known key, found an unknown one; did you mean prior.epo",
        ),
        ({"prior": {"val_fraction": 0.5}}, "prior.val_fraction: expected a known key"),
        ({"prior": {"memory": {"keys": 3}}}, "prior.memory.keys: expected a known key, found an unknown one; did you"),
        ({"tire": "small"}, "tire: expected a known key, found an unknown one; did you mean tier?"),
        ({"prior": {"zzz": 1}}, "prior.zzz: expected a known key, found an unknown one; prior has architecture,"),
        ({"prior": {"epochs": -3}}, "prior.epochs: expected greater than or equal to 1 or auto, found -3"),
        ({"prior": {"epochs": 2.5}}, "prior.epochs: expected integer or auto, found 2.5"),
        ({"prior": {"weight_decay": "auto"}}, "prior.weight_decay: expected number, found 'auto'"),
        ({"prior": {"budget_minutes": "long"}}, "prior.budget_minutes: expected number or auto, found 'long'"),
        ({"prior": {"architecture": "deep"}}, "prior.architecture: expected 'frame', "),
        ({"prior": 3}, "prior: expected a section of `key: value` lines, found 3"),
        ({"tier": "huge"}, "tier: expected 'auto', 'small', 'medium' or 'large', found 'huge'"),
        ({"split": {"val_fraction": 1.5}}, "split.val_fraction: expected less than 1 or auto, found 1.5"),
        ({"vqvae": {"learning_rate": float("nan")}}, "vqvae.learning_rate: expected"),
        ({"bundle": {"name": "../escape"}}, "bundle.name: expected up to 100 letters, digits, dots, dashes and"),
        ({"tiers": {"tiny": {}}}, "tiers.tiny.[key]: expected 'small', 'medium' or 'large', found 'tiny'"),
        ("tiers.small.vqvae.codebook_size 1", "tiers.small.vqvae.codebook_size: expected greater than or equal"),
        (
            "tiers.small.prior.epoch 1",
            "tiers.small.prior.epoch: expected a known key, found an unknown one; did you mean",
        ),
    ],
)
def test_refusals_name_file_key_expectation_and_finding(section: dict[str, object] | str, message: str) -> None:
    values: dict[str, Any] = {"corpus": {"path": "x"}}
    if isinstance(section, str):  # one value among all of them
        path, value = section.split()
        row = values = deepcopy(default_values())
        *sections, key = path.split(".")
        for name in sections:
            row = row[name]
        row[key] = int(value)
    else:
        values |= section
    with pytest.raises(ParamsError) as caught:
        validated(Params, values, "params.yaml: ")
    assert str(caught.value).startswith(f"params.yaml: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("corpus: [1,\nprior:", "expected YAML, found a syntax error: line 2, column 7: expected the node content"),
        ("seed: 2024-99-99\n", "expected YAML, found a syntax error"),
        ("[1]", r"expected sections such as `corpus:` and `prior:`, found \[1\]"),
        ("seed: 1\ncorpus: {path: x}\nseed: 2\n", "line 1, column 1: duplicate key 'seed'"),
        (
            "corpus: {path: x}\nprior: {hidden_size: 100, num_heads: 3}\n",
            r"prior\.num_heads: expected heads of an even size, found 3 for hidden_size 100; change one of the two",
        ),
        (
            "corpus: {path: x}\nprior: {hidden_size: 100}\n",
            r"prior\.num_heads: expected heads of an even size, found 4 for hidden_size 100; change one of the two",
        ),
        (
            "corpus: {path: x}\nprior: {architecture: memory, memory: null}\n",
            r"prior\.memory: expected a section for architecture memory alone, found None",
        ),
        (
            "corpus: {path: x}\nvqvae: {batch_size: 1000000, crop_seconds: 0.5}\n",
            r"vqvae\.batch_size: expected at most 1200, ten minutes of sound at crop_seconds 0\.5, found 1000000; lower",
        ),
    ],
)
def test_a_file_that_cannot_run_is_refused_before_anything_runs(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ParamsError, match=message) as caught:
        loaded(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'params.yaml'}: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(ParamsError, match="expected a settings file, found none; run from the repository's root"):
        load_params(tmp_path / "none.yaml")


def test_what_a_file_leaves_out_is_as_in_the_file_that_ships(tmp_path: Path) -> None:
    prior = "prior: {architecture: memory, learning_rate: 1e-3, memory: {chunk_size: 8}}"
    config = loaded(tmp_path, f"corpus: {{path: x}}\n{prior}\n").prior_config(5)
    assert config.learning_rate == 1e-3  # YAML of before 1.2 reads it as text
    assert config.memory is not None
    assert (config.memory.chunk_size, config.memory.key_size, config.epochs) == (8, 32, 50)


def test_the_committed_settings_are_valid_complete_and_explained() -> None:
    values = yaml.safe_load(FILE.read_text())
    assert load_params(FILE).model_dump().keys() == values.keys()
    for name, config in (("vqvae", get_adaptive_vqvae_config(5)), ("prior", get_adaptive_prior_config(5))):
        assert values[name].keys() == config.model_dump().keys() - {"val_fraction"}
        assert all(setting(f"{name}.{key}").help for key in values[name] if key != "memory")


@pytest.mark.parametrize(
    ("recordings", "tier", "hidden", "fraction", "batch"),
    [
        (9, "small", 128, 0.2, 11),
        (20, "small", 128, 0.3, 25),
        (21, "medium", 128, 0.3, 26),
        (100, "medium", 128, 0.2, 32),
        (101, "large", 128, 0.2, 32),
        (100_000, "large", 128, 0.1, 32),
    ],
)
def test_tiers(recordings: int, tier: str, hidden: int, fraction: float, batch: int) -> None:
    prior = get_adaptive_prior_config(recordings)
    assert default_params().tier_name(recordings) == tier
    assert (prior.hidden_size, prior.val_fraction, prior.batch_size) == (hidden, fraction, batch)


def test_a_codec_may_be_left_untrained_where_nobody_says_how_many_epochs() -> None:
    assert (get_adaptive_vqvae_config(9).least_gain, get_adaptive_vqvae_config(9, epochs=4).least_gain) == (0.007, 0.0)
    assert get_adaptive_vqvae_config(9, epochs=4, least_gain=0.1).least_gain == 0.1


@pytest.mark.parametrize(
    ("recordings", "flat", "frame"),
    [
        (20, (128, 2, 4, 0.3, 50, 3e-4, 2.0), (128, 3, 4, 0.3, 50, 3e-4, 2.0)),
        (100, (256, 4, 4, 0.2, 100, 1e-3, 3.0), (128, 3, 4, 0.2, 100, 2e-3, 3.0)),
        (101, (512, 6, 8, 0.1, 150, 1e-3, 5.0), (128, 3, 4, 0.2, 150, 2e-3, 5.0)),
    ],
)
def test_sizes_of_a_prior_by_tier_and_architecture(
    recordings: int, flat: tuple[float, ...], frame: tuple[float, ...]
) -> None:
    names = ("hidden_size", "num_layers", "num_heads", "dropout", "epochs", "learning_rate", "memorization_perplexity")
    for architecture, expected in (("flat", flat), ("frame", frame)):
        config = get_adaptive_prior_config(recordings, architecture=architecture)
        assert tuple(getattr(config, name) for name in names) == expected


def test_larger_corpora_are_learnt_in_fewer_keys() -> None:
    assert [get_adaptive_prior_config(count).transpose for count in (9, 100, 101)] == [5, 5, 2]
    assert get_adaptive_prior_config(101, transpose=7).transpose == 7


def test_what_is_said_wins_over_the_quality_and_that_over_the_tier(tmp_path: Path) -> None:
    params = default_params(tier="large", split={"val_fraction": 0.4}, prior={"epochs": 3, "architecture": "flat"})
    prior = params.prior_config(5)
    assert (prior.epochs, prior.hidden_size, prior.val_fraction) == (3, 512, 0.4)
    begun, own = get_adaptive_prior_config(5), get_adaptive_prior_config(5, hidden_size=64)
    assert (begun.fits_pretrained, begun.label_smoothing, begun.patience) == (True, 0.0, 2)
    assert (own.fits_pretrained, own.label_smoothing, own.patience) == (False, 0.4, 15)
    assert get_adaptive_prior_config(5, label_smoothing=0.2).label_smoothing == 0.2
    for tier in get_args(TierName):
        for quality, levels in (("small", 6), ("standard", 10), ("high", 16)):
            assert default_params(tier=tier, vqvae={"quality": quality}).vqvae_config(5).num_quantizers == levels
    assert get_adaptive_vqvae_config(5, quality="high", num_quantizers=7).num_quantizers == 7

    values: dict[str, Any] = deepcopy(default_values())
    values["tiers"]["small"]["max_recordings"] = 3
    values["tiers"]["medium"]["vqvae"]["codebook_size"] = 99
    values["tiers"]["medium"]["frame"]["epochs"] = 7
    values["qualities"]["standard"]["num_quantizers"] = 6
    params = loaded(tmp_path, yaml.safe_dump(values))
    assert (params.tier_name(3), params.tier_name(4)) == ("small", "medium")
    codec = params.vqvae_config(4)
    assert (codec.codebook_size, codec.num_quantizers, params.prior_config(4).epochs) == (99, 6, 7)
    del values["tiers"]["large"]["vqvae"]["epochs"]
    assert loaded(tmp_path, yaml.safe_dump(values)).vqvae_config(500).epochs == 4  # as in the file that ships


def test_what_is_shown_of_a_setting_is_what_its_field_says() -> None:
    epochs, rate, weight = (setting(f"vqvae.{name}") for name in ("epochs", "learning_rate", "commitment_weight"))
    assert (epochs.type, epochs.bounds, epochs.shown) == (int, {"ge": 1, "le": 100_000}, "auto, by the tier")
    assert (rate.type, rate.bounds, weight.shown) == (float, {"gt": 0, "le": 1}, "0.25")
    assert (weight.help, setting("prior.memory.key_size").type) == ("weight of the commitment loss", int)
    assert setting("vqvae.quality").help.startswith("about 1.6, 2.7 and 4.3 kbit/s")
    assert setting("prior.architecture").choices == tuple(ARCHITECTURES)
    assert setting("corpus.sample_rate")[:3] == (int, {"ge": 8_000, "le": 96_000}, ("auto",))


def test_numbers_of_numpy_and_pytorch_are_numbers() -> None:
    """Such as a seed of `rng.integers`, which is no int."""
    given = {"n": np.int64(2), "seconds": np.float32(0.5), "seed": torch.tensor(7), "reject_faults": np.True_}
    made = validated(GenerateSettings, given)
    assert made == validated(GenerateSettings, {"n": 2, "seconds": 0.5, "seed": 7, "reject_faults": True})
    assert type(made.seed) is int
    with pytest.raises(ParamsError, match=r"n: expected integer, found 2.0"):
        validated(GenerateSettings, {"n": np.float64(2.0)})
