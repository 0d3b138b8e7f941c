"""The web API for programs and for HARP: a call runs the command of a verb, and a wrong one is answered with a sentence."""

import gc
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from distill.ui.programs import MAKES
from distill.ui.results import rows_of
from distill.ui.server import make_app
from distill.ui.workspace import Workspace
from unit.tiny import write_prior_model, write_tone
from unit.verbs.cases import CASES, TONE

# Gradio asks pandas for it.
pytestmark = pytest.mark.filterwarnings("ignore:.*no_silent_downcasting", "ignore:The copy keyword is deprecated")

TOKEN, PORT = "t" * 43, 7860
HERE = f"http://127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    workspace = Workspace(tmp_path_factory.mktemp("programs"))
    write_prior_model(workspace.models / "tiny.distill", labels=["kick"])
    write_tone(workspace.root / "tone.wav")
    yield workspace
    workspace.jobs.end()


@pytest.fixture(scope="module")
def page(workspace: Workspace) -> Iterator[TestClient]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Gradio leaves event loops open
        app = make_app(workspace, TOKEN, None, PORT)
        gc.collect()
    with TestClient(app, base_url=HERE, cookies={f"distill_{PORT}": TOKEN}) as client:
        yield client


API = f"/api/{TOKEN}/gradio_api"
FILE = {"meta": {"_type": "gradio.FileData"}}  # marks a file in a request


def called(page: TestClient, name: str, *data: object) -> tuple[str, Any]:
    """What programs do: they post inputs, and read events of the answer's id up to the end, of which the kind is told."""
    answer = page.post(f"{API}/call/{name}", json={"data": data})
    lines = page.get(f"{API}/call/{name}/{answer.json()['event_id']}").text.strip().splitlines()
    return lines[-2].removeprefix("event: "), json.loads(lines[-1].removeprefix("data: "))


def uploaded(page: TestClient, path: Path) -> dict[str, Any]:
    (kept,) = page.post(f"{API}/upload", files={"files": (path.name, path.read_bytes())}).json()
    return {"path": kept, **FILE}


@pytest.mark.parametrize("verb", CASES)
def test_a_verb_answers_with_what_its_command_prints(page: TestClient, workspace: Workspace, verb: str) -> None:
    tone = uploaded(page, workspace.root / "tone.wav")
    settings = {name: tone if value == TONE else value for name, value in CASES[verb].items()}
    kind, answer = called(page, verb, {"model": "tiny.distill", **settings})
    assert kind == "complete", answer
    (made,) = answer
    for row in rows_of(made):
        assert page.get(f"/api/{TOKEN}/{row['file']}").content.startswith(b"RIFF")
    assert made.get("recording") in (None, TONE)


def test_a_recording_alone_and_several_recordings(page: TestClient, workspace: Workspace) -> None:
    tone = uploaded(page, workspace.root / "tone.wav")
    kind, (made,) = called(page, "vary", {"model": tone, "n": 1})
    assert (kind, made["model"]) == ("complete", None)
    assert made["untrained"]
    grid = {"first": tone, "last": tone, "below": [tone, tone], "steps": 2}
    kind, (made,) = called(page, "morph", {"model": "tiny.distill", **grid})
    assert (kind, made["below"], len(made["steps"])) == ("complete", [TONE, TONE], 4)
    kind, (made,) = called(page, "generate", {"model": "tiny.distill", "follow": tone, "loose": 1})
    assert (kind, len(made["sounds"])) == ("complete", 1)


@pytest.mark.parametrize(
    ("verb", "settings", "expected"),
    [
        ("generate", {"out": "/tmp"}, "out: expected one of model, n, seconds, "),
        ("kit", {"out": "/tmp"}, "out: expected one of model, per_label, "),
        ("generate", {"follow": "/etc/hostname"}, "follow: expected an uploaded file, found none; upload one"),
        ("generate", {"follow": {"path": "/etc/x"}}, "follow: expected an uploaded file, found none; upload one"),
        ("generate", {"follow": {"path": "/etc/hostname", **FILE}}, "expected an uploaded file, found another or a"),
        ("generate", {"follow": {"path": "http://127.0.0.1/x.wav", **FILE}}, "expected a file that was uploaded, f"),
        ("generate", {"n": {"a": 1}}, "count: expected a valid integer, found {'a': 1}"),
        ("generate", {"label": "drum"}, "label drum: expected one of kick"),
        ("generate", {"model": "../x.distill"}, "expected one of the list, found none; choose one of the list"),
        ("generate", {"model": None}, "expected one of the list, found none; choose one of the list"),
        ("vary", {}, "recording: expected a recording, found none; upload one"),
        ("extend", {"after": 1}, "recording: expected a recording, found none; upload one"),
    ],
)
def test_what_cannot_be_is_a_sentence(page: TestClient, verb: str, settings: dict[str, Any], expected: str) -> None:
    kind, answer = called(page, verb, {"model": "tiny.distill", **settings})
    assert kind == "error"
    assert expected in answer["error"]
    assert "--" not in answer["error"]


def test_an_upload_of_any_name_is_answered(page: TestClient) -> None:
    for name in ("a/b\\c.wav", "x" * 300 + ".wav", "-n.wav", "é\n.WAV"):
        (kept,) = page.post(f"{API}/upload", files={"files": (name, b"no audio")}).json()
        recording = {"path": kept, **FILE}
        kind, answer = called(page, "vary", {"model": "tiny.distill", "recording": recording})
        assert kind == "error"
        assert "expected a recording, found a file that is text" in answer["error"], name


def test_a_page_with_a_password_has_no_endpoints_for_programs(workspace: Workspace) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        app = make_app(workspace, TOKEN, "secret", PORT)
        gc.collect()
    with TestClient(app, base_url=HERE) as client:
        assert client.post(f"{API}/call/generate", json={"data": [{}]}).status_code >= 400


def test_harp_is_told_what_there_is_to_set(page: TestClient) -> None:
    kind, (told,) = called(page, "controls")
    assert kind == "complete"
    assert told["card"]["name"] == "Distill"
    by_label = {about["label"]: about for about in told["inputs"]}
    assert by_label["recording"]["type"] == "audio_track"
    assert by_label["model"]["choices"] == [["tiny.distill", "tiny.distill"]]
    assert by_label["label"]["choices"] == [["any", "any"], ["kick", "kick"]]
    assert [about["type"] for about in told["outputs"]] == ["audio_track", "json"]


NEW = ["tiny.distill", "a new sound", 0.5, "any", 0.1, 0.2, 3]  # values of the controls after the recording


@pytest.mark.parametrize("make", MAKES)
def test_harp_gets_a_sound_and_how_new_it_is(page: TestClient, workspace: Workspace, make: str) -> None:
    tone = uploaded(page, workspace.root / "tone.wav")
    kind, answer = called(page, "process", tone, "tiny.distill", make, 0.5, "kick", 0.1, 0.2, 3)
    assert kind == "complete", answer
    sound, labels = answer
    assert page.get(sound["url"]).content.startswith(b"RIFF")
    assert labels["meta"] == {"_type": "pyharp.LabelList"}
    assert labels["labels"][0]["label_type"] == "AudioLabel"
    assert labels["labels"][0]["label"]


@pytest.mark.parametrize(
    ("recording", "expected"),
    [
        (None, "a take of the recording: expected a recording, found none; choose one, or make a new sound"),
        ("/etc/hostname", "expected an uploaded file, found another or a hidden one"),
        ("http://127.0.0.1/x.wav", "expected a file that was uploaded, found a web address"),
    ],
)
def test_a_recording_that_harp_did_not_upload_is_a_sentence(
    page: TestClient, recording: str | None, expected: str
) -> None:
    file = recording and {"path": recording, **FILE}
    kind, answer = called(page, "process", file, "tiny.distill", "a take of the recording", *NEW[2:])
    assert (kind, expected in answer["error"]) == ("error", True), answer


OTHERS = "expected values that the fields can have, found others"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({6: None}, "seed, 0 for any: expected a number, found none; enter one"),
        ({2: None}, f"{OTHERS} (Could not preprocess input component at index 3"),
        ({6: "abc"}, f"{OTHERS} (Could not preprocess input component at index 7"),
        ({2: 5}, f"{OTHERS} (Value 5 is greater than maximum value 1"),
        ({1: "sing"}, f"{OTHERS} (Value: sing is not in the list"),
        *(
            ({0: name}, "expected one of the list, found none; choose one of the list")
            for name in (["x"], "../x.distill")
        ),
    ],
)
def test_values_that_harp_cannot_mean_are_a_sentence(page: TestClient, changed: dict[int, Any], expected: str) -> None:
    kind, answer = called(page, "process", None, *(changed.get(index, value) for index, value in enumerate(NEW)))
    assert (kind, expected in answer["error"]) == ("error", True), answer


def test_harp_ends_what_it_began(page: TestClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MAKES, "a new sound", lambda *_: ("generate", {"n": 10_000, "seconds": 5}))
    event = page.post(f"{API}/call/process", json={"data": [None, *NEW]}).json()["event_id"]
    while not workspace.jobs.running("generate"):
        time.sleep(0.01)
    assert called(page, "cancel")[0] == "complete"
    lines = page.get(f"{API}/call/process/{event}").text
    assert "event: error" in lines
    assert "interrupted" in lines
    assert not workspace.jobs.running("generate")


def test_harp_needs_the_token_in_its_address(page: TestClient) -> None:
    with TestClient(page.app, base_url=HERE) as stranger:
        other = API.replace(TOKEN, "x" * len(TOKEN))
        assert stranger.post(f"{other}/call/controls", json={"data": []}).status_code == 401
        assert stranger.post(f"{API}/call/controls", json={"data": []}).status_code == 200
        from_a_page = {"origin": "https://example.org"}
        assert stranger.post(f"{API}/call/controls", json={"data": []}, headers=from_a_page).status_code == 403
