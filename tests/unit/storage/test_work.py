"""Work that is done once: what is kept, what is made again, and who makes it."""

from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.storage import work
from distill.storage.files import write_bytes
from distill.storage.work import HERE, Cache, cut_blocks, map_cached, work_folder, work_version


def square(item: int, path: Path) -> None:
    write_bytes(path, str(item * item).encode())


def recorded(made: list[int], item: int, path: Path) -> bool:
    made.append(item)
    square(item, path)
    return item != 2


def test_what_was_made_is_kept_and_what_is_doubted_is_made_again(tmp_path: Path) -> None:
    made: list[int] = []
    done: list[int] = []
    found: list[Path] = []

    def run(items: list[int], version: str = "one") -> list[int]:
        made.clear()
        done.clear()
        cache = Cache(tmp_path / "kept", version)
        found[:] = map_cached(partial(recorded, made), items, str, HERE, cache, done.append)
        cache.keep_only(found)
        return made

    assert run([1, 2, 3]) == [1, 2, 3]
    assert run([3, 2, 1, 4]) == [2, 4]
    assert [path.read_text() for path in found] == ["9", "4", "1", "16"]
    assert sorted(done) == [1, 2, 3, 4]
    assert run([1]) == []
    assert run([1, 3]) == [3]  # what a run does not need is not kept
    assert run([1], "other") == [1]
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["other"]


def test_an_interrupted_run_keeps_what_was_done(tmp_path: Path) -> None:
    def fails(item: int, path: Path) -> None:
        square(item, path)
        if item == 2:
            raise KeyboardInterrupt

    cache = Cache(tmp_path, "v")
    with pytest.raises(KeyboardInterrupt):
        map_cached(fails, [1, 2, 3], str, HERE, cache)
    assert cache.has("1")
    assert not cache.has("2")  # it was not done, though there is a file


def test_a_folder_that_is_not_kept_goes(tmp_path: Path) -> None:
    with work_folder(None, tmp_path) as folder:
        map_cached(square, [1], str, HERE, Cache(folder, "v"))
        assert folder.is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with work_folder(tmp_path / "kept", tmp_path) as folder:
        map_cached(square, [1], str, HERE, Cache(folder, "v"))
    assert folder.is_dir()


def test_the_version_follows_code_libraries_and_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def fresh(*made_of: str) -> str:
        return work_version.__wrapped__("ingest", *made_of)

    before = fresh()
    assert before == fresh() != fresh("other")
    monkeypatch.setattr(work, "code_sha256", lambda _: "other")
    assert fresh() != before
    monkeypatch.undo()
    monkeypatch.setattr(work.metadata, "version", lambda name: f"{name} 9")
    assert fresh() != before


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 9)), max_size=60), st.integers(1, 5), st.integers(1, 30))
def test_blocks_cover_all_items_within_their_bounds(items: list[tuple[str, int]], count: int, size: int) -> None:
    names, sizes = [name for name, _ in items], [own for _, own in items]
    blocks = cut_blocks(names, sizes, count, size)
    assert [index for block in blocks for index in block] == list(range(len(items)))
    for block in blocks:
        assert 1 <= len(block) <= 2 * count
        assert len(block) == 1 or sum(sizes[index] for index in block) <= size


def test_a_new_item_changes_its_own_block_alone() -> None:
    names = [f"{number:04d}" for number in range(300)]

    def blocks(names: list[str]) -> set[tuple[str, ...]]:
        return {tuple(names[index] for index in block) for block in cut_blocks(names, [1] * len(names), 8, 1000)}

    before = blocks(names)
    assert len(before) > 15
    for position in range(0, 300, 37):
        assert len(before - blocks([*names[:position], f"{names[position]}b", *names[position:]])) <= 2
