"""Promises between parts: imports go down, stages declare what they use, settings are used where they are declared."""

import ast
import re
import shutil
from collections.abc import Collection
from functools import cache
from pathlib import Path

import pytest
import yaml

from distill import code_version
from distill.code_version import CODE, code_files

ROOT = Path(__file__).parents[2]
PUBLIC = ROOT / "distill" / "__init__.py"
STAGES = tuple(CODE)

# From the ground up; a module imports from its own layer and those before it.
LAYERS = (
    ("distill/errors.py", "distill/exports.py", "distill/process.py", "distill/text.py"),
    ("distill/__init__.py",),
    (
        *("distill/drums.py", "distill/notes.py"),
        *("distill/execution.py", "distill/params/", "distill/prior/architectures.py", "distill/progress.py"),
        *("distill/seeds.py", "distill/split.py"),
    ),
    ("distill/storage/", "distill/code_version.py"),
    ("distill/audio/",),
    ("distill/demo/",),
    ("distill/training/",),
    ("distill/codec/",),
    ("distill/codes/",),
    ("distill/novelty/",),
    ("distill/prior/",),
    ("distill/generate/",),
    ("distill/kit/",),
    ("distill/verbs/",),
    ("distill/model_file/",),
    ("distill/sharing.py",),
    ("distill/pipeline/",),
    ("distill/cluster.py",),
    ("distill/api.py",),
    ("distill/one_shot.py",),
    ("distill/ui/",),
    ("distill/cli/", "distill/__main__.py"),
    ("stages/",),
)

# Modules that show, record or interrupt work and cannot change what it writes.
WITHOUT_INFLUENCE = {
    *("distill/__init__.py", "distill/errors.py", "distill/process.py"),
    *("distill/cluster.py", "distill/execution.py", "distill/exports.py", "distill/progress.py"),
    *("distill/pipeline/__init__.py", "distill/pipeline/workspace.py"),
    *("distill/prior/architectures.py", "distill/text.py"),
    *("stages/__init__.py", "stages/ops/__init__.py", "stages/ops/processes.py", "stages/running.py"),
}
# Names checkpoints of a training, which ends with the same bytes; a model file keeps the hash.
NAMES_CHECKPOINTS = "distill/code_version.py"
TRACKING = "distill/training/"  # of stages that train nothing: they only note figures and are interrupted


def sources() -> list[Path]:
    return sorted([*(ROOT / "distill").rglob("*.py"), *(ROOT / "stages").rglob("*.py")])


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def imported_names(path: Path) -> set[str]:
    """What a module imports when it runs, or when a name of it is first used; what only type checkers see does not count.

    The public names are above all rooms.
    """
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif path != PUBLIC and isinstance(node, ast.Call) and "lazy_exports" in ast.unparse(node.func):
            names |= set(ast.literal_eval(node.args[1]))
        waiting += ast.iter_child_nodes(node)
    return names


@cache
def imported_files(path: Path) -> set[Path]:
    found: set[Path] = set()
    for name in imported_names(path):
        base = ROOT.joinpath(*name.split("."))
        candidates = (base.with_suffix(".py"), base / "__init__.py")
        found |= {file for file in candidates if file.is_file() and file.is_relative_to(ROOT)}
    return {file for file in found if place(file).startswith(("distill/", "stages/"))}


def closure(path: Path) -> set[str]:
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            waiting += imported_files(file)
    return {place(file) for file in seen}


def layer(path: str) -> int:
    matches = [
        (path == m, n)
        for n, members in enumerate(LAYERS)
        for m in members
        if path == m or (m[-1] == "/" and path.startswith(m))
    ]
    named = [n for is_named, n in matches if is_named or len(matches) == 1]  # a module may stand below its folder
    assert len(named) == 1, f"{path} belongs to {len(matches)} layers"
    return named[0]


def pipeline() -> dict[str, dict[str, list[object]]]:
    stages: dict[str, dict[str, list[object]]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return stages


@pytest.mark.parametrize("path", sources(), ids=place)
def test_imports_go_down(path: Path) -> None:
    for other in imported_files(path):
        assert layer(place(other)) <= layer(place(path)), f"{place(path)} imports {place(other)}"


def test_public_names_are_those_of_the_design_and_no_room_takes_them_from_above() -> None:
    import distill

    assert all(callable(getattr(distill, name)) for name in distill.__all__)
    listed = {"load", "train_vqvae", "train_prior", "check_memorization", "CodePrior", "VQEpochMetrics"}
    assert listed <= set(distill.__all__)
    for path in sources():
        assert not {f"distill.{name}" for name in distill.__all__} & imported_names(path), path


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("distill/training/", {f"distill.{room}" for room in ("codec", "codes", "prior", "novelty", "pipeline")}),
        ("distill/", {"stages", "dvc"}),
        ("", {"pickle"}),
    ],
)
def test_what_a_folder_may_not_import(folder: str, forbidden: set[str]) -> None:
    for path in (path for path in sources() if place(path).startswith(folder)):
        above = {name.rsplit(".", cut)[0] for name in imported_names(path) for cut in range(name.count(".") + 1)}
        assert not above & forbidden, path


def test_stages_are_those_of_the_design_in_order_and_wiring_only() -> None:
    written = {"artifacts/prepared.txt", *(str(out) for stage in pipeline().values() for out in stage["outs"])}
    assert tuple(pipeline()) == ("prepare", *STAGES)
    for name, stage in pipeline().items():
        assert stage["cmd"] == f"python -m stages.{name}"
        read = {str(dep) for dep in stage["deps"] if not str(dep).startswith(("distill/", "stages/"))}
        assert read <= written | {"${corpus.path}"}, name
        assert len((ROOT / "stages" / f"{name}.py").read_text().splitlines()) <= 60, name


def test_no_modules_import_each_other_in_a_circle() -> None:
    above: dict[Path, set[Path]] = {
        path: imported_files(path) - {path} for path in sources() if path.name != "__init__.py"
    }
    while leaves := {path for path, others in above.items() if not others & above.keys()}:
        above = {path: others for path, others in above.items() if path not in leaves}
    assert not sorted(map(place, above))


def is_in(path: str, places: Collection[str]) -> bool:
    return any(path == one or path.startswith(one + "/") for one in places)


@pytest.mark.parametrize("name", STAGES)
def test_deps_are_the_code_of_a_stage_which_is_what_it_imports(name: str) -> None:
    declared = {*(f"distill/{one}" for one in CODE[name]), f"stages/{name}.py"}
    assert declared == {str(dep) for dep in pipeline()[name]["deps"] if str(dep).startswith(("distill/", "stages/"))}
    used = closure(ROOT / "stages" / f"{name}.py") - WITHOUT_INFLUENCE
    if "training" not in CODE[name]:
        used = {path for path in used if not path.startswith(TRACKING)}
    if "code_version.py" not in CODE[name]:
        used.discard(NAMES_CHECKPOINTS)
    if name == "bundle":  # the code of the trainings is named in what it writes
        used |= {place(path) for stage in ("train_vqvae", "train_prior") for path in code_files(stage)}
    assert not sorted(path for path in used if not is_in(path, declared))
    assert not sorted(one for one in declared if not any(is_in(path, {one}) for path in used))


@pytest.mark.parametrize("module", ["verdict", "report"])
def test_a_threshold_of_the_verdict_runs_no_training_again(module: str) -> None:
    path, stages = f"distill/novelty/{module}.py", pipeline().items()
    again = [name for name, stage in stages if is_in(path, list(map(str, stage["deps"])))]
    assert again == ["bundle", "audition"]  # drafts for the critic are drawn by the code that judges them, too


def test_the_hash_of_the_code_follows_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "distill"
    shutil.copytree(ROOT / "distill", package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_version, "PACKAGE", package)
    before = code_version.code_sha256.__wrapped__("train_prior")
    elsewhere = ("cli/app.py", "codec/model.py", "novelty/report.py", "novelty/verdict.py")
    for changed, same in (*((path, True) for path in elsewhere), ("prior/frame.py", False)):
        with (package / changed).open("a") as file:
            file.write("# changed\n")
        assert (code_version.code_sha256.__wrapped__("train_prior") == before) is same, changed


# What a stage calls with all settings at once, and the sections behind the shorthands of `Params`.
TAKES_PARAMS = {
    "train_vqvae": ("distill/codec/training.py", "def train_codec"),
    "encode_codes": ("distill/codes/encode.py", "def _plan"),
    "split": ("distill/codes/store.py", "def split_codes"),
    "train_prior": ("distill/prior/training.py", "def train_prior_of_codes"),
}
# Sections that a stage has from what `resolve` writes for it.
RESOLVED = {"vqvae", "prior", "tier", "tiers", "qualities"}
SHORTHANDS = {
    "vqvae_config": ("vqvae", "tier", "tiers", "qualities"),
    "prior_config": ("prior", "tier", "tiers", "split"),
    "tier_name": ("tier", "tiers"),
}


@pytest.mark.parametrize("name", STAGES)
def test_params_are_those_that_a_stage_uses(name: str) -> None:
    text = (ROOT / "stages" / f"{name}.py").read_text()
    if name in TAKES_PARAMS:
        path, definition = TAKES_PARAMS[name]
        called = (ROOT / path).read_text()
        text += re.split(r"\n\n\n", called[called.index(definition) :])[0]
    used = {section for word in re.findall(r"\bparams\.(\w+)", text) for section in SHORTHANDS.get(word, (word,))}
    if "bundle_path(params)" in text:
        used.add("bundle")
    if f"artifacts/settings/{name}.json" in pipeline()[name]["deps"]:
        used -= RESOLVED
    declared = {str(param) for param in pipeline()[name].get("params", [])}
    assert used == {param.split(".")[0] for param in declared}
    for section, _, key in (param.partition(".") for param in declared):
        assert not key or re.search(rf"\bparams\.{section}\.{key}\b", text)


# The stages that a setting runs again, beside those that read what these write and find it changed.
RUN_AGAIN = {
    "seed": {"train_vqvae", "encode_codes", "train_prior", "audition"},
    **{key: {"resolve"} for key in ("tier", "tiers", "vqvae", "qualities", "prior")},
    "corpus": {"ingest"},
    "corpus.path": {"prepare", "ingest"},
    "corpus.labels": {"ingest", "train_vqvae", "encode_codes"},
    "split": {"resolve", "train_vqvae", "encode_codes", "split", "train_prior"},
    "codes": {"encode_codes"},
    "bundle": {"bundle", "audition"},
    "bundle.name": {"prepare", "bundle", "audition"},
    "audition": {"audition"},
}


def keys_of(values: object, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(values, dict):
        return [before]
    return [key for name, value in values.items() for key in keys_of(value, (*before, str(name)))]


def test_a_setting_runs_the_stages_again_that_it_changes_and_no_others() -> None:
    stages = {name: stage.get("params", []) for name, stage in pipeline().items()}
    for key in keys_of(yaml.safe_load((ROOT / "params.yaml").read_text())):
        above = [".".join(key[:length]) for length in range(len(key), 0, -1)]
        expected = next((RUN_AGAIN[one] for one in above if one in RUN_AGAIN), None)
        assert {name for name, declared in stages.items() if set(above) & set(declared)} == expected, key


@pytest.mark.parametrize("name", ["ingest", "resolve", "split"])
def test_stages_without_networks_do_not_import_torch(name: str) -> None:
    for path in closure(ROOT / "stages" / f"{name}.py"):
        assert not any(module.split(".")[0] == "torch" for module in imported_names(ROOT / path)), path


def test_every_module_says_what_it_is_knows_no_pickle_and_no_cluster_but_stages_and_commands() -> None:
    for path in sources():
        text = path.read_text()
        assert ast.get_docstring(ast.parse(text)), path
        assert "torch.load(" not in text, path
        assert "torch.save(" not in text, path
        if not place(path).startswith(("stages/", "distill/cli/")):
            assert "distill.cluster" not in imported_names(path), path
