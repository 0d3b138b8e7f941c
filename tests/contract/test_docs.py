"""What README and the documentation promise exists: commands, flags, settings, files, pages, tensors, figures."""

import json
import math
import re
from datetime import date
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from docs import experiments, reference

import distill
from distill.audio import bandwidth
from distill.audio.bandwidth import Bandwidth, choose_rate
from distill.audio.partials import tone_line
from distill.audio.read import MOST_CHANNELS, SAMPLE_RATES
from distill.codec.initialise import architecture_of
from distill.codec.layout import level_names
from distill.codec.model import VQVAEArchitecture
from distill.codec.spectral import SpectrogramConfig, spectrogram_config_for
from distill.codes.file import CodedRecording, CodesHeader
from distill.codes.store import uniform_bits
from distill.model_file.format import BundleMetadata
from distill.novelty.reference import TENSORS
from distill.params import QualityName, default_params, get_adaptive_prior_config, get_adaptive_vqvae_config
from distill.prior.architectures import ARCHITECTURES, ArchitectureName
from distill.prior.artifact import SHAPES, build_prior
from distill.training.events import kept_weights
from unit.tiny import prior_shape, whole_codec

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
TEXTS = {"README": (ROOT / "README.md").read_text(encoding="utf-8"), **PAGES}
TIERS = ((20, "up to 20"), (100, "up to 100"), (101, "more"))


def code(text: str) -> list[str]:
    """Lines of shell blocks without their comments, and code in running text."""
    blocks = "\n".join(re.findall(r"```(?:bash|sh|console)\n(.*?)```", text, flags=re.DOTALL))
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [line.split(" #")[0].strip() for line in blocks.splitlines()] + inline


def named(text: str, tool: str) -> list[str]:
    return [line for line in code(text) if line.startswith(tool + " ")]


@cache
def anchors(page: str) -> set[str]:
    """Headings as a code host and MyST name them, and explicit targets."""
    text = PAGES[page]
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r"^\(([\w-]+)\)=$", text, flags=re.MULTILINE))


def test_the_page_of_limits_has_those_of_files() -> None:
    lowest, highest = SAMPLE_RATES[0], SAMPLE_RATES[-1] // 1000
    assert f"| sample rate | {lowest} Hz | {highest} kHz read;" in PAGES["limits"]
    assert f"| channels | 1 | {MOST_CHANNELS} are read;" in PAGES["limits"]


def test_commands_and_flags_exist_and_every_command_is_shown() -> None:
    known, shown = reference.commands(), {"COMMAND", "--help"}
    written = (text for name, text in TEXTS.items() if name not in reference.PAGES)
    for line in (line for text in written for line in named(text, "distill")):
        command = line.split()[1]
        if command in known:
            unknown = set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", line)) - reference.flags(known[command])
            assert not unknown, line
        shown.add(command)
    assert shown == {*known, "COMMAND", "--help"}


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    lines = [line.split() for text in TEXTS.values() for line in named(text, "make")]
    assert {word for line in lines for word in line[1:2] if "=" not in word} <= targets


def test_settings_named_with_a_section_exist() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    sections = "|".join(key for key, value in params.items() if isinstance(value, dict))
    text = "\n".join(TEXTS[name] for name in set(TEXTS) - {"file-format"})  # whose tensors are named alike
    given = re.findall(rf"-S ({sections})\.((?:\w+\.)?\w+)=", text)
    for section, keys in given + re.findall(rf"`({sections})\.(?!py`)((?:\w+\.)?\w+)[`:]", text):
        value: Any = params[section]
        for key in keys.split("."):
            assert key in value, f"{section}.{keys}"
            value = value[key]


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name: str) -> None:
    folder = ROOT if name == "README" else DOCS
    text = re.sub(r"```.*?```", "", TEXTS[name], flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\((?!\w+://)([^)#\s]*)(?:#([^)\s]+))?\)", text):
        path = folder / target if target else DOCS / f"{name}.md"
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.stem), f"{target}#{anchor}"


def test_modules_that_are_named_exist() -> None:
    folders = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    modules = "\n".join(f"/{path.relative_to(ROOT).as_posix()}" for folder in folders for path in folder.rglob("*.py"))
    for module in re.findall(r"`([\w/]+\.py)`", "".join(TEXTS.values())):
        assert re.search(rf"/{re.escape(module)}$", modules, flags=re.MULTILINE), module


def test_every_page_is_in_the_menu_and_has_a_question_as_its_title() -> None:
    menu = re.findall(r"<([\w-]+)>$", PAGES["index"], flags=re.MULTILINE)
    assert sorted(menu) == sorted(set(PAGES) - {"index"})
    for name, text in PAGES.items():
        titles = re.findall(r"^# (.*)", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
        assert len(titles) == 1, name
        assert titles[0].endswith("?") or name == "index", f"{name}: expected the question that the page answers"


def test_the_tier_table_is_that_of_the_settings() -> None:
    for recordings, words in TIERS:
        codec, frame = get_adaptive_vqvae_config(recordings), get_adaptive_prior_config(recordings)
        flat = get_adaptive_prior_config(recordings, architecture="flat")
        sizes = [f"{one.hidden_size} / {one.num_layers} / {one.num_heads} / {one.dropout}" for one in (frame, flat)]
        if flat.learning_rate != frame.learning_rate:
            sizes[1] += f", {flat.learning_rate}"
        cells = (
            default_params().tier_name(recordings),
            words,
            str(codec.codebook_size),
            f"{codec.epochs} / {codec.learning_rate} / {codec.dropout} / {codec.ema_decay}",
            sizes[0],
            f"{frame.epochs} / {frame.learning_rate}",
            "the same" if sizes[1] == sizes[0] else sizes[1],
        )
        assert f"| {' | '.join(cells)} |" in PAGES["tuning"]
    for before, after in pairwise((20, 21, 100, 101)):
        assert (default_params().tier_name(before) != default_params().tier_name(after)) is (after in (21, 101))


def test_the_bit_rates_are_those_of_the_settings() -> None:
    def bits(quality: QualityName, recordings: int, rate: int) -> str:
        config = get_adaptive_vqvae_config(recordings, quality=quality)
        per_frame = uniform_bits(architecture_of(config).codebook_sizes)
        return f"{spectrogram_config_for(rate).frame_rate * per_frame:.1f}".removesuffix(".0")

    assert spectrogram_config_for(24_000).frame_rate == spectrogram_config_for(48_000).frame_rate
    for quality in get_args(QualityName):
        at_24, at_44 = ({bits(quality, recordings, rate) for recordings, _ in TIERS} for rate in (24_000, 44_100))
        levels = str(get_adaptive_vqvae_config(5, quality=quality).num_quantizers)
        assert f"| {' | '.join([f'`{quality}`', levels, *at_24, *at_44])} |" in PAGES["tuning"]


def test_the_rule_of_the_sample_rate_is_that_of_the_code() -> None:
    page, rule = PAGES["own-sounds"], bandwidth
    for rate in (rule.NARROW_RATE, rule.FULL_RATE, rule.STUDIO_RATE):
        assert f"| {rate} Hz |" in page
    assert f"less than {rule.LEAST_TREBLE_SHARE:.0%} of the sound".replace("%", " %") in page
    assert f"({10 * math.log10(rule.LEAST_ENERGY_SHARE):.0f} dB) is between 10 and 20 kHz" in page
    assert f"has {10 * math.log10(rule.LEAST_TREBLE_POWER):.0f} dBFS or more" in page
    some = [Bandwidth(rule.FULL_RATE, 61, True), Bandwidth(rule.FULL_RATE, 39, False)]
    assert choose_rate(some, "auto").reason in page


@pytest.mark.parametrize("name", reference.PAGES)
def test_pages_that_are_made_from_the_code_stand_as_it_is(name: str) -> None:
    assert PAGES[name] == reference.PAGES[name](), "run `make reference`"


def test_every_public_name_is_on_the_page_of_the_api() -> None:
    for name in distill.__all__:
        assert f"### `{name}`\n\n```python\n" in PAGES["api"]


def test_reference_tables_have_every_setting_and_every_flag() -> None:
    commands = reference.commands_markdown()
    for name, command in reference.commands().items():
        section = commands.split(f"## `distill {name}`\n")[1].split("\n## ")[0]
        assert all(flag in section for flag in reference.flags(command) - {"--help"}), name
    settings = reference.settings_markdown()
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params.pop("tiers", None)
    for section, values in params.items():
        for key in values if isinstance(values, dict) else [section]:
            assert f"`{key}`" in settings, f"{section}.{key}"


def test_every_folder_of_the_library_has_a_line_in_the_tree() -> None:
    tree = PAGES["architecture"].split("```")[1]
    folders = {path.parent.name for path in (ROOT / "distill").rglob("*.py")}
    assert not [name for name in folders if not re.search(rf"^ *{name}/ ", tree, flags=re.MULTILINE)]


def test_every_architecture_is_described_as_in_the_table() -> None:
    page = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", PAGES["tuning"])
    for name, entry in ARCHITECTURES.items():
        assert f"| `{name}` | {entry.summary}" in page


def documented(tensor: str) -> bool:
    """Whether the page on the format has this tensor, under its whole name or the end of it in a table of parts."""
    text = PAGES["file-format"]
    parts = re.sub(r"\.\d+\b", ".i", tensor).split(".")
    if parts[-1] == "bias" and documented(".".join([*tensor.split(".")[:-1], "weight"])):
        return True
    return any(f"`{'.'.join(parts[start:])}`" in text for start in range(len(parts)))


def test_the_format_has_every_key() -> None:
    page = PAGES["file-format"]
    derived = ("format", "version", "model_type", "has_prior", "codebook_size", "num_quantizers", "seq_len")
    assert all(f"| `{key}` |" in page for key in derived)
    of_codes = (VQVAEArchitecture, SpectrogramConfig, CodesHeader, CodedRecording)
    for settings in (BundleMetadata, *of_codes, *SHAPES.values()):
        missing = [key for key in settings.model_fields if f"`{key}`" not in page]
        assert not missing, settings.__name__


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_format_has_every_tensor(architecture: ArchitectureName) -> None:
    counts = {"count_experts": True} if "count_experts" in ARCHITECTURES[architecture].settings else {}
    prior = build_prior(prior_shape(architecture, labels=["kick"], **counts))
    names = [f"codec.{key}" for key in whole_codec().state_dict()] + [f"prior.{key}" for key in prior.state_dict()]
    names += [f"reference.{key}" for key in TENSORS]
    assert not [name for name in names if not documented(name)]


def summary() -> dict[str, str]:
    """What `make repro` printed: a name and its value on each line, a value that goes on is indented."""
    found = re.search(r"<!-- summary -->\n```\n(.*?)```\n<!-- end -->", TEXTS["README"], re.DOTALL)
    assert found
    rows: dict[str, str] = {}
    for line in re.sub(r"\n {3,}", " ", found[1]).splitlines():
        name, value = re.split(r" {2,}", line.strip(), maxsplit=1)
        rows[name] = value
    return rows


def test_the_readme_is_short() -> None:
    lines = TEXTS["README"].splitlines()
    assert len(lines) <= 120
    assert not [line for line in lines if len(line) > 120]


def test_figures_of_experiments_which_no_run_checks_are_dated() -> None:
    """A run of the pipeline changes them, and `python docs/experiments.py`, which takes long, writes them with its date."""
    text = PAGES["comparing-runs"]
    printed = experiments.PRINTED.search(text)
    assert printed
    assert date.fromisoformat(printed[0]) > date(2026, 1, 1)
    assert experiments.TABLE[0] in text[printed.end() :]
    assert not re.search(r"\d", "".join(re.findall(r"!\[(.*?)\]", text)))  # nor do pictures say figures in words


def test_the_summary_names_every_stage() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert re.findall(r"(\w+) \d+ s", summary()["stages run"]) == list(stages)


def test_figures_of_readme_and_benchmarks_are_those_of_the_run() -> None:
    rows = summary()
    stages = ("ingest", "train_vqvae", "train_prior", "audition")
    ingest, codec, prior, audition = (json.loads((ROOT / f"metrics/{name}.json").read_text()) for name in stages)
    usable = ingest["used"] + ingest["warned"] - ingest["duplicates"]
    assert rows["recordings"] == f"{usable} usable, {ingest['rejected']} rejected, {ingest['seconds']:.1f} s"
    assert rows["codec"] == kept_weights(codec["best_epoch"], codec["epochs_trained"])
    assert f"learn the {usable} recordings in data/demo" in TEXTS["README"]
    assert rows["held-out sound"] == (
        f"perplexity {prior['val_perplexity']:.1f}, {prior['val_bits_per_second']:.0f} bits per second of audio "
        f"({kept_weights(prior['best_epoch'], prior['epochs_trained'])})"
    )
    names = level_names(sum(key.endswith("/utilization") for key in codec))
    shares = [f"{name} {codec[f'codebook/level_{level}/utilization']:.0%}" for level, name in enumerate(names)]
    assert rows["codewords used"] == ", ".join(shares)
    new, close, copies = (audition[verdict] for verdict in ("new", "close", "copies"))
    verdicts = f"{new + close + copies} sounds: {new} new, {close} close, {copies} copies"
    assert rows["generated"] == f"{verdicts}; {audition['tonal_rate']:.0%} tonal"
    assert rows["held-out tones"] == tone_line(codec)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    counting, start, end = (round(prior[f"val_bits_per_second{key}"]) for key in ("_counting", "_start", ""))
    learnt = f"counting {counting}, ours with the weights that it starts from {start}, and at the end {end}."
    assert learnt in " ".join(PAGES["benchmarks"].split())
    assert rows["model"] == f"models/{params['bundle']['name']}.distill"
