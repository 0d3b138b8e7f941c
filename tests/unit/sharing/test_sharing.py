"""`distill push` and `distill pull` with the hub's real client, whose transport answers as the hub does."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import yaml
from huggingface_hub import constants, set_client_factory
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
from huggingface_hub.utils._http import close_session, default_client_factory, hf_request_event_hook

from distill.model_file.format import BundleMetadata, load_bundle, save_bundle
from distill.sharing import hub_card, write_shared
from unit.command import CommandLine
from unit.sharing.hub import READ_TOKEN, TOKEN, URL, Hub
from unit.tiny import write_model, write_prior_model

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the hub's client

PLACE, MODEL = "ada/bells", "bells.distill"
LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
NOTHING = f"expected a model repository, found none that you may read; check its name, or {LOG_IN} if it is private"


class Shell(CommandLine):
    """Runs the command in a folder of its own, beside a hub."""

    hub: Hub

    def well(self, *arguments: str) -> str:
        """What a command prints that ends well."""
        done = self(*arguments)
        assert (done.status, done.err) == (0, ""), done
        return done.out

    def refused(self, *arguments: str) -> str:
        """The sentence with which a command is refused, having written nothing in its folder."""
        before = files()
        done = self(*arguments)
        assert (done.status, done.out, files()) == (2, "", before), done
        (line,) = done.err.splitlines()
        return line.removeprefix("distill: ").replace(URL, "HUB")

    def kept(self, place: str = PLACE) -> dict[str, bytes]:
        """The files of the newest commit of a repository."""
        return self.hub.repositories[place].commits[-1][1]


def files() -> list[Path]:
    """The files of the working folder, hidden ones too."""
    return [path for path in Path().rglob("*") if path.is_file()]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    handlers = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in [one for one in os.environ if one.startswith("HF_")]:
        monkeypatch.delenv(name)
    for name, value in {"HF_TOKEN": TOKEN, "DISTILL_DEVICE": "cpu"}.items():
        monkeypatch.setenv(name, value)
    template = URL + "/{repo_id}/resolve/{revision}/{filename}"
    for name, text in {"ENDPOINT": URL, "HUGGINGFACE_CO_URL_TEMPLATE": template}.items():
        monkeypatch.setattr(constants, name, text)
    for name, place in {"HF_HUB_CACHE": "hub", "HF_TOKEN_PATH": "token"}.items():
        monkeypatch.setattr(constants, name, str(tmp_path / "home" / place))
    # LFS is the hub's HTTP protocol; Xet, its other one, is a client of its own.
    for name in ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setattr(constants, name, True)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4096)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # before it tries again
    made = Shell(monkeypatch, capsys)
    made.hub = Hub()
    hooks = {"request": [hf_request_event_hook]}
    set_client_factory(lambda: httpx2.Client(transport=httpx2.MockTransport(made.hub.answer), event_hooks=hooks))
    disable_progress_bars()  # the client may have read its settings before
    yield made
    enable_progress_bars()
    set_client_factory(default_client_factory)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def model(shell: Shell) -> BundleMetadata:  # noqa: ARG001
    return write_prior_model(Path(MODEL), labels=["low", "high"])


def test_what_is_pushed_is_pulled(shell: Shell, model: BundleMetadata) -> None:
    said = shell.well("push", MODEL, PLACE, "--license", "cc-by-4.0", "--message", "First bells").splitlines()
    assert said[0].startswith(f"{URL}/{PLACE}  {MODEL}, ")
    assert said[1:] == [
        "sent without names and codes of training recordings",
        "sent with its labels, which can be names of your folders: low, high",
    ]
    assert sorted(shell.kept()) == ["README.md", MODEL]
    assert shell.hub.repositories[PLACE].messages[-1] == "First bells"
    assert not shell.hub.repositories[PLACE].private
    _, head, card = shell.kept()["README.md"].decode().split("---\n", 2)
    assert yaml.safe_load(head) == {
        "license": "cc-by-4.0",
        "library_name": "distill",
        "pipeline_tag": "audio-to-audio",
        "tags": ["audio", "neural-audio-codec", "audio-generation"],
    }
    for text in ("# bells.distill\n", "It holds no codes of its training recordings", f"distill pull {PLACE}\n"):
        assert text in card

    report = json.loads(shell.well("pull", PLACE, "--out", "got", "--json"))
    pulled = Path("got", MODEL)
    assert (report["model"], report["commit"]) == (f"got/{MODEL}", shell.hub.repositories[PLACE].commits[-1][0])
    assert pulled.read_bytes() == shell.kept()[MODEL]
    assert [path.name for path in pulled.parent.iterdir()] == [MODEL]
    assert ("reference" in report["checks"], "prior" in report["checks"]) == (False, True)
    bundle = load_bundle(pulled)
    assert (bundle.reference, bundle.metadata.codec_sha256) == (None, model.codec_sha256)
    assert b"0.wav" not in pulled.read_bytes()
    assert shell.well("pull", PLACE, "--out", "got").startswith(f"got/{MODEL}  ")  # an equal file stays
    agents = {request.headers["user-agent"] for request in shell.hub.asked}
    assert not [agent for agent in agents if "torch" in agent or "agent/" in agent]
    assert not [request for request in shell.hub.asked if "telemetry" in request.url.path]

    write_model(Path("codec.distill"))
    shell.well("push", "codec.distill", "ada/codec")
    head = yaml.safe_load(shell.kept("ada/codec")["README.md"].decode().split("---\n")[1])
    assert ("license" in head, "audio-generation" in head["tags"]) == (False, False)


def test_the_reference_is_sent_where_asked(shell: Shell, model: BundleMetadata) -> None:
    said = json.loads(shell.well("push", MODEL, PLACE, "--with-reference", "--private", "--json"))
    assert said["reference_recordings"] == 5
    assert shell.hub.repositories[PLACE].private
    assert "codes of 5 recordings" in json.loads(shell.well("pull", PLACE, "--json"))["checks"]["reference"]
    pulled = load_bundle(Path("models", MODEL))
    assert pulled.metadata.payload_sha256 == model.payload_sha256
    assert pulled.reference is not None
    shell.well("push", MODEL, PLACE, "--with-reference", "--private")  # a private one that exists stays


def test_commits_and_what_stays_in_them(shell: Shell) -> None:
    first, second = (json.loads(shell.well("push", MODEL, PLACE, "--json")) for _ in range(2))
    assert {**first, "commit": second["commit"]} == {**second, "replaces": False}
    assert (second["replaces"], len(shell.hub.paths("PUT"))) == (True, 1)  # equal bytes are sent once
    shell.hub.repositories[PLACE].tags["v1"] = first["commit"]
    said = "what earlier pushes sent, with their references if they had any, stays in the history of the repository"
    assert shell.well("push", MODEL, PLACE, "--with-reference").splitlines()[-1] == said
    for revision in ("v1", first["commit"]):
        report = json.loads(shell.well("pull", PLACE, "--revision", revision, "--out", revision, "--json"))
        assert (report["commit"], "reference" in report["checks"]) == (first["commit"], False)
    assert shell.refused("pull", PLACE, "--out", "v1") == (
        f"v1/{MODEL}: expected no file, or the one of {PLACE}, found another; use --replace to replace it, or "
        "another --out"
    )
    assert "reference" in json.loads(shell.well("pull", PLACE, "--out", "v1", "--replace", "--json"))["checks"]
    assert shell.refused("pull", PLACE, "--revision", "v9") == (
        f"HUB/{PLACE}: expected the revision that --revision names, found none; name a branch, a tag or a commit"
    )


def test_metadata_of_the_maker_is_not_shared() -> None:
    bundle = load_bundle(Path(MODEL))
    training = {"split": {"seed": 0, "val_fraction": 0.5}, "corpus": "/home/ada/secret"}
    notes = {"recordings": 5, "folder": "/home/ada/secret"}
    named = bundle.metadata.model_copy(update={"metadata": notes, "training_config": training})
    save_bundle(Path("named.distill"), bundle.codec, bundle.prior, named, bundle.reference)
    assert b"secret" in Path("named.distill").read_bytes()
    shared = write_shared(Path("named.distill"), Path("copy.distill"), with_reference=True)
    assert b"secret" not in Path("copy.distill").read_bytes()
    assert shared.metadata == {"recordings": 5, "reference_recordings": 5}
    assert list(shared.training_config) == ["split"]


def interrupt() -> None:
    """What Ctrl-C does."""
    os.kill(os.getpid(), signal.SIGINT)


def test_what_is_interrupted_leaves_nothing_and_goes_on(shell: Shell, request: pytest.FixtureRequest) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background lets it be ignored
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    shell.hub.on_upload = interrupt
    done = shell("push", MODEL, PLACE)
    assert (done.status, done.out, len(done.err.splitlines())) == (130, "", 1)
    assert (shell.kept(), shell.hub.objects, files()) == ({}, {}, [Path(MODEL)])
    shell.hub.on_upload = None
    shell.well("push", MODEL, PLACE)
    shell.hub.on_half_download = interrupt
    done = shell("pull", PLACE)
    assert (done.status, done.out, len(done.err.splitlines())) == (130, "", 1)
    assert files() == [Path(MODEL)]
    shell.hub.on_half_download = lambda: setattr(shell.hub, "on_half_download", None)
    shell.well("pull", PLACE)  # although its connection breaks off once
    assert Path("models", MODEL).read_bytes() == shell.kept()[MODEL]
    downloads = [one for one in shell.hub.asked if one.method == "GET" and "/resolve/" in one.url.path]
    assert downloads[-1].headers["range"].startswith("bytes=")


@pytest.mark.parametrize("name", ["bells", "ada/be lls", "ada/bells.git", "ada/be--lls", "a/b/c", "../bells"])
def test_wrong_names_of_repositories(shell: Shell, name: str) -> None:
    for command in (("push", MODEL, name), ("pull", name)):
        assert shell.refused(*command) == (
            f"REPO_ID: expected OWNER/NAME of letters, digits, dots, dashes and underscores, found {name!r}; correct it"
        )
    assert shell.hub.asked == []


def test_wrong_arguments(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("bells.safetensors").write_bytes(Path(MODEL).read_bytes())
    Path("text.distill").write_text("no model")
    for line, said in (
        (f"{MODEL} --license My-own", "--license: expected an identifier of the hub, such as mit, cc-by-4.0 or other"),
        ("bells.safetensors", "bells.safetensors: expected a name that ends in .distill, in plain characters; rena"),
        ("text.distill", "text.distill: expected a Distill model, found another format"),
        ("none.distill", "none.distill: expected a Distill model, found nothing there; check the path"),
    ):
        file, *more = line.split()
        assert shell.refused("push", file, PLACE, *more).startswith(said)
    assert shell.hub.asked == []
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert shell.refused("pull", PLACE, "--out", ".") == (
        "the Hugging Face hub: expected its client, found no huggingface_hub; install it with "
        "`pip install 'distill-audio[hub]'` or `make setup`"
    )


def test_a_page_that_somebody_wrote_stays(shell: Shell) -> None:
    shell.hub.add(PLACE, {"README.md": b"---\nlicense: mit\n---\n# My bells, made with Distill\n"})
    said = "the README.md there is no card of Distill and stays; delete it there to have one at the next push"
    assert said in shell.well("push", MODEL, PLACE).splitlines()
    assert b"My bells" in shell.kept()["README.md"]
    shell.hub.add(PLACE, {"README.md": hub_card(PLACE, MODEL, load_bundle(Path(MODEL)).metadata, None).encode()})
    before = shell.kept()["README.md"]
    assert said not in shell.well("push", MODEL, PLACE, "--license", "mit")
    assert before != shell.kept()["README.md"]


def test_a_missing_or_wrong_token(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.well("push", MODEL, PLACE, "--private")
    monkeypatch.delenv("HF_TOKEN")
    assert shell.refused("push", MODEL, PLACE) == f"HUB/{PLACE}: expected a token to write with, found none; {LOG_IN}"
    assert shell.refused("pull", PLACE) == f"HUB/{PLACE}: {NOTHING}"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    for command in (("push", MODEL, PLACE), ("pull", PLACE)):
        assert shell.refused(*command) == (
            f"HUB/{PLACE}: expected a token that the hub accepts, found that it refuses this one; {LOG_IN}"
        )
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    for place in (PLACE, "ada/new"):
        assert shell.refused("push", MODEL, place) == (
            f"HUB/{place}: expected a token with the right to do this, found one without it; {LOG_IN}, with a token that "
            "may write"
        )
    assert shell.refused("pull", "ada/none") == f"HUB/ada/none: {NOTHING}"
    shell.hub.repositories[PLACE].gated = True
    assert shell.refused("pull", PLACE) == (
        f"HUB/{PLACE}: expected access, found that its owner gives it on request; ask for it on its page, then log in"
    )


def test_a_repository_that_is_for_something_else(shell: Shell) -> None:
    shell.hub.add("ada/text", {"README.md": b"text"})
    assert shell.refused("push", MODEL, "ada/text", "--private") == (
        "HUB/ada/text: expected a private repository or a new one, found one that everybody can read; make it private in "
        "its settings, or choose another name"
    )
    assert shell.refused("pull", "ada/text") == (
        "HUB/ada/text: expected one .distill file, found none; check the name of the repository, or download the one that "
        "you want yourself"
    )
    shell.hub.add(PLACE, {"drums.distill": b"x"})
    assert shell.refused("push", MODEL, PLACE) == (
        f"HUB/{PLACE}: expected a repository for {MODEL}, found drums.distill in it; push under that name, or choose "
        "another repository"
    )
    shell.hub.add(PLACE, {"more.distill": b"y"})
    assert shell.refused("pull", PLACE) == (
        f"HUB/{PLACE}: expected one .distill file, found drums.distill, more.distill; check the name of the repository, or "
        "download the one that you want yourself"
    )
    assert shell.hub.paths("POST") == []


@pytest.mark.parametrize("name", ["../evil.distill", "/evil.distill", "a\\evil.distill", ".distill", "e\n.distill"])
def test_a_file_that_would_leave_the_folder(shell: Shell, name: str) -> None:
    shell.hub.add(PLACE, {name: Path(MODEL).read_bytes()})
    assert shell.refused("pull", PLACE) == (
        f"HUB/{PLACE}: expected a .distill file with a plain name, found {name!r}; tell its owner"
    )


def test_damaged_files_are_not_put_in_place(shell: Shell) -> None:
    whole = Path(MODEL).read_bytes()
    shell.hub.add("ada/damaged", {MODEL: whole[:-100] + bytes(100)})
    assert shell.refused("pull", "ada/damaged").startswith(f"HUB/ada/damaged: {MODEL}: expected weights with SHA-256")
    shell.hub.add(PLACE, {MODEL: whole})
    shell.hub.shadow[MODEL] = b"text " * 1000
    assert shell.refused("pull", PLACE) == (
        f"HUB/{PLACE}: {MODEL}: expected a Distill model, found another format; check the path; if that does not help, tell its "
        "owner"
    )
    shell.hub.shadow.clear()
    shell.well("pull", PLACE)  # although the client has the wrong bytes in its cache
    assert Path("models", MODEL).read_bytes() == whole


def test_no_network_and_no_hub(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.hub.status = 429
    assert "found HTTP status 429 (" in shell.refused("push", MODEL, PLACE)

    def fail(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("no route")

    monkeypatch.setattr(shell.hub, "answer", fail)
    close_session()
    for command in (("push", MODEL, PLACE), ("pull", PLACE)):
        assert shell.refused(*command) == (
            f"HUB/{PLACE}: expected to reach HUB, found: no route; check the network and HF_ENDPOINT, and run the same "
            "command again"
        )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    set_client_factory(default_client_factory)
    assert "HF_HUB_OFFLINE" in shell.refused("pull", PLACE)
