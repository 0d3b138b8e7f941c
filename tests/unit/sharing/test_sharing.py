"""`distill push` and `distill pull` with the hub's real client, against a server of its API on this computer."""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants
from huggingface_hub.utils import close_session, disable_progress_bars
from unit.command import CommandLine
from unit.sharing.hub_server import READ_TOKEN, TOKEN, Hub, hub_server
from unit.tiny import write_model, write_prior_model

from distill.model_file.format import BundleMetadata, load_bundle, save_bundle
from distill.sharing.push import write_shared

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the hub's client

PLACE = "ada/bells"
MODEL = "bells.distill"


class Shell(CommandLine):
    """Runs the command in a folder of its own, with a home of its own for the client.

    LFS is the hub's HTTP protocol; Xet, its other one, is a client of its own.
    """

    def __init__(self, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(monkeypatch, capsys)
        self.hub = hub

    def well(self, *arguments: str) -> str:
        """What a command prints that ends well."""
        done = self(*arguments)
        assert (done.status, done.err) == (0, ""), done
        return done.out

    def refused(self, *arguments: str) -> str:
        """The sentence with which a command is refused, having written nothing in its folder."""
        before = files()
        done = self(*arguments)
        assert (done.status, done.out) == (2, ""), done
        assert files() == before
        (line,) = done.err.splitlines()
        return line.removeprefix("distill: ").replace(self.hub.url, "HUB")


def files() -> dict[Path, bytes]:
    """The files of the working folder, hidden ones too."""
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    handlers = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in [one for one in os.environ if one.startswith("HF_") or one.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "1" if "DISABLE" in name else "error")
    with hub_server() as hub:
        # Environment for commands in processes of their own; the client of this process has read it already.
        home = tmp_path / "home"
        for name, value in {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("DISTILL_DEVICE", "cpu")
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4096)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        disable_progress_bars()
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # before it tries again
        yield Shell(hub, monkeypatch, capsys)
        close_session()
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def model(shell: Shell) -> BundleMetadata:  # noqa: ARG001
    return write_prior_model(Path(MODEL), labels=["low", "high"])


def kept(shell: Shell, place: str = PLACE) -> dict[str, bytes]:
    return shell.hub.repositories[place].commits[-1][1]


def test_what_is_pushed_is_pulled(shell: Shell, model: BundleMetadata) -> None:
    said = shell.well("push", MODEL, PLACE, "--license", "cc-by-4.0", "--message", "First bells").splitlines()
    assert said[0].startswith(f"{shell.hub.url}/{PLACE}  {MODEL}, ")
    assert said[1:] == [
        "sent without its reference: names and codes of 5 training recordings stay here, and the copy cannot say how new "
        "its sounds are",
        "sent with its labels, which can be names of your folders: low, high",
    ]
    assert sorted(kept(shell)) == ["README.md", MODEL]
    assert shell.hub.repositories[PLACE].messages[-1] == "First bells"
    assert not shell.hub.repositories[PLACE].private

    report = json.loads(shell.well("pull", PLACE, "--out", "got", "--json"))
    pulled = Path("got", MODEL)
    assert (report["model"], report["commit"]) == (f"got/{MODEL}", shell.hub.repositories[PLACE].commits[-1][0])
    assert pulled.read_bytes() == kept(shell)[MODEL]
    assert [path.name for path in pulled.parent.iterdir()] == [MODEL]
    assert "reference" not in report["checks"]
    assert "prior" in report["checks"]
    bundle = load_bundle(pulled)
    assert bundle.reference is None
    assert bundle.metadata.codec_sha256 == model.codec_sha256
    assert b"0.wav" not in pulled.read_bytes()
    again = shell.well("pull", PLACE, "--out", "got")  # an equal file stays
    assert again.startswith(f"got/{MODEL}  ")


def test_the_card_is_one_of_the_hub(shell: Shell) -> None:
    shell.well("push", MODEL, PLACE, "--license", "cc-by-4.0")
    _, head, card = kept(shell)["README.md"].decode().split("---\n", 2)
    assert yaml.safe_load(head) == {
        "license": "cc-by-4.0",
        "library_name": "distill",
        "pipeline_tag": "audio-to-audio",
        "tags": ["audio", "neural-audio-codec", "audio-generation"],
    }
    assert "# bells.distill\n" in card
    assert "It holds no codes of its training recordings" in card
    assert f"distill pull {PLACE}\n" in card
    write_model(Path("codec.distill"))
    shell.well("push", "codec.distill", "ada/codec")
    head = yaml.safe_load(kept(shell, "ada/codec")["README.md"].decode().split("---\n")[1])
    assert ("license" in head, "audio-generation" in head["tags"]) == (False, False)


def test_the_reference_is_sent_where_asked(shell: Shell, model: BundleMetadata) -> None:
    said = shell.well("push", MODEL, PLACE, "--with-reference", "--private", "--json")
    assert json.loads(said)["reference_recordings"] == 5
    assert json.loads(said)["reference_left_out"] == 0
    assert shell.hub.repositories[PLACE].private
    assert "codes of 5 recordings" in json.loads(shell.well("pull", PLACE, "--json"))["checks"]["reference"]
    pulled = load_bundle(Path("models", MODEL))
    assert pulled.metadata.payload_sha256 == model.payload_sha256
    assert pulled.reference is not None
    shell.well("push", MODEL, PLACE, "--with-reference", "--private")  # a private one that exists stays


def test_a_second_push_of_the_same_changes_nothing(shell: Shell) -> None:
    first, second = (json.loads(shell.well("push", MODEL, PLACE, "--json")) for _ in range(2))
    assert first == {**second, "replaces": False}
    assert second["replaces"]
    assert len(shell.hub.paths("PUT")) == 1


def test_a_push_without_the_reference_says_that_an_earlier_one_stays(shell: Shell) -> None:
    said = "what earlier pushes sent, with their references if they had any, stays in the history of the repository"
    assert said not in shell.well("push", MODEL, PLACE, "--with-reference")
    assert shell.well("push", MODEL, PLACE).splitlines()[-1] == said
    (first, _), (second, _) = shell.hub.repositories[PLACE].commits[-2:]
    for commit, has_it in ((first, True), (second, False)):
        report = json.loads(shell.well("pull", PLACE, "--revision", commit, "--out", commit, "--json"))
        assert ("reference" in report["checks"]) is has_it


def test_metadata_of_the_maker_is_not_shared(tmp_path: Path) -> None:
    write_prior_model(tmp_path / MODEL)
    bundle = load_bundle(tmp_path / MODEL)
    named = bundle.metadata.model_copy(
        update={
            "metadata": {"recordings": 5, "folder": "/home/ada/secret"},
            "training_config": {"split": {"seed": 0, "val_fraction": 0.5}, "corpus": "/home/ada/secret"},
        }
    )
    save_bundle(tmp_path / "named.distill", bundle.codec, bundle.prior, named, bundle.reference)
    assert b"secret" in (tmp_path / "named.distill").read_bytes()
    shared, _ = write_shared(tmp_path / "named.distill", tmp_path / "copy.distill", with_reference=True)
    assert b"secret" not in (tmp_path / "copy.distill").read_bytes()
    assert shared.metadata == {"recordings": 5, "reference_recordings": 5}
    assert list(shared.training_config) == ["split"]


def test_the_client_tells_nothing_of_this_computer(shell: Shell) -> None:
    shell.well("push", MODEL, PLACE)
    shell.well("pull", PLACE)
    agents = {headers[name] for _, _, headers in shell.hub.asked for name in headers if name.lower() == "user-agent"}
    assert not [agent for agent in agents if "torch" in agent or "agent/" in agent]
    assert not [path for _, path, _ in shell.hub.asked if "telemetry" in path]


def test_revisions(shell: Shell) -> None:
    first = json.loads(shell.well("push", MODEL, PLACE, "--json"))["commit"]
    shell.hub.repositories[PLACE].tags["v1"] = first
    shell.well("push", MODEL, PLACE, "--with-reference")
    for revision in ("v1", first):
        report = json.loads(shell.well("pull", PLACE, "--revision", revision, "--out", revision, "--json"))
        assert (report["commit"], "reference" in report["checks"]) == (first, False)
    assert shell.refused("pull", PLACE, "--out", "v1") == (
        f"v1/{MODEL}: expected no file, or the one of {PLACE}, found another; use --replace to replace it, or "
        "another --out"
    )
    assert "reference" in json.loads(shell.well("pull", PLACE, "--out", "v1", "--replace", "--json"))["checks"]
    assert shell.refused("pull", PLACE, "--revision", "v9") == (
        f"HUB/{PLACE}: expected the revision that --revision names, found none; name a branch, a tag or a commit"
    )


def interrupt() -> None:
    """What Ctrl-C does."""
    os.kill(os.getpid(), signal.SIGINT)


def test_what_is_interrupted_leaves_nothing_and_goes_on(shell: Shell) -> None:
    shell.hub.on_half_upload = interrupt
    done = shell("push", MODEL, PLACE)
    assert (done.status, done.out, len(done.err.splitlines())) == (130, "", 1)
    assert (kept(shell), shell.hub.objects, list(files())) == ({}, {}, [Path(MODEL)])
    shell.hub.on_half_upload = None
    shell.well("push", MODEL, PLACE)
    shell.hub.on_half_download = interrupt
    done = shell("pull", PLACE)
    assert (done.status, done.out, len(done.err.splitlines())) == (130, "", 1)
    assert list(files()) == [Path(MODEL)]
    shell.hub.on_half_download = lambda: setattr(shell.hub, "on_half_download", None)
    shell.well("pull", PLACE)  # although its connection breaks off once
    assert Path("models", MODEL).read_bytes() == kept(shell)[MODEL]
    *_, again, rest = [
        headers.get("range", headers.get("Range"))
        for method, path, headers in shell.hub.asked
        if "/resolve/" in path and method == "GET"
    ]
    assert (again, rest is None) == (None, False)


@pytest.mark.parametrize("name", ["bells", "ada/be lls", "ada/bells.git", "ada/be--lls", "a/b/c", "../bells"])
def test_wrong_names_of_repositories(shell: Shell, name: str) -> None:
    for command in (("push", MODEL, name), ("pull", name)):
        assert shell.refused(*command) == (
            f"REPO_ID: expected OWNER/NAME of letters, digits, dots, dashes and underscores, found {name!r}; correct it"
        )
    assert shell.hub.asked == []


def test_wrong_arguments(shell: Shell) -> None:
    assert shell.refused("push", MODEL, PLACE, "--license", "My own") == (
        "--license: expected an identifier of the hub, such as mit, cc-by-4.0 or other, found 'My own'; correct it"
    )
    Path("bells.safetensors").write_bytes(Path(MODEL).read_bytes())
    assert shell.refused("push", "bells.safetensors", PLACE) == (
        "bells.safetensors: expected a name that ends in .distill, in plain characters; rename the file"
    )
    Path("text.distill").write_text("no model")
    assert "expected a Distill model, found text" in shell.refused("push", "text.distill", PLACE)
    assert "found no such file" in shell.refused("push", "none.distill", PLACE)
    assert shell.hub.asked == []


def test_a_missing_or_wrong_token(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    shell.well("push", MODEL, PLACE, "--private")
    monkeypatch.delenv("HF_TOKEN")
    assert shell.refused("push", MODEL, PLACE) == (f"HUB/{PLACE}: expected a token to write with, found none; {log_in}")
    nothing = f"expected a model repository, found none that you may read; check its name, or {log_in} if it is private"
    Path("models").mkdir()
    assert shell.refused("pull", PLACE) == f"HUB/{PLACE}: {nothing}"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    for command in (("push", MODEL, PLACE), ("pull", PLACE)):
        assert shell.refused(*command) == (
            f"HUB/{PLACE}: expected a token that the hub accepts, found that it refuses this one; {log_in}"
        )
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    for place in (PLACE, "ada/new"):
        assert shell.refused("push", MODEL, place) == (
            f"HUB/{place}: expected a token with the right to do this, found one without it; {log_in}, with a token that "
            "may write"
        )
    assert shell.refused("pull", "ada/none") == f"HUB/ada/none: {nothing}"
    shell.hub.repositories[PLACE].gated = True
    assert shell.refused("pull", PLACE) == (
        f"HUB/{PLACE}: expected access, found that its owner gives it on request; ask for it on its page, then log in"
    )


def test_a_private_model_goes_to_no_public_repository(shell: Shell) -> None:
    shell.hub.add(PLACE, {})
    assert shell.refused("push", MODEL, PLACE, "--private") == (
        f"HUB/{PLACE}: expected a private repository or a new one, found one that everybody can read; make it private in "
        "its settings, or choose another name"
    )
    assert shell.hub.paths("POST") == []


def test_a_repository_is_for_one_model(shell: Shell) -> None:
    shell.hub.add(PLACE, {"drums.distill": b"x"})
    assert shell.refused("push", MODEL, PLACE) == (
        f"HUB/{PLACE}: expected a repository for {MODEL}, found drums.distill in it; push under that name, or choose "
        "another repository"
    )
    shell.hub.add(PLACE, {"more.distill": b"y"})
    Path("models").mkdir()
    assert shell.refused("pull", PLACE) == (
        f"HUB/{PLACE}: expected one .distill file, found drums.distill, more.distill; download the one that you want "
        "yourself"
    )
    shell.hub.add("ada/other", {"README.md": b"text"})
    assert shell.refused("pull", "ada/other") == (
        "HUB/ada/other: expected a .distill file, found none; check the name of the repository"
    )


@pytest.mark.parametrize("name", ["../evil.distill", "/evil.distill", "a\\evil.distill", ".distill", "e\n.distill"])
def test_a_file_that_would_leave_the_folder(shell: Shell, name: str) -> None:
    shell.hub.add(PLACE, {name: Path(MODEL).read_bytes()})
    Path("models").mkdir()
    assert shell.refused("pull", PLACE) == (
        f"HUB/{PLACE}: expected a .distill file with a plain name, found {name!r}; tell its owner"
    )


def test_damaged_files_are_not_put_in_place(shell: Shell) -> None:
    whole = Path(MODEL).read_bytes()
    shell.hub.add(PLACE, {MODEL: whole[:-100] + bytes(100)})
    shell.hub.add("ada/text", {MODEL: b"text " * 1000})
    Path("models").mkdir()
    assert shell.refused("pull", PLACE).startswith(f"HUB/{PLACE}: {MODEL}: expected ")
    assert shell.refused("pull", "ada/text") == (
        f"HUB/ada/text: {MODEL}: expected a Distill model, found text; check the path; if that does not help, tell its "
        "owner"
    )


def test_a_file_that_is_damaged_on_the_way_is_downloaded_again(shell: Shell) -> None:
    whole = Path(MODEL).read_bytes()
    shell.hub.add(PLACE, {MODEL: whole})
    oid = hashlib.sha256(whole).hexdigest()
    shell.hub.shadow[oid] = bytes(len(whole))
    Path("models").mkdir()
    assert shell.refused("pull", PLACE) == (
        f"HUB/{PLACE}: expected {MODEL} with SHA-256 {oid[:11]}…, as listed, found other bytes twice; try again later, or "
        "tell its owner"
    )
    del shell.hub.shadow[oid]
    shell.well("pull", PLACE)  # although the client has the wrong bytes in its cache
    assert Path("models", MODEL).read_bytes() == whole


def test_no_network_and_no_hub(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    for status, found in ((404, "found nothing there"), (429, "takes no more requests now"), (418, "HTTP status 418")):
        shell.hub.status = status
        assert found in shell.refused("push", MODEL, PLACE)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    for command in (("push", MODEL, PLACE), ("pull", PLACE, "--out", ".")):
        said = shell.refused(*command)
        assert said.startswith(f"http://127.0.0.1:1/{PLACE}: expected to reach http://127.0.0.1:1, found: ")
        assert said.endswith("; check the network and HF_ENDPOINT, and run the same command again")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    assert shell.refused("pull", PLACE, "--out", ".").endswith(
        "expected a connection, found that HF_HUB_OFFLINE forbids it; unset it"
    )


def test_without_the_client(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert shell.refused("pull", PLACE, "--out", ".") == (
        "the Hugging Face hub: expected its client, found no huggingface_hub; install it with "
        "`pip install 'distill-audio[hub]'` or `make setup`"
    )
