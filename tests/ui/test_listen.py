"""The listening pages in a browser, opened as files: played with keys and mouse, judged by what they really played."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import listen as pages
from benchmarks.listen import HELD_OUT, KINDS, MADE, PAGE, Material, write_listening_page, write_made_page
from distill.api import Model
from distill.audio.corpus import load_corpus
from distill.audio.ingest import ingest
from unit.tiny import tiny_codec, write_prior_model, write_tone

SOUNDS, TRIALS = 3, 16
EACH = 3  # trials of a kind on the second page
# Notes each sound that is played, as a listener hears it.
NOTE_PLAYED = """
window.played = [];
const play = HTMLMediaElement.prototype.play;
HTMLMediaElement.prototype.play = function () { window.played.push(this.src); return play.call(this); };
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("listen")
    for number in range(SOUNDS):
        write_tone(folder / "in" / f"tone {number} <i>.wav", 0.2, pitch=200.0 * (number + 1))
    ingest(folder / "in", folder / "corpus", 16_000, 0.0)
    corpus = load_corpus(folder / "corpus")
    material = Material(tiny_codec(), corpus, corpus.entries, HELD_OUT, corpus.entries)
    write_listening_page(folder / "page", material, 24, 5.0)
    write_prior_model(folder / "m.distill")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "EACH", EACH)
        write_made_page(folder / "page" / MADE, Model(folder / "m.distill"), material, 5.0, seed=0)
    return folder / "page"


@pytest.fixture
def page(browser: Any, folder: Path) -> Iterator[Any]:
    yield from opened(browser, folder)


@pytest.fixture
def made(browser: Any, folder: Path) -> Iterator[Any]:
    """The second page."""
    yield from opened(browser, folder / MADE)


def opened(browser: Any, folder: Path) -> Iterator[Any]:
    context = browser.new_context()
    opened = context.new_page()
    opened.set_default_timeout(10_000)
    asked: list[str] = []
    errors: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.add_init_script(NOTE_PLAYED)
    opened.goto((folder / PAGE).as_uri())
    yield opened
    assert all(url.startswith("file:") for url in asked)
    assert not errors
    context.close()


def begin(page: Any, seed: int) -> None:
    page.locator("#seed").fill(str(seed))
    page.keyboard.press("Enter")
    page.locator("#trial").wait_for()


def listen(page: Any, names: str = "ABX") -> dict[str, str]:
    """Play A, B and X with their keys; returns the file behind each."""
    files = {}
    for name in names:
        page.keyboard.press(name.lower())
        page.wait_for_function("name => document.getElementById('play-' + name).classList.contains('heard')", arg=name)
        files[name] = page.evaluate("window.played[window.played.length - 1]")
    return files


def test_a_listener_who_hears_is_always_right(page: Any) -> None:
    begin(page, 5)
    seen = []
    for number in range(TRIALS):
        assert page.locator("#heading").inner_text() == f"Trial {number + 1} of {TRIALS}"
        files = listen(page)
        assert files["A"] != files["B"]
        assert {re.sub(r"_\w+\.wav$", "", file) for file in files.values()} == {files["X"].rpartition("_")[0]}
        seen.append((files["A"], files["X"]))
        page.keyboard.press("1" if files["X"] == files["A"] else "2")
    assert page.locator("#score").inner_text() == "16 of 16 correct"
    assert "p = 1.5e-5" in page.locator("#probability").inner_text()  # 2 ** -16
    assert page.locator("#meaning").inner_text() == "You hear a difference."
    assert page.locator("#answers tr").count() == TRIALS
    assert "tone 0 <i>.wav" in page.locator("#answers").inner_text()
    assert {"original" in a for a, _ in seen} == {"original" in x for _, x in seen} == {True, False}
    assert len({a.rpartition("_")[0] for a, _ in seen}) == SOUNDS


def test_wrong_answers_count_and_one_can_stop_before_the_end(page: Any) -> None:
    begin(page, 6)
    for number in range(4):
        files = listen(page)
        is_a = files["X"] == files["A"]
        page.locator("#answer-A" if is_a == (number > 0) else "#answer-B").click()
    page.locator("#finish").click()
    assert page.locator("#score").inner_text() == "3 of 4 correct"
    assert "p = 0.3125" in page.locator("#probability").inner_text()  # 5 of 16
    assert "do not show" in page.locator("#meaning").inner_text()
    assert page.locator("#answers tr.wrong").count() == 1
    page.get_by_role("button", name="Once more").click()
    assert page.locator("#start").is_visible()


def test_no_answer_before_all_three_were_heard_and_none_of_a_wrong_seed(page: Any) -> None:
    page.locator("#seed").fill("4294967296")
    page.locator("#begin").click()
    assert "a whole number from 0 to 4294967295, found 4294967296" in page.locator("#trouble").inner_text()
    begin(page, 7)
    listen(page, "AX")
    assert page.locator("#hint").inner_text() == "Still to be heard: B."
    page.keyboard.press("1")
    assert page.locator("#answer-A").is_disabled()
    assert page.locator("#heading").inner_text() == f"Trial 1 of {TRIALS}"


def test_a_seed_gives_its_order_and_each_visit_another_seed(page: Any) -> None:
    orders = []
    for seed in (11, 11, 12):
        page.reload()
        begin(page, seed)
        order = []
        for _ in range(4):
            files = listen(page)
            order.append((files["A"], files["X"]))
            page.keyboard.press("1")
        orders.append(order)
    assert orders[0] == orders[1] != orders[2]
    seeds = set()
    for _ in range(3):
        page.reload()
        seeds.add(page.locator("#seed").input_value())
    assert len(seeds) == 3


def test_a_missing_sound_is_said(browser: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / PAGE).write_bytes((folder / PAGE).read_bytes())
    page = browser.new_page()
    page.goto((tmp_path / PAGE).as_uri())
    begin(page, 0)
    page.keyboard.press("a")
    page.locator("#trouble").wait_for()
    assert "keep page and files together" in page.locator("#trouble").inner_text()
    assert page.locator("#answer-A").is_disabled()
    page.close()


def hear(page: Any) -> str:
    """Play the sound of a trial; returns the name of its file."""
    page.keyboard.press("p")
    page.locator("#answer-made:enabled").wait_for()
    return str(page.evaluate("window.played[window.played.length - 1]")).rpartition("/")[2]


def counted(page: Any) -> dict[str, list[str]]:
    """The rows of the result, by kind: trials, called recorded, by chance."""
    rows = (row.locator("td").all_inner_texts() for row in page.locator("#counts tr").all())
    return {kind: rest for kind, *rest in rows}


def test_answers_are_counted_by_kind_and_saved(made: Any, tmp_path: Path) -> None:
    kinds = {trial["sound"]: trial["kind"] for trial in made.evaluate("DATA.trials")}
    begin(made, 5)
    heard = []
    for number in range(4 * EACH):
        assert made.locator("#heading").inner_text() == f"Trial {number + 1} of {4 * EACH}"
        assert not any(word in made.locator("#trial").inner_text() for word in (*KINDS.values(), "sound 0", "tone"))
        heard.append(hear(made))
        if number == 0:
            made.keyboard.press("l")
            assert made.evaluate("Promise.all([...document.images].map(image => image.decode().then(() => image.src)))")
            assert made.locator("#pictures img").count() == 2
        made.locator("#answer-recorded" if kinds[heard[-1]] in ("recorded", "drawn") else "#answer-made").click()
    assert sorted(heard) == sorted(kinds)
    # Of 3 answers "recorded" to 6 sounds, 3 of each kind, all fall on one kind in 1 of 20 orders.
    assert counted(made) == {
        "recordings": ["3", "3", ""],
        "decoded recordings": ["3", "0", "0 to 3"],
        "new sounds": ["3", "3", "3 to 3"],
        "takes of recordings": ["3", "0", "0 to 3"],
    }
    assert made.locator("#answers tr.wrong").count() == EACH  # the new sounds
    with made.expect_download() as download:
        made.locator("#save").click()
    assert download.value.suggested_filename == "recorded-or-made-5.json"
    download.value.save_as(tmp_path / "answers.json")
    saved = json.loads((tmp_path / "answers.json").read_text())
    assert [answer["sound"] for answer in saved["answers"]] == heard
    assert [answer["looked"] for answer in saved["answers"]] == [True] + [False] * (4 * EACH - 1)
    assert saved["counts"][2] == {"kind": "drawn", "trials": EACH, "recorded": EACH}


def test_what_chance_gives_is_the_middle_of_all_orders(made: Any) -> None:
    chance = {answer: made.evaluate(f"byChance({answer}, 10, 10)") for answer in (0, 6, 10, 20)}
    assert chance == {0: "0 to 0", 6: "1 to 5", 10: "3 to 7", 20: "10 to 10"}


def test_a_trial_asks_to_be_heard_and_one_can_stop_before_the_end(made: Any) -> None:
    begin(made, 6)
    made.keyboard.press("1")
    assert made.locator("#heading").inner_text() == f"Trial 1 of {4 * EACH}"
    hear(made)
    made.keyboard.press("1")
    made.locator("#finish").click()
    assert sum(int(row[0]) for row in counted(made).values()) == 1
    made.get_by_role("button", name="Once more").click()
    assert made.locator("#start").is_visible()
