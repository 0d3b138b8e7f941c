"""Settings: refused values with their messages, and the defaults of tiers."""

import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import ParamsError
from distill.params import (
    Params,
    PriorParams,
    QualityName,
    SplitParams,
    TierName,
    VQVAEParams,
    default_qualities,
    default_tiers,
    get_adaptive_prior_config,
    get_adaptive_vqvae_config,
    load_params,
    validated,
)

ROOT = Path(__file__).parents[2]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"prior": {"epoch": 3}},
            "prior.epoch: expected a known key, found an unknown one; did you mean prior.epochs?",
        ),
        ({"tire": "small"}, "tire: expected a known key, found an unknown one; did you mean tier?"),
        ({"prior": {"zzz": 1}}, "prior.zzz: expected a known key, found an unknown one; prior has architecture,"),
        ({"prior": {"epochs": -3}}, "prior.epochs: expected greater than or equal to 1 or auto, found -3"),
        ({"prior": {"epochs": "many"}}, "prior.epochs: expected integer or auto, found 'many'"),
        ({"prior": {"epochs": 2.5}}, "prior.epochs: expected integer or auto, found 2.5"),
        ({"prior": {"dropout": True}}, "prior.dropout: expected number or auto, found True"),
        (
            {"prior": {"architecture": "deep"}},
            "prior.architecture: expected 'frame', 'memory' or 'flat', found 'deep'",
        ),
        ({"prior": 3}, "prior: expected a section of `key: value` lines, found 3"),
        ({"tier": "huge"}, "tier: expected 'small', 'medium' or 'large' or auto, found 'huge'"),
        ({"split": {"val_fraction": 1.5}}, "split.val_fraction: expected less than 1 or auto, found 1.5"),
        ({"corpus": {"path": "x", "max_rejected": -1}}, "corpus.max_rejected: expected greater than or equal to 0"),
        ({"corpus": {}}, "corpus.path: expected a value, found none; add it"),
        (
            {"corpus": {"path": "x", "sample_rate": "fast"}},
            "corpus.sample_rate: expected integer or auto, found 'fast'",
        ),
        (
            {"corpus": {"path": "x", "sample_rate": 100}},
            "corpus.sample_rate: expected greater than or equal to 8000 or auto, found 100",
        ),
        ({"vqvae": {"quality": "best"}}, "vqvae.quality: expected 'small', 'standard' or 'high', found 'best'"),
        ({"bundle": {"name": "../escape"}}, "bundle.name: expected match pattern"),
        (
            {"vqvae": {"budget_minutes": -5}},
            "vqvae.budget_minutes: expected greater than or equal to 0 or auto, found -5",
        ),
        ({"prior": {"budget_minutes": "long"}}, "prior.budget_minutes: expected number or auto, found 'long'"),
        ({"prior": {"budget_minutes": False}}, "prior.budget_minutes: expected number or auto, found False"),
        ({"vqvae": {"learning_rate": float("nan")}}, "vqvae.learning_rate: expected"),
    ],
)
def test_refusals_name_file_key_expectation_and_finding(section: dict[str, object], message: str) -> None:
    values = {"corpus": {"path": "x"}, **section}
    with pytest.raises(ParamsError) as caught:
        validated(Params, values, "params.yaml")
    assert str(caught.value).startswith(f"params.yaml: {message}")


def test_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(
        ParamsError, match=r"params\.yaml: expected a settings file, found none; run from the repository"
    ):
        load_params(tmp_path / "params.yaml")


def test_broken_yaml_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="expected YAML, found a syntax error") as caught:
        load_params(written(tmp_path, "corpus: [1,\nprior:"))
    assert "\n" not in str(caught.value)


def test_a_list_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"expected sections such as `corpus:` and `prior:`, found \[1\]"):
        load_params(written(tmp_path, "[1]"))


def test_a_key_written_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="duplicate key 'seed'"):
        load_params(written(tmp_path, "seed: 1\ncorpus: {path: x}\nseed: 2\n"))


def test_exponents_without_a_dot_are_numbers(tmp_path: Path) -> None:
    params = load_params(written(tmp_path, "corpus: {path: x}\nprior: {learning_rate: 1e-3}\n"))
    assert params.prior.learning_rate == 1e-3


def test_the_committed_settings_are_valid_and_complete() -> None:
    path = Path(__file__).parents[2] / "params.yaml"
    params = load_params(path)
    values = yaml.safe_load(path.read_text())
    for name, section in values.items():
        if isinstance(section, dict):
            assert set(section) == set(type(getattr(params, name)).model_fields), name


@pytest.mark.parametrize(
    ("recordings", "tier", "codebook", "hidden", "fraction", "batch"),
    [
        (5, "small", 64, 128, 0.5, 6),
        (9, "small", 64, 128, 0.5, 11),
        (20, "small", 64, 128, 0.3, 25),
        (21, "medium", 128, 128, 0.3, 26),
        (100, "medium", 128, 128, 0.2, 32),
        (101, "large", 256, 128, 0.2, 32),
        (200, "large", 256, 128, 0.1, 32),
        (100_000, "large", 256, 128, 0.1, 32),
    ],
)
def test_tiers(recordings: int, tier: str, codebook: int, hidden: int, fraction: float, batch: int) -> None:
    prior, vqvae = get_adaptive_prior_config(recordings), get_adaptive_vqvae_config(recordings)
    assert default_tiers().choose(recordings)[0] == tier
    assert (vqvae.codebook_size, prior.hidden_size, prior.val_fraction, prior.batch_size) == (
        codebook,
        hidden,
        fraction,
        batch,
    )


def test_a_named_tier_wins_over_the_count_and_a_number_over_the_tier() -> None:
    assert default_tiers().choose(5, "large")[0] == "large"
    prior = PriorParams(epochs=3, architecture="flat").resolve(5, "large", SplitParams(val_fraction=0.4))
    assert (prior.epochs, prior.hidden_size, prior.val_fraction) == (3, 512, 0.4)


@pytest.mark.parametrize(
    ("recordings", "plan", "frame"),
    [
        (20, (128, 2, 4, 0.3, 50, 3e-4, 2.0), (128, 3, 4, 0.3, 50, 3e-4, 2.0)),
        (100, (256, 4, 4, 0.2, 100, 1e-3, 3.0), (128, 3, 4, 0.2, 100, 1e-3, 3.0)),
        (101, (512, 6, 8, 0.1, 150, 1e-3, 5.0), (128, 3, 4, 0.2, 150, 2e-3, 5.0)),
    ],
)
def test_the_plans_numbers_are_the_plans_and_frame_has_what_measured_best(
    recordings: int, plan: tuple[float, ...], frame: tuple[float, ...]
) -> None:
    for architecture, expected in (("flat", plan), ("frame", frame)):
        config = PriorParams(architecture=architecture).resolve(recordings)
        sizes = (config.hidden_size, config.num_layers, config.num_heads, config.dropout)
        assert (*sizes, config.epochs, config.learning_rate, config.memorization_perplexity) == expected


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ParamsError, match=r"prior\.num_heads: expected a divisor of hidden_size 128, found 3"):
        PriorParams(num_heads=3).resolve(5)


@given(st.integers(1, 10**6))
def test_every_count_has_a_tier_and_a_batch(recordings: int) -> None:
    config = get_adaptive_prior_config(recordings)
    assert default_tiers().choose(recordings)[0] in ("small", "medium", "large")
    assert 1 <= config.batch_size <= 32


def test_heads_that_do_not_divide_are_refused_before_anything_runs(tmp_path: Path) -> None:
    path = written(tmp_path, "corpus: {path: x}\nprior: {hidden_size: 100, num_heads: 3}\n")
    with pytest.raises(
        ParamsError, match=r"params\.yaml: prior\.num_heads: expected a divisor of hidden_size 100, found 3"
    ):
        load_params(path)


def test_a_batch_that_no_memory_holds_is_refused_before_anything_runs(tmp_path: Path) -> None:
    path = written(tmp_path, "corpus: {path: x}\nvqvae: {batch_size: 1000000, crop_seconds: 0.5}\n")
    with pytest.raises(
        ParamsError,
        match=r"params\.yaml: vqvae\.batch_size: expected at most 1200, ten minutes of sound at crop_seconds 0\.5, found 1000000",
    ):
        load_params(path)


def test_a_date_that_does_not_exist_is_a_syntax_error(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="expected YAML, found a syntax error"):
        load_params(written(tmp_path, "seed: 2024-99-99\n"))


def test_the_package_ships_the_settings_of_the_repository() -> None:
    shipped = (ROOT / "distill" / "default_params.yaml").read_bytes()
    done = subprocess.run(["git", "show", "HEAD:params.yaml"], cwd=ROOT, capture_output=True, check=False)
    # A musician who changes params.yaml changes no default: what is committed counts, beside what lies there.
    assert shipped in ((ROOT / "params.yaml").read_bytes(), done.stdout)


def test_tiers_can_be_changed_in_the_file(tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "distill" / "default_params.yaml").read_text())
    values["tiers"]["small"]["max_recordings"] = 3
    values["tiers"]["medium"]["vqvae"]["codebook_size"] = 99
    values["tiers"]["medium"]["frame"]["epochs"] = 7
    params = load_params(written(tmp_path, yaml.safe_dump(values)))
    assert (params.tier_name(3), params.tier_name(4)) == ("small", "medium")
    assert params.vqvae_config(4).codebook_size == 99
    assert params.prior_config(4).epochs == 7
    assert get_adaptive_vqvae_config(4).codebook_size == 64


@pytest.mark.parametrize(
    ("tier", "key", "value", "message"),
    [
        ("small", "max_recordings", 500, "tiers: expected .*max_recordings to grow from small to medium"),
        ("large", "max_recordings", 500, "tiers: expected .*null for large"),
        (
            "small",
            "vqvae",
            {"codebook_size": 1},
            r"tiers\.small\.vqvae\.codebook_size: expected greater than or equal to 2",
        ),
        (
            "small",
            "prior",
            {"epoch": 1},
            r"tiers\.small\.prior\.epoch: expected a known key.* tiers\.small\.prior\.epochs",
        ),
    ],
)
def test_tiers_that_make_no_sense_are_refused(tmp_path: Path, tier: str, key: str, value: object, message: str) -> None:
    values = yaml.safe_load((ROOT / "distill" / "default_params.yaml").read_text())
    row = values["tiers"][tier]
    row[key] = {**row[key], **value} if isinstance(value, dict) else value
    with pytest.raises(ParamsError, match=message):
        load_params(written(tmp_path, yaml.safe_dump(values)))


@pytest.mark.parametrize("tier", ["small", "medium", "large"])
def test_a_quality_gives_its_levels_in_every_tier(tier: TierName) -> None:
    qualities: tuple[QualityName, ...] = ("small", "standard", "high")
    levels = [VQVAEParams(quality=quality).resolve(5, tier).num_quantizers for quality in qualities]
    assert levels == [4, 8, 16] == [default_qualities().choose(quality).num_quantizers for quality in qualities]
    assert VQVAEParams(quality="high", num_quantizers=3).resolve(5, tier).num_quantizers == 3


def test_qualities_can_be_changed_in_the_file(tmp_path: Path) -> None:
    path = written(
        tmp_path, "corpus: {path: x}\nvqvae: {quality: standard}\nqualities: {standard: {num_quantizers: 6}}\n"
    )
    with pytest.raises(ParamsError, match=r"qualities\.small: expected a value, found none"):
        load_params(path)
    values = yaml.safe_load((ROOT / "distill" / "default_params.yaml").read_text())
    values["qualities"]["standard"]["num_quantizers"], values["vqvae"]["quality"] = 6, "standard"
    assert load_params(written(tmp_path, yaml.safe_dump(values))).vqvae_config(5).num_quantizers == 6
    values["qualities"]["standard"]["num_quantizers"] = 17
    with pytest.raises(ParamsError, match=r"qualities\.standard\.num_quantizers: expected less than or equal to 16"):
        load_params(written(tmp_path, yaml.safe_dump(values)))
    values["qualities"]["standard"]["num_quantizers"] = 2
    with pytest.raises(ParamsError, match="expected num_quantizers not to fall from small to standard to high"):
        load_params(written(tmp_path, yaml.safe_dump(values)))


def test_what_a_file_leaves_out_is_as_in_the_file_that_ships(tmp_path: Path) -> None:
    params = load_params(written(tmp_path, "corpus: {path: x}\nprior: {epochs: 3, memory: {chunk_size: 8}}\n"))
    assert (params.prior.epochs, params.prior.dropout, params.prior.memory.key_size) == (3, "auto", 32)
    assert params.prior.memory.chunk_size == 8
