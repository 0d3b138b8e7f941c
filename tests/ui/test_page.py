"""The page as a musician uses it, in a browser."""

import re
import time
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Error as PlaywrightError

from distill.generate.selection.critic import Critic
from distill.generate.selection.traits import TRAITS
from distill.model_file.format import load_bundle, save_bundle
from distill.ui.jobs import Job, Jobs, read_end
from distill.ui.worker import STDERR
from ui.conftest import PATIENCE, Served, violations
from unit.kit.tones import tone
from unit.pitched import write_pitched_model
from unit.tiny import write_model, write_prior_model

Open = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, served: Served) -> Iterator[Open]:
    """Open the page with a tab chosen; it is closed when the test ends."""
    context: Any = None

    def open_page(tab: str, width: int = 1280, scheme: str = "light") -> Any:
        nonlocal context
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(served.address)
        choose_tab(page, tab)
        return page

    yield open_page
    if context is not None:
        context.close()


def choose_tab(page: Any, tab: str) -> None:
    """Choose a tab; where the window is narrow, some are in a menu."""
    page.get_by_role("tab", name="Train").first.wait_for()
    page.wait_for_function("(document.querySelector('#train-state')?.innerText || '').length > 0")
    there = page.get_by_role("tab", name=tab, exact=True)
    if there.count() == 0 or not there.first.is_visible():
        page.locator(".overflow-menu > button").first.click()
        page.locator(".overflow-dropdown button", has_text=tab).first.click()
    else:
        there.first.click()


def waits(page: Any, selector: str, text: str, patience: float = PATIENCE) -> None:
    """Wait until something on the page says `text`."""
    try:
        page.wait_for_function(
            "([selector, text]) => (document.querySelector(selector)?.innerText || '').includes(text)",
            arg=[selector, text],
            timeout=patience,
        )
    except PlaywrightError as error:
        raise AssertionError(f"expected {text!r}, found: {page.locator('body').inner_text()}") from error


def press(page: Any, button: str, selector: str, text: str) -> None:
    """Press a button until something on the page says `text`; it is pressed again where nothing happens for long."""
    for _ in range(3):
        page.locator(button).click()
        try:
            return waits(page, selector, text, PATIENCE / 5)
        except AssertionError as error:
            said = error
    raise said


def unfold(page: Any, name: str) -> None:
    """Open a part of the form that is folded, of the tab that is shown."""
    page.locator(f"button:has-text('{name}'):visible").first.click()


def choose(page: Any, selector: str, option: str) -> None:
    """Choose an option of a drop-down list."""
    page.locator(f"{selector} input").first.click()
    page.get_by_role("option", name=option).first.click()


def write(field: Any, text: str) -> None:
    """Write into a field until it stays: what is written in the moment in which a field is put on the page is lost."""
    for _ in range(20):
        field.fill(text)
        field.page.wait_for_timeout(200)
        if field.input_value() == text:
            return
    raise AssertionError(f"expected {text!r} to stay, found {field.input_value()!r}")


def finished(page: Any, served: Served, kind: str, count: int) -> Job:
    """The newest of `count` jobs of a kind, when it has ended."""
    jobs = Jobs(served.folder)
    until = time.monotonic() + PATIENCE / 1000
    while len(jobs.all(kind)) < count or jobs.all(kind)[0].state == "running":
        assert time.monotonic() < until, page.locator("body").inner_text()
        page.wait_for_timeout(100)
    return jobs.all(kind)[0]


def form_is_filled(page: Any) -> None:
    """Wait until the tab Train has filled in its form: what is typed before is overwritten, and Start is off."""
    page.locator("#train-start:enabled").wait_for()


def start_training(page: Any, name: str, epochs: str) -> None:
    form_is_filled(page)
    page.wait_for_function("document.querySelector('#corpus input').value === 'sounds/few'")
    write(page.locator("#name textarea, #name input").first, name)
    unfold(page, "More settings")
    write(page.get_by_label("Most epochs"), epochs)
    choose(page, "#levels", "6")
    page.locator("#train-start").click()
    waits(page, "#train-state", f"training {name} on sounds/few: at work")


def test_a_training_outlives_reload_and_the_page_itself(opened: Open, served: Served) -> None:
    page = opened("Train")
    start_training(page, "first", "2")
    page.reload()
    waits(page, "#train-state", "training first on sounds/few: at work")
    page.goto("about:blank")  # an open page reloads itself when it is served again, in the middle of `goto`
    served.kill()
    before = served.address
    assert [job.title for job in Jobs(served.folder).running("train")] == ["training first on sounds/few"]
    assert served.start("--port", served.origin.rpartition(":")[2]) == before
    page.goto(served.address)
    waits(page, "#train-state", "training first on sounds/few: done")
    assert (served.folder / "models" / "first.distill").is_file()
    rows = page.locator("#train-health tbody tr")
    assert rows.count() == 6
    assert re.fullmatch(r"loudness\s+\d+%.*\s+\d+\.\d\s+\d+", rows.first.inner_text().strip())
    assert page.locator("#train-charts figure").count() == 4
    (job,) = (job for job in Jobs(served.folder).all("train") if job.title.startswith("training first"))
    previews = [*(job.folder / "previews").glob("preview_*.wav")]  # two of each recording that is held out
    assert page.locator("#train-previews audio").count() == len(previews) >= 2
    source = page.locator("#train-previews audio").first.get_attribute("src")
    assert page.request.get(f"{served.origin}/{source}").body()[:4] == b"RIFF"


def test_cancel_keeps_the_work_and_stop_uses_the_best(opened: Open, served: Served) -> None:
    page = opened("Train")
    start_training(page, "second", "5000")
    waits(page, "#train-state", "training the codec: ")
    page.locator("#train-cancel").click()
    waits(page, "#train-state", "cancelled; what was done is saved")
    assert not (served.folder / "models" / "second.distill").exists()
    page.get_by_role("button", name="Go on with this training").first.click()
    waits(page, "#train-state", "training second on sounds/few: at work")
    waits(page, "#train-state", "training the codec: ")
    choose_tab(page, "Prior")
    page.locator("#prior-start").click()
    page.get_by_text("at work already (training second on sounds/few)").first.wait_for()
    choose_tab(page, "Train")
    page.locator("#train-stop").click()
    waits(page, "#train-state", "training the prior")
    page.locator("#train-stop").click()
    waits(page, "#train-state", "training second on sounds/few: done")
    assert (served.folder / "models" / "second.distill").is_file()


def test_equal_seeds_make_equal_sounds(opened: Open, served: Served) -> None:
    page = opened("Generate")
    choose(page, "#generate-model", "tiny.distill")
    unfold(page, "More settings")
    made = []
    for number in range(2):
        write(page.locator("#seed textarea, #seed input").first, "7")
        page.locator("#generate-start").click()
        job = finished(page, served, "generate", number + 1)
        folder = served.folder / "generated" / job.id
        made.append({path.name: path.read_bytes() for path in sorted(folder.glob("*_7_00?.wav"))})
    assert len(made[0]) == 4
    assert made[0] == made[1]
    waits(page, "#cards", "seed 7")
    assert re.search(r"(New|Close|Copy)[.?] ", page.locator("#cards .card").first.inner_text())
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator("#cards button[data-do=discard]").nth(1).click()
    page.wait_for_function("document.querySelectorAll('#cards .card').length === 3")
    page.reload()
    choose_tab(page, "Generate")
    page.wait_for_function("document.querySelectorAll('#cards .card').length === 3")
    page.locator("#cards button[data-do=vary]").first.click()
    waits(page, "#generate-state", "vary ")
    waits(page, "#generate-state", "done")
    page.wait_for_function("document.querySelectorAll('#cards .card').length === 4")


def test_sounds_are_put_in_order_by_how_like_the_recordings_they_are(opened: Open, served: Served) -> None:
    path = served.folder / "models" / "judged.distill"
    write_prior_model(path)
    bundle, generator = load_bundle(path), np.random.default_rng(0)
    critic = Critic.fit(*(generator.normal(0, 30, (count, TRAITS)) for count in (40, 40)))
    metadata = bundle.metadata.model_copy(update={"critic": critic})
    save_bundle(path, bundle.codec, bundle.prior, metadata, bundle.reference)
    page = opened("Generate")
    choose(page, "#generate-model", path.name)
    page.locator("#generate-start").click()
    waits(page, "#cards", "Most like your recordings first")
    cards = page.locator("#cards .card")
    shares = [
        int(share) for share in re.findall(r"like your recordings: (\d+) of 10", "".join(cards.all_inner_texts()))
    ]
    assert len(shares) == 4
    page.get_by_label("Most like your recordings first").check()
    places = [(box["y"], box["x"]) for box in (card.bounding_box() for card in cards.all()) if box]
    in_order = [share for _, share in sorted(zip(places, shares, strict=True))]
    assert in_order == sorted(shares, reverse=True)
    assert not violations(page)


def test_sounds_are_made_at_notes_and_variations_transposed(opened: Open, served: Served) -> None:
    model = write_pitched_model(served.folder / "models" / "pitched.distill")
    page = opened("Generate")
    choose(page, "#generate-model", "pitched.distill")
    unfold(page, "More settings")
    for field, value in {"seconds": "0.4", "seed": "7"}.items():  # by chance a sound of one frame has no pitch
        write(page.locator(f"#{field} textarea, #{field} input").first, value)
    notes = page.locator("#note textarea, #note input").first
    write(notes, "C4,E4")
    page.get_by_text("How many at each note").first.wait_for()
    page.locator("#generate-start").click()
    waits(page, "#cards", "2 of 2 sounds at their note within 20 cents")
    write(notes, "H3")
    page.locator("#generate-start").click()
    waits(page, "#generate-state", "note H3: expected notes such as C3")
    assert re.search(r"E4: [+-]\d+ cents", page.locator("#cards .card").nth(1).inner_text())
    unfold(page, "Variations of a recording")
    for field, value in {
        "vary_transpose": "-4",
        "vary_strength": "0.1",
    }.items():  # at .3 one take of fifty has no pitch
        write(page.locator(f"#{field} textarea, #{field} input").first, value)
    page.locator("#cards button[data-do=vary]").nth(1).click()
    waits(page, "#cards", "1 of 1 takes at their note within 20 cents")
    assert re.search(r"C4( [+-]\d+ cents)?: [+-]\d+ cents", page.locator("#cards .card").first.inner_text())
    model.unlink()


NOTE_PLAYED = """
window.played = [];
document.addEventListener('distill-played', (event) => window.played.push([event.detail.address, event.detail.rate]));
document.addEventListener('dragstart', (event) => { window.dragged = event.dataTransfer.getData('DownloadURL'); });
"""


def played(page: Any, count: int) -> list[tuple[str, float]]:
    """Names and rates of the sounds that the page has played, when there are so many; they are forgotten then."""
    page.wait_for_function("count => window.played.length >= count", arg=count)
    made = page.evaluate("window.played.splice(0)")
    return [(address.rpartition("/")[2].partition("?")[0], rate) for address, rate in made]


def test_what_was_made_is_played_at_once_and_on_keys(opened: Open) -> None:
    page = opened("Generate")
    page.evaluate(NOTE_PLAYED)
    choose(page, "#generate-model", "tiny.distill")
    unfold(page, "More settings")
    write(page.locator("#seed textarea, #seed input").first, "3")
    page.locator("#generate-start").click()
    first = "tiny_3_000.wav"
    assert played(page, 1) == [(first, 1.0)]
    page.wait_for_function("document.querySelectorAll('#cards .verdict').length === 4")
    page.locator("#cards h2").click()  # out of the field
    for letter in "as":
        page.keyboard.press(letter)
    assert played(page, 2) == [(first, 1.0), ("tiny_3_001.wav", 1.0)]
    page.locator("#keyboard [data-key='64']").click()
    assert played(page, 1) == [("tiny_3_002.wav", 1.0)]
    page.locator("#cards [data-keys]").first.click()  # from now on all keys play this sound
    page.locator("#keyboard [data-key='72']").click()
    assert played(page, 2) == [(first, 1.0), (first, 2.0)]
    write(page.locator("#note textarea, #note input").first, "s")  # what is typed plays nothing
    page.wait_for_timeout(300)
    assert page.evaluate("window.played") == []
    waits(page, "#generate-state", ": done")  # no card is drawn again from now on
    page.wait_for_function("document.querySelectorAll('#cards img').length === 4")
    card = page.locator("#cards .card").first
    card.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#cards .card img').naturalHeight > 0")  # the layout stands still
    card.drag_to(card.locator("audio").first, source_position={"x": 6, "y": 6})
    kind, name, address = page.evaluate("window.dragged").split(":", 2)
    assert (kind, name) == ("audio/wav", first)
    assert page.request.get(address).body()[:4] == b"RIFF"


def test_a_kit_is_downloaded_and_unpacked(opened: Open) -> None:
    page = opened("Generate")
    page.evaluate(NOTE_PLAYED)
    choose(page, "#generate-model", "tiny.distill")
    unfold(page, "Kits and instruments")
    page.locator("#kit-start").click()
    waits(page, "#generate-state", "kit by tiny: done")
    ((name, _),) = played(page, 1)  # the first one, when the kit is there
    page.locator("#cards h2").click()
    page.keyboard.press("a")
    assert played(page, 1)[0][0].endswith(".wav")
    assert name.endswith(".wav")
    with page.expect_download() as download:
        page.locator("#download").click()
    with zipfile.ZipFile(BytesIO(Path(download.value.path()).read_bytes())) as archive:
        names = archive.namelist()
        text = archive.read("kit.sfz").decode()
    samples = set(re.findall(r"sample=(\S.*\.wav)", text))
    assert samples
    assert samples <= set(names)
    assert {"kit.dspreset", "kit.png", "kit.txt"} <= set(names)


def test_one_recording_has_variations_and_a_kit_without_a_model(browser: Any, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "take.wav", tone(57, 0.6, 24000, decay=4), 24000)
    served = Served(tmp_path / "work")
    served.start()
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    try:
        page.goto(served.address)
        choose_tab(page, "Generate")
        waits(page, "#generate-state", "Without a model, give one recording as the sound to vary")
        page.locator("#source input[type=file]").set_input_files(tmp_path / "take.wav")
        page.locator("#source audio, #source #waveform").first.wait_for(state="attached")
        press(page, "#vary-start", "#generate-state", "vary take.wav: ")
        waits(page, "#cards", "made from take.wav alone with the shipped weights; nothing was trained")
        assert page.locator("#cards .card").count() == 4
        page.locator("#cards button[data-do=vary]").first.click()
        waits(page, "#generate-state", "vary take_")
        waits(page, "#generate-state", ": done")
        unfold(page, "Kits and instruments")
        page.locator("#kit-start").click()
        waits(page, "#cards", "kit take.wav")
        assert "samples/057_take_04.wav" in page.locator("#cards pre").inner_text()
        page.close()
    finally:
        served.kill()


def test_sounds_follow_a_recording_and_lie_between_two(opened: Open, tmp_path: Path) -> None:
    for name, pitch in (("low", 57), ("high", 64)):
        soundfile.write(tmp_path / f"{name}.wav", tone(pitch, 0.6, 24000, decay=4), 24000)

    def give(field: str, name: str) -> None:
        page.locator(f"#{field} input[type=file]").set_input_files(tmp_path / f"{name}.wav")
        page.locator(f"#{field} audio, #{field} #waveform").first.wait_for(state="attached")

    page = opened("Generate")
    choose(page, "#generate-model", "tiny.distill")
    unfold(page, "Follow a voice or notes")
    give("follow", "low")
    press(page, "#generate-start", "#generate-state", "4 sounds by tiny: ")
    waits(page, "#generate-state", ": done")
    page.wait_for_function("document.querySelectorAll('#cards .card').length === 4")
    assert "0.60 s" in page.locator("#cards").inner_text()
    unfold(page, "Variations of a recording")
    give("source", "low")
    unfold(page, "Morph this recording")
    give("morph_last_0", "high")
    press(page, "#morph-start", "#generate-state", "morph low.wav by tiny: ")
    waits(page, "#generate-state", ": done")
    page.wait_for_function("document.querySelectorAll('#cards .card').length === 5")
    give("morph_below_0", "high")
    give("morph_below_1", "low")
    press(page, "#morph-start", "#generate-state", "morph low.wav by tiny: ")
    waits(page, "#generate-state", ": done")
    page.wait_for_function("document.querySelectorAll('#keyboard .pads .pad').length === 25")
    unfold(page, "Fill this recording")
    press(page, "#fill-start", "#generate-state", "fill low.wav by tiny: ")
    waits(page, "#generate-state", ": done")
    unfold(page, "Extend this recording")
    press(page, "#extend-start", "#generate-state", "extend low.wav by tiny: ")
    waits(page, "#generate-state", ": done")


def test_a_forged_model_is_refused(opened: Open, served: Served) -> None:
    page = opened("Library")
    whole = (served.folder / "models" / "tiny.distill").read_bytes()
    forged = whole[:-4] + b"\x00\x01\x02\x03"
    file = {"name": "gift.distill", "mimeType": "application/octet-stream", "buffer": forged}
    page.locator("#import input[type=file]").set_input_files([file])
    page.get_by_text("not imported: gift.distill: expected weights with SHA-256").first.wait_for()
    assert not (served.folder / "models" / "gift.distill").exists()
    page.locator("#import button[aria-label=Clear]").first.click()
    page.locator("#import input[type=file]").set_input_files([{**file, "buffer": whole}])
    waits(page, "#imported", "gift.distill was checked and imported")
    page.wait_for_function("document.querySelector('#library').innerText.includes('gift')")
    choose(page, "#library-model", "gift.distill")
    waits(page, "#card", "A model of one collection of recordings")
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator("#library-delete").click()
    page.wait_for_function("!document.querySelector('#library').innerText.includes('gift')")
    assert not (served.folder / "models" / "gift.distill").exists()


def test_a_prior_is_replaced_where_it_may_be(opened: Open, served: Served) -> None:
    page = opened("Prior")
    choose(page, "#prior-model", "tiny.distill")
    choose(page, "#prior-data", "sounds/few")
    page.locator("#prior-start").click()
    waits(page, "#prior-state", "expected a model without a prior, or a new name")
    write(page.locator("#prior-epochs textarea, #prior-epochs input").first, "5000")  # it ends when it is stopped
    page.get_by_label("Replace the prior").check()
    press(page, "#prior-start", "#prior-state", "training a prior of tiny: at work")
    page.locator("#prior-stop").click()  # while it still starts
    waits(page, "#prior-state", "training a prior of tiny: done")
    job = Jobs(served.folder).newest("prior")
    assert job is not None
    assert "stopped as asked after" in read_end(job.folder / STDERR)


def test_a_prior_that_memorises_raises_an_alarm_and_is_stopped_with_its_best_weights(
    opened: Open, served: Served
) -> None:
    write_model(served.folder / "models" / "coarse.distill", codebook_size=2)  # whose codes are easily guessed
    page = opened("Prior")
    choose(page, "#prior-model", "coarse.distill")
    choose(page, "#prior-data", "sounds/few")
    write(page.locator("#prior-epochs textarea, #prior-epochs input").first, "5000")
    choose_tab(page, "Train")
    choose_tab(page, "Prior")  # which leaves alone what was typed
    page.locator("#prior-start").click()
    waits(page, "#prior-charts", "“Stop and use best checkpoint” ends it with the best weights so far")
    assert "touch" not in page.locator("#prior-health").inner_text() + page.locator("#prior-charts").inner_text()
    page.locator("#prior-stop").click()
    waits(page, "#prior-state", "training a prior of coarse: done")
    page.locator("#prior-stop").wait_for(state="hidden")
    job = Jobs(served.folder).newest("prior")
    assert job is not None
    epochs = job.events("prior", "PriorEpochMetrics")
    assert len(epochs) < 5000
    found = load_bundle(served.folder / "models" / "coarse.distill").metadata.prior_metadata
    assert found is not None
    assert found.epochs_trained == len(epochs)
    assert found.best_perplexity == pytest.approx(min(epoch["best_perplexity"] for epoch in epochs))


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_nothing_runs_out_of_the_window(opened: Open, served: Served, width: int, scheme: str) -> None:
    page = opened("Train", width, scheme)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for tab in ("Train", "Prior", "Generate", "Library", "Compare"):
        choose_tab(page, tab)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
        if tab == "Library":
            page.locator("#library td").first.wait_for()
            box = page.locator("#library .wide")
            assert box.evaluate("box => box.scrollWidth <= box.clientWidth")
    assert page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")
    assert not [url for url in asked if not url.startswith((served.origin, "data:", "blob:"))]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_can_be_read_by_all(opened: Open, width: int, scheme: str) -> None:
    page = opened("Generate", width, scheme)
    choose(page, "#generate-model", "tiny.distill")
    press(page, "#generate-start", "#generate-state", "4 sounds by tiny: ")
    waits(page, "#generate-state", ": done")
    page.wait_for_function("document.querySelectorAll('#cards img').length === 4")
    for part in ("More settings", "Follow a voice or notes", "Variations of a recording", "Kits and instruments"):
        unfold(page, part)
    assert violations(page) == {}
    for tab in ("Train", "Prior", "Library", "Compare"):
        choose_tab(page, tab)
        page.wait_for_timeout(500)  # what the tab shows is asked for when it is chosen, and pale until it is there
        page.wait_for_function("!document.querySelector('.pending')")
        page.wait_for_timeout(500)
        assert violations(page) == {}, tab


def choose_folder(page: Any, folder: Path) -> None:
    page.locator("#directory input[type=file]").set_input_files(folder)


def drop_folder(page: Any, folder: Path) -> None:
    """Drop a folder as the system does, onto the field of single files."""
    box = page.locator("#files button").bounding_box()
    dragged = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": box["x"] + 20, "y": box["y"] + 20, "data": dragged})


@pytest.mark.parametrize("add", [choose_folder, drop_folder])
def test_a_folder_keeps_its_subfolders_and_names(
    opened: Open, served: Served, tmp_path: Path, add: Callable[[Any, Path], None]
) -> None:
    page = opened("Train")
    form_is_filled(page)
    names = ["kick/1.wav", "snare/1.wav", "snare/deep/Hat@2 50%, [Hard].wav", "a|b?<c>$`{}! .wav", ".dot.wav", "a..wav"]
    for name in (*names, ".DS_Store", "snare/._1.wav"):
        (tmp_path / "pack" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pack" / name).write_bytes(name.encode())
    unfold(page, "Add recordings")
    write(page.get_by_label("Folder to add them to"), add.__name__)
    add(page, tmp_path / "pack")
    page.get_by_text(f"{len(names)} recordings added to sounds/{add.__name__}").first.wait_for()
    folder = served.folder / "sounds" / add.__name__
    found = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert found == {f"pack/{name}": name for name in names}  # as there are recordings beside the folders in it


def test_a_password_takes_the_place_of_the_token(browser: Any, tmp_path: Path) -> None:
    made = tmp_path / "generated" / "one" / "one.wav"
    made.parent.mkdir(parents=True)
    made.write_bytes(b"RIFF")
    served = Served(tmp_path)
    served.start("--port", "0", "--password", "correct horse")
    try:
        for path in ("/config", f"/gradio_api/file={made}", "/gradio_api/info"):
            assert served.get(path)[0] == 401, path
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(served.address)
        page.get_by_text("Any user name will do").first.wait_for()
        for password, shown in (("wrong", page.get_by_text("Incorrect Credentials")), ("correct horse", None)):
            write(page.get_by_label("username"), "me")
            write(page.get_by_label("password"), password)
            page.get_by_role("button", name="Login").click()
            (shown or page.get_by_role("tab", name="Train")).first.wait_for()
        assert page.request.get(f"{served.origin}/gradio_api/file={made}").body() == b"RIFF"
        page.close()
    finally:
        served.kill()
