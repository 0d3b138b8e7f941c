"""The page for programs and for HARP: a request runs a command, and what cannot be is a sentence."""

import errno
import gc
import json
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from starlette.testclient import TestClient
from unit.tiny import write_prior_model, write_tone

from distill.ui.generate_tab import rows_of
from distill.ui.harp import MAKES
from distill.ui.programs import Programs
from distill.ui.server import make_app
from distill.ui.workspace import Workspace

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


def asked(page: TestClient, command: str, files: dict[str, Path] | None = None, **fields: str) -> tuple[int, Any]:
    sent = {name: (path.name, path.read_bytes()) for name, path in (files or {}).items()}
    answer = page.post(f"/api/{command}", data={"model": "tiny.distill", **fields}, files=sent or None)
    return answer.status_code, answer.json()


def test_commands_answer_with_sounds_that_are_served(page: TestClient, workspace: Workspace) -> None:
    tone = workspace.root / "tone.wav"
    status, made = asked(page, "generate", n="2", seconds="0.2", seed="1", label="kick")
    assert status == 200, made
    assert made["seed"] == 1
    sounds = [page.get(f"/{row['file']}").content for row in made["sounds"]]
    assert len(sounds) == 2
    assert all(sound.startswith(b"RIFF") for sound in sounds)
    for command, files, fields in (
        ("generate", {"follow": tone}, {"loose": "1"}),
        ("vary", {"audio": tone}, {"n": "1"}),
        ("morph", {"first": tone, "last": tone}, {"steps": "2"}),
        ("extend", {"audio": tone}, {"after": "0.1"}),
        ("fill", {"audio": tone}, {"from": "0.1", "to": "0.2"}),
        ("fill", {"audio": tone}, {"start": "0.1", "end": "0.2"}),
    ):
        status, made = asked(page, command, files, **fields)
        assert status == 200, (command, made)
        assert all(Path(row["file"]).name.startswith(("tone_", "tiny_")) for row in rows_of(made))
        assert made.get("recording") in (None, "tone.wav")
    assert made["recording"] == "tone.wav"
    assert not [path for path in workspace.uploads.rglob("*") if path.is_file()]


def test_takes_of_a_recording_need_no_model(page: TestClient, workspace: Workspace) -> None:
    status, made = asked(page, "vary", {"audio": workspace.root / "tone.wav"}, model="", n="1")
    assert status == 200, made
    assert made["untrained"]


@pytest.mark.parametrize(
    ("command", "fields", "expected"),
    [
        ("train", {}, "train: expected one of generate, vary, morph, extend, fill, found another; choose one of them"),
        ("generate", {"out": "/tmp"}, "out: expected one of count, seconds, "),
        ("generate", {"follow": "/etc/hostname"}, "follow: expected a file, found none; send a file"),
        ("generate", {"n": "x"}, "count: expected a valid integer, found x"),
        ("generate", {"label": "drum"}, "label drum: expected one of kick"),
        ("generate", {"model": "../x.distill"}, "expected one of the list, found none; choose one of the list"),
        ("vary", {}, "audio: expected a file, found none; send one"),
        ("extend", {"after": "1"}, "audio: expected a file, found none; send one"),
    ],
)
def test_what_cannot_be_is_a_sentence(page: TestClient, command: str, fields: dict[str, str], expected: str) -> None:
    status, answer = asked(page, command, **fields)
    assert status == 422
    assert expected in answer["error"]
    assert "--" not in answer["error"]


def test_an_upload_of_any_name_is_answered_with_json(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/b\\c.wav", "..", "x" * 300 + ".wav", "-n.wav", ".wav", "é\n.WAV"):
        files = {"audio": (name, b"no audio")}
        answer = page.post("/api/vary", data={"n": "1"}, files=files)
        assert answer.status_code == 422, (name, answer.text)
        assert "expected a recording, found a file that is text" in answer.json()["error"]
    monkeypatch.setattr(Programs, "_arguments", Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    full = page.post("/api/generate", data={"n": "1"})
    assert full.status_code == 500
    assert full.json()["error"].startswith(
        "the disk: expected to read and write there, found: No space left on device;"
    )


def test_nobody_comes_in_without_the_token_and_none_with_a_password(workspace: Workspace) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        apps = [make_app(workspace, TOKEN, password, PORT) for password in (None, "secret")]
        gc.collect()
    statuses = []
    for app in apps:
        with TestClient(app, base_url=HERE) as client:
            answer = client.post("/api/generate", data={"model": "tiny.distill"})
            statuses.append(answer.status_code)
            assert answer.json()
    assert statuses == [401, 404]


HARP = f"/harp/{TOKEN}/gradio_api"


def called(page: TestClient, name: str, *data: object) -> tuple[str, Any]:
    """What HARP does: it posts inputs, and reads events of the answer's id up to the end, of which the kind is told."""
    answer = page.post(f"{HARP}/call/{name}", json={"data": data})
    lines = page.get(f"{HARP}/call/{name}/{answer.json()['event_id']}").text.strip().splitlines()
    return lines[-2].removeprefix("event: "), json.loads(lines[-1].removeprefix("data: "))


def uploaded(page: TestClient, path: Path) -> dict[str, Any]:
    (kept,) = page.post(f"{HARP}/upload", files={"files": (path.name, path.read_bytes())}).json()
    return {"path": kept, "meta": {"_type": "gradio.FileData"}}


def test_harp_is_told_what_there_is_to_set(page: TestClient) -> None:
    kind, (told,) = called(page, "controls")
    assert kind == "complete"
    assert told["card"]["name"] == "Distill"
    by_label = {about["label"]: about for about in told["inputs"]}
    assert by_label["recording"]["type"] == "audio_track"
    assert by_label["model"]["choices"] == [["tiny.distill", "tiny.distill"]]
    assert by_label["label"]["choices"] == [["any", "any"], ["kick", "kick"]]
    assert [about["type"] for about in told["outputs"]] == ["audio_track", "json"]


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
    ("recording", "model", "expected"),
    [
        (
            None,
            "tiny.distill",
            "a take of the recording: expected a recording, found none; choose one, or make a new sound",
        ),
        ({"path": "/etc/hostname"}, "tiny.distill", "expected an uploaded file, found another or a hidden one"),
        ({"path": "http://127.0.0.1/x.wav"}, "tiny.distill", "expected a file that was uploaded, found a web address"),
        (None, "../x.distill", "expected one of the list, found none; choose one of the list"),
    ],
)
def test_harp_gets_a_sentence(page: TestClient, recording: dict[str, Any] | None, model: str, expected: str) -> None:
    make = "a take of the recording" if model == "tiny.distill" else "a new sound"
    file = recording and {**recording, "meta": {"_type": "gradio.FileData"}}
    kind, answer = called(page, "process", file, model, make, 0.5, "any", 0.1, 0.2, 3)
    assert kind == "error"
    assert expected in answer["error"]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({6: None}, "seed, 0 for any: expected a number, found none; enter one"),
        (
            {2: None},
            "expected values that the fields can have, found others (Could not preprocess input component at index 3",
        ),
        (
            {6: "abc"},
            "expected values that the fields can have, found others (Could not preprocess input component at index 7",
        ),
        ({2: 5}, "expected values that the fields can have, found others (Value 5 is greater than maximum value 1"),
        ({1: "sing"}, "expected values that the fields can have, found others (Value: sing is not in the list"),
        ({0: ["tiny.distill"]}, "expected one of the list, found none; choose one of the list"),
    ],
)
def test_values_that_harp_cannot_mean_are_a_sentence(page: TestClient, changed: dict[int, Any], expected: str) -> None:
    data: list[Any] = ["tiny.distill", "a new sound", 0.5, "any", 0.1, 0.2, 3]
    for index, value in changed.items():
        data[index] = value
    kind, answer = called(page, "process", None, *data)
    assert kind == "error"
    assert expected in answer["error"]


def test_harp_ends_what_it_began(page: TestClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = ["--count", "10000", "--seconds", "5"]
    monkeypatch.setitem(MAKES, "a new sound", lambda model, *_: ["generate", model, *hours])
    data = [None, "tiny.distill", "a new sound", 0.5, "any", 0.1, 0.2, 3]
    event = page.post(f"{HARP}/call/process", json={"data": data}).json()["event_id"]
    while not workspace.jobs.running("generate"):
        time.sleep(0.01)
    assert called(page, "cancel")[0] == "complete"
    lines = page.get(f"{HARP}/call/process/{event}").text
    assert "event: error" in lines
    assert "interrupted" in lines
    assert not workspace.jobs.running("generate")


def test_harp_needs_the_token_in_its_address(page: TestClient) -> None:
    with TestClient(page.app, base_url=HERE) as stranger:
        other = HARP.replace(TOKEN, "x" * len(TOKEN))
        assert stranger.post(f"{other}/call/controls", json={"data": []}).status_code == 401
        assert stranger.post(f"{HARP}/call/controls", json={"data": []}).status_code == 200
        from_a_page = {"origin": "https://example.org"}
        assert stranger.post(f"{HARP}/call/controls", json={"data": []}, headers=from_a_page).status_code == 403
