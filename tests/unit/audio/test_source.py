"""Sources of recordings: a bucket is listed as the same folder is, and every refusal is one sentence."""

import importlib
import sys
from pathlib import Path

import pytest

from distill.audio.source import AudioFile, LocalFolder, ObjectStore, is_url, left_out_line, open_source
from distill.errors import AudioError
from object_store import Store

FILES = ("b.wav", "a.WAV", "drums/kick.flac", "drums/low/tom ü#?.aiff", "drums/.hidden.wav", ".cache/x/y.wav",
         "notes.txt", "drums/README", "end.", ".DS_Store")  # fmt: skip


def fill(folder: Path) -> Path:
    for number, name in enumerate(FILES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * (number + 1))
    return folder


def refusal(url: str) -> str:
    with pytest.raises(AudioError) as caught:
        open_source(url).scan()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def by_name(source: LocalFolder | ObjectStore) -> dict[str, AudioFile]:
    return {file.relative: file for file in source.scan().audio}


def test_what_is_left_out_is_named_by_its_suffix(tmp_path: Path) -> None:
    assert fill(tmp_path)
    left_out = LocalFolder(tmp_path).scan().left_out
    assert left_out_line(left_out) == "3 files left out: 1 (no suffix), 1 ., 1 .txt"
    assert (left_out_line({}), left_out_line({".mid": 1})) == ("", "1 file left out: 1 .mid")
    many = {f".{number}": 20 - number for number in range(12)}
    assert left_out_line(many).startswith("174 files left out: 20 .0, 19 .1, ")
    assert left_out_line(many).endswith(", 13 .7, 42 others")


def test_bins_are_not_learnt_and_what_is_in_a_cloud_alone_is_said(tmp_path: Path, store: Store) -> None:
    names = (
        "$RECYCLE.BIN/S-1-5/$R1.wav",
        "kit/#recycle/old.wav",
        "System Volume Information/x.wav",
        "lost+found/y.wav",
    )
    for name in (*names, ".Trash-1000/files/z.wav", ".take 1.wav.icloud", "kit/.take 2.wav.icloud", "kit/end .wav "):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    url = store.upload(tmp_path, "takes")
    for scan in (LocalFolder(tmp_path).scan(), ObjectStore(url).scan()):
        assert [file.relative for file in scan.audio] == ["kit/end .wav "]
        assert left_out_line(scan.left_out) == "2 files left out: 2 .icloud"
        bins = ["$RECYCLE.BIN", "System Volume Information", "kit/#recycle", "lost+found"]
        assert scan.skipped == tuple((name, "holds what was deleted, or is the system's own") for name in bins)
    assert len(LocalFolder(tmp_path / "lost+found").scan().audio) == 1  # that folder was asked for


def test_a_bucket_is_listed_and_read_as_the_same_folder_is(tmp_path: Path, store: Store) -> None:
    url = store.upload(fill(tmp_path), "takes")
    store.put("takes/empty/", b"")  # as consoles make folders
    store.put("takes2/other.wav", b"of a prefix that begins with the same letters")
    assert ObjectStore(url).scan() == LocalFolder(tmp_path).scan()
    assert ObjectStore(url + "/").scan() == LocalFolder(tmp_path).scan()
    for name, file in by_name(ObjectStore(url)).items():
        with ObjectStore(url).local(file) as path:
            assert path.read_bytes() == (tmp_path / name).read_bytes()
            assert path.suffix == Path(name).suffix
        assert not path.parent.exists()
    store.remove("takes2/other.wav")
    whole = ObjectStore(f"s3://{store.bucket}").scan().audio
    assert [file.relative for file in whole] == [
        f"takes/{file.relative}" for file in LocalFolder(tmp_path).scan().audio
    ]


def test_other_file_systems_of_fsspec_need_no_more_code() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/takes/drums/kick.wav", b"one")
    source = ObjectStore("memory://takes")
    file = by_name(source)["drums/kick.wav"]
    assert file.label == "drums"
    assert file.identity
    with source.local(file) as path:
        assert path.read_bytes() == b"one"
    memory.rm("/takes", recursive=True)


def test_credentials_that_may_not_read(store: Store) -> None:
    store.put("takes/a.wav", b"one")
    source = ObjectStore(f"s3://{store.bucket}/takes")
    file = by_name(source)["a.wav"]
    with store.asking_for_rights():
        found = refusal(f"s3://{store.bucket}/takes")
        with pytest.raises(AudioError, match=r"takes/a\.wav: expected credentials"):
            source.local(file).__enter__()
    assert found.startswith(f"s3://{store.bucket}/takes: expected credentials that may list and read it, found: ")
    assert found.endswith(
        "; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE and the profiles in ~/.aws, and the rights "
        "that they have"
    )


def test_credentials_and_endpoint_of_a_profile(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("takes/a.wav", b"one")
    (tmp_path / "config").write_text(f"[profile studio]\nendpoint_url = {store.endpoint}\nregion = us-east-1\n")
    (tmp_path / "credentials").write_text("[studio]\naws_access_key_id = k\naws_secret_access_key = s\n")
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "studio")
    assert list(by_name(ObjectStore(f"s3://{store.bucket}/takes"))) == ["a.wav"]


def test_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    registry = importlib.import_module("fsspec.registry")
    for name in ("_registry", "registry"):  # what has been imported before
        monkeypatch.setattr(registry, name, {})
    found = refusal("s3://bucket/takes")
    assert found.startswith("s3://bucket/takes: expected an address that fsspec can open, found: Install s3fs ")
    assert found.endswith("; run `pip install 'distill-audio[s3]'`, or `make setup` in the repository")


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "home" / "takes")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    source = open_source("~/takes")
    assert source.name == str((tmp_path / "home" / "takes").resolve())
    file = source.scan().audio[0]
    with source.local(file) as path:
        assert path == tmp_path / "home" / "takes" / file.relative
    assert file.identity == source.scan().audio[0].identity != ""
    path.write_bytes(b"changed")
    assert source.scan().audio[0].identity != file.identity
    assert not is_url(tmp_path)
    assert not is_url("C:/takes")


ADDRESS = "expected an address such as s3://bucket/prefix, found"
UNKNOWN = "expected an address that fsspec can open, found: "


CREDENTIALS = (
    "s3://: expected an address without credentials, found some in it; take them out, since they would be written to "
    "files, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile"
)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("s3://key:secret@bucket/takes", CREDENTIALS),  # not shown
        *((url, f"{url}: {ADDRESS} no bucket in it;") for url in ("s3://", "s3:///takes", "s3:/bucket/takes")),
        ("s4://bucket/takes", f"s4://bucket/takes: {UNKNOWN}Protocol not known: s4; give a folder"),
        ("dbfs://host/takes", f"dbfs://host/takes: {UNKNOWN}"),  # it needs more than an address
        ("file:///takes", f"file:///takes: {ADDRESS} one of this computer; write the folder without file://"),
    ],
)
def test_an_address_that_is_none(url: str, sentence: str) -> None:
    assert is_url(url)
    assert refusal(url).startswith(sentence)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        (
            "AWS_ACCESS_KEY_ID",
            "",
            "expected credentials that may list and read it, found: Unable to locate credentials",
        ),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", "expected an answer of the store at http://127.0.0.1:9, found: "),
        (
            "AWS_ENDPOINT_URL",
            "minio",
            "expected an answer of the store at minio, found: Invalid endpoint: minio; check",
        ),
        ("AWS_PROFILE", "stage", "expected credentials that may list and read it, found: The config profile (stage)"),
    ],
)
def test_settings_with_which_no_store_answers(
    store: Store, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert sentence in refusal(f"s3://{store.bucket}/takes")


def test_what_is_not_at_an_address(store: Store) -> None:
    assert refusal("s3://no-such-bucket/takes") == (
        f"s3://no-such-bucket/takes: expected a bucket with recordings, found none of that name at {store.endpoint} "
        "(The specified bucket does not exist); check the address"
    )
    store.put("takes/a.wav", b"one")
    assert refusal(f"s3://{store.bucket}/takes/a.wav") == (
        f"s3://{store.bucket}/takes/a.wav: expected a prefix with recordings below it, found an object; "
        "give the prefix that holds it"
    )
