"""Promises between parts: imports go down, stages declare what they use, settings are used where they are declared."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAGES = ("ingest", "train_vqvae", "encode_codes", "split", "train_prior", "bundle", "audition")

# From the ground up; a module imports from its own layer and those before it.
LAYERS = (
    ("distill/__init__.py", "distill/errors.py", "distill/words.py"),
    ("distill/files.py", "distill/seeds.py", "distill/params.py", "distill/execution.py", "distill/console.py"),
    ("distill/headers.py", "distill/shards.py", "distill/tables.py"),
    ("distill/audio/",),
    ("distill/codes/",),
    ("distill/models/",),
    ("distill/likeness/",),
    ("distill/weights.py", "distill/bundle.py", "distill/card.py", "distill/encoding.py", "distill/transcoding.py"),
    ("distill/training/",),
    ("distill/generate/",),
    ("distill/model.py", "distill/acceptance/"),
    ("distill/inspection.py", "distill/reporting.py", "distill/flags.py", "distill/cli.py", "distill/__main__.py"),
    ("stages/",),
)

FRONT_DOOR = ROOT / "distill" / "__init__.py"  # names what is above it, and imports that when it is asked for

DATA = {
    "distill/generate/audition.html": "distill/generate/page.py",
    "distill/models/starts": "distill/training/codec_start.py",
}  # files of the package that a module reads

# Modules that show, record or interrupt work and cannot change what it writes.
WITHOUT_INFLUENCE = {
    "distill/__init__.py",
    "distill/audio/__init__.py",
    "distill/codes/__init__.py",
    "distill/console.py",
    "distill/errors.py",
    "distill/execution.py",
    "distill/generate/__init__.py",
    "distill/likeness/__init__.py",
    "distill/models/__init__.py",
    "distill/training/__init__.py",
    "distill/training/events.py",
    "distill/training/interruption.py",
    "distill/training/tracking.py",
    "distill/words.py",
    "stages/__init__.py",
    "stages/running.py",
}


def sources() -> list[Path]:
    return sorted([*(ROOT / "distill").rglob("*.py"), *(ROOT / "stages").rglob("*.py")])


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_names(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported_files(path: Path) -> set[Path]:
    found: set[Path] = set()
    if path == FRONT_DOOR:
        return found
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
        n
        for n, members in enumerate(LAYERS)
        if any(path == m or (m[-1] == "/" and path.startswith(m)) for m in members)
    ]
    assert len(matches) == 1, f"{path} belongs to {len(matches)} layers"
    return matches[0]


def pipeline() -> dict[str, dict[str, list[object]]]:
    stages: dict[str, dict[str, list[object]]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return stages


@pytest.mark.parametrize("path", sources(), ids=place)
def test_imports_go_down(path: Path) -> None:
    for other in imported_files(path):
        assert layer(place(other)) <= layer(place(path)), f"{place(path)} imports {place(other)}"


def test_the_library_knows_nothing_of_dvc_or_the_stages() -> None:
    for path in (ROOT / "distill").rglob("*.py"):
        assert not any(name.split(".")[0] in {"stages", "dvc"} for name in imported_names(path)), path


def test_stages_are_those_of_the_design_in_order() -> None:
    assert tuple(pipeline()) == STAGES
    for name in STAGES:
        assert pipeline()[name]["cmd"] == f"python -m stages.{name}"


@pytest.mark.parametrize("name", STAGES)
def test_deps_are_the_modules_that_a_stage_imports(name: str) -> None:
    declared = {str(dep) for dep in pipeline()[name]["deps"] if str(dep).startswith(("distill/", "stages/"))}
    used = closure(ROOT / "stages" / f"{name}.py") - WITHOUT_INFLUENCE
    data = {path for path, module in DATA.items() if module in used}
    assert declared == used | data


@pytest.mark.parametrize("name", STAGES)
def test_params_are_those_that_a_stage_uses(name: str) -> None:
    text = (ROOT / "stages" / f"{name}.py").read_text()
    used = set(re.findall(r"\bparams\.(\w+)", text))
    if "bundle_path(params)" in text:
        used.add("bundle")
    declared = {str(param) for param in pipeline()[name].get("params", [])}
    assert used == {param.split(".")[0] for param in declared}
    for param in declared:
        assert "." not in param or re.search(rf"\bparams\.{re.escape(param)}\b", text)


def test_every_section_of_the_settings_has_a_stage_that_uses_it() -> None:
    written = set(yaml.safe_load((ROOT / "params.yaml").read_text()))
    declared = {str(param).split(".")[0] for stage in pipeline().values() for param in stage.get("params", [])}
    assert written == declared


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_reads_what_another_writes(name: str) -> None:
    written = {str(out) for stage in pipeline().values() for out in stage["outs"]}
    read = {str(dep) for dep in pipeline()[name]["deps"] if not str(dep).startswith(("distill/", "stages/"))}
    assert read <= written | {"${corpus.path}"}


@pytest.mark.parametrize("name", ["ingest", "split"])
def test_stages_without_networks_do_not_import_torch(name: str) -> None:
    for path in closure(ROOT / "stages" / f"{name}.py"):
        assert not any(module.split(".")[0] == "torch" for module in imported_names(ROOT / path)), path


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_wiring_only(name: str) -> None:
    lines = (ROOT / "stages" / f"{name}.py").read_text().splitlines()
    assert len(lines) <= 60


def test_no_pickle_anywhere() -> None:
    for path in sources():
        text = path.read_text()
        assert "pickle" not in {name.split(".")[0] for name in imported_names(path)}, path
        assert "torch.load(" not in text, path
        assert "torch.save(" not in text, path


def test_every_module_says_what_it_is() -> None:
    for path in sources():
        assert ast.get_docstring(ast.parse(path.read_text())), path
