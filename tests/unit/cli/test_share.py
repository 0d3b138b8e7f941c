"""`distill push` and `distill pull` as people type them, with the hub's own client and a server that speaks its protocol."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from hub_server import TOKEN, Hub, serve_hub
from unit.tiny import write_prior_model

from distill.model_file.format import load_bundle
from distill.model_file.verify import verify

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve_hub() as hub:
        yield hub


@pytest.fixture
def run(hub: Hub, tmp_path: Path, python: Path) -> Run:
    write_prior_model(tmp_path / "m.distill", labels=["drum/kick", "bell"])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment |= {
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
    }

    def run(*arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(python), "-m", "distill", *arguments],
            cwd=tmp_path,
            env={**environment, **changed},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr.strip()


def test_a_model_goes_to_the_hub_and_comes_back(run: Run, hub: Hub, tmp_path: Path) -> None:
    done = run("push", "m.distill", "me/kicks", "--license", "cc-by-4.0", "--message", "First take", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["reference_recordings"], said["reference_left_out"], said["labels"]) == (0, 5, ["drum/kick", "bell"])
    repository = hub.repositories["me/kicks"]
    assert (repository.messages, set(repository.files)) == (["First take"], {"m.distill", "README.md"})
    assert not any("telemetry" in request for request in hub.requests)

    card = repository.files["README.md"].decode()
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "cc-by-4.0"
    assert head["library_name"] == "distill"
    assert "distill pull me/kicks" in card
    assert "0.wav" not in card

    done = run("pull", "me/kicks", "--out", "got")
    assert done.returncode == 0, done.stderr
    pulled = tmp_path / "got" / "m.distill"
    assert pulled.read_bytes() == repository.files["m.distill"]
    verify(pulled)
    assert load_bundle(pulled).reference is None
    assert b"0.wav" not in pulled.read_bytes()
    assert run("generate", str(pulled), "-n", "1", "--seconds", "0.2", "--out", "sounds").returncode == 0

    again = run("push", "m.distill", "me/kicks")  # the same bytes: the file is not sent twice
    assert again.returncode == 0, again.stderr
    assert sum(request.startswith("PUT ") for request in hub.requests) == 1
    assert "5 training recordings stay here" in again.stdout


def test_the_reference_goes_along_where_it_is_asked_for(run: Run, hub: Hub, tmp_path: Path) -> None:
    done = run("push", "m.distill", "me/kicks", "--private", "--with-reference")
    assert done.returncode == 0, done.stderr
    assert "names and codes of 5 training recordings, which whoever has the file can decode" in done.stdout
    assert hub.repositories["me/kicks"].private
    assert run("pull", "me/kicks", "--out", "got").returncode == 0
    reference = load_bundle(tmp_path / "got" / "m.distill").reference
    assert reference is not None
    assert len(reference.codes) == 5
    assert "found none that you may read" in refusal(run("pull", "me/kicks", "--out", "other", HF_TOKEN=""))


def test_what_breaks_off_leaves_nothing_and_goes_on(run: Run, hub: Hub, tmp_path: Path, exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("the client waits half a minute before it gives up: make faults")
    hub.cut = 100
    assert "expected" in refusal(run("push", "m.distill", "me/kicks"))
    assert hub.repositories["me/kicks"].files == {}
    hub.cut = 0
    assert run("push", "m.distill", "me/kicks").returncode == 0
    hub.cut = 1
    run("pull", "me/kicks", "--out", "got")
    hub.cut = 0
    assert run("pull", "me/kicks", "--out", "got").returncode == 0
    assert [path.name for path in (tmp_path / "got").iterdir()] == ["m.distill"]


def test_what_is_there_stays(run: Run, hub: Hub, tmp_path: Path) -> None:
    hub.repository("me/kicks", {"m.distill": (tmp_path / "m.distill").read_bytes()})
    (tmp_path / "models").mkdir()
    mine = tmp_path / "models" / "m.distill"
    mine.write_bytes(b"mine")
    assert "expected no file, or the one of me/kicks, found another; use --replace" in refusal(run("pull", "me/kicks"))
    assert mine.read_bytes() == b"mine"
    assert run("pull", "me/kicks", "--replace").returncode == 0
    assert run("pull", "me/kicks").returncode == 0


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"README.md": b"hello"}, "expected a .distill file, found none; check the name of the repository"),
        ({"a.distill": b"", "b.distill": b""}, "expected one .distill file, found a.distill, b.distill; download"),
        ({"..\\a.distill": b"x"}, "expected a .distill file with a plain name, found"),
        ({"a.distill": b"no model"}, "a.distill: "),
    ],
)
def test_a_repository_that_is_no_models_is_one_sentence(
    run: Run, hub: Hub, tmp_path: Path, files: dict[str, bytes], said: str
) -> None:
    hub.repository("me/other", files)
    assert said in refusal(run("pull", "me/other"))
    assert list((tmp_path / "models").iterdir()) == []


def test_mistakes_are_one_sentence(run: Run, hub: Hub) -> None:
    assert "REPO_ID: expected OWNER/NAME" in refusal(run("push", "m.distill", "no name"))
    assert "REPO_ID: expected OWNER/NAME" in refusal(run("pull", "../../etc/passwd"))
    assert "expected a token to write with, found none; log in" in refusal(
        run("push", "m.distill", "me/a", HF_TOKEN="")
    )
    assert "token" in refusal(run("push", "m.distill", "me/a", HF_TOKEN="hf_wrong"))
    assert "found none that you may read; check its name" in refusal(run("pull", "me/none-such"))
    hub.repository("me/kicks", {"m.distill": b""})
    assert "expected the revision that --revision names" in refusal(run("pull", "me/kicks", "--revision", "old"))
    assert "expected a repository for m.distill, found k.distill in it" in (
        hub.repository("me/k", {"k.distill": b""}) and refusal(run("push", "m.distill", "me/k"))
    )
    assert "expected to reach http://127.0.0.1:9" in refusal(run("pull", "me/kicks", HF_ENDPOINT="http://127.0.0.1:9"))
    assert "HF_HUB_OFFLINE forbids it" in refusal(run("pull", "me/kicks", HF_HUB_OFFLINE="1"))
    assert "expected an identifier of the hub" in refusal(run("push", "m.distill", "me/a", "--license", "My own!"))
