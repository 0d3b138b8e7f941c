from pathlib import Path

import pytest

from benchmarks.report import INTRODUCTION, Grid, Section, write_markdown

PAGE = Path(__file__).parents[3] / "docs" / "benchmarks.md"


def _section(key: str, figure: str) -> Section:
    return Section(key, f"Title of {key}", "`command`", (Grid(("what", "figure"), (("x", figure),)),))


def test_the_page_has_the_introduction_that_would_be_written() -> None:
    assert PAGE.read_text(encoding="utf-8").startswith(f"{INTRODUCTION}\n<!-- ")


def test_a_section_replaces_its_predecessor_and_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.md"
    write_markdown(path, [_section("codec a", "1.0"), _section("memory", "2.0")])
    write_markdown(path, [_section("codec a", "3.0"), _section("codec b", "4.0")])
    text = path.read_text()
    assert text.startswith("# Benchmarks\n")
    assert "| x | 1.0 |" not in text
    positions = [text.index(f"| x | {figure} |") for figure in ("3.0", "2.0", "4.0")]
    assert positions == sorted(positions)


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.md"
    write_markdown(path, [_section("memory", "2.0")])
    before = path.read_text()
    write_markdown(path, [])
    assert path.read_text() == before


@pytest.mark.parametrize("splits", ["0", "-2", "two"])
def test_splits_are_a_count(splits: str, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.__main__ import _parser

    with pytest.raises(SystemExit) as stopped:
        _parser().parse_args([f"--splits={splits}"])
    assert stopped.value.code == 2
    assert f"--splits: expected a whole number from 1 on, found {splits}" in capsys.readouterr().err


def test_the_command_names_what_was_measured_and_no_paths(tmp_path: Path) -> None:
    from benchmarks.__main__ import _what_was_measured

    (tmp_path / "drums").mkdir()
    arguments = [
        str(tmp_path / "drums"),
        "--seconds",
        "20",
        "--json",
        "/somewhere/x.json",
        "--write",
        "docs/b.md",
        "--full",
    ]
    assert _what_was_measured(arguments) == ["drums", "--seconds", "20", "--full"]
