"""Sources of recordings: a bucket is listed as the same folder is, and every refusal is one sentence."""

import importlib
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from object_store import Store

from distill.audio.source import GONE, AudioFile, Gone, LocalFolder, ObjectStore, is_url, open_source, scan_names
from distill.errors import AudioError

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


def test_a_bucket_is_listed_as_the_same_folder_is(tmp_path: Path, store: Store) -> None:
    url = store.upload(fill(tmp_path), "takes")
    store.put("takes/empty/", b"")  # as consoles make folders
    store.put("takes2/other.wav", b"of a prefix that begins with the same letters")
    assert ObjectStore(url).scan() == LocalFolder(tmp_path).scan()
    assert ObjectStore(url + "/").scan() == LocalFolder(tmp_path).scan()
    store.remove("takes2/other.wav")
    whole = ObjectStore(f"s3://{store.bucket}").scan().audio
    assert [file.relative for file in whole] == [
        f"takes/{file.relative}" for file in LocalFolder(tmp_path).scan().audio
    ]


names = st.lists(st.sampled_from(["a", "b", ".h", "x.wav", "y.mp3", "z.txt", "w."]), min_size=1, max_size=4)


@settings(deadline=None)
@given(st.lists(names, max_size=12))
def test_names_are_sorted_and_counted_as_a_folder_s(paths: list[list[str]]) -> None:
    """Against a folder with these files, but those that stand where another has a folder."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        kept = []
        for parts in paths:
            path = Path(folder, *parts)
            if path.exists() or any(parent.is_file() for parent in path.parents):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            kept.append("/".join(parts))
        assert scan_names(dict.fromkeys(reversed(kept), (0, ""))) == LocalFolder(Path(folder)).scan()


def test_an_object_is_a_local_file_for_a_while(tmp_path: Path, store: Store) -> None:
    source = ObjectStore(store.upload(fill(tmp_path), "takes"))
    for name, file in by_name(source).items():
        with source.local(file) as path:
            assert path.read_bytes() == (tmp_path / name).read_bytes()
            assert path.suffix == Path(name).suffix
        assert not path.parent.exists()


def test_a_changed_object_has_another_identity(store: Store) -> None:
    url = f"s3://{store.bucket}/takes"
    store.put("takes/a.wav", b"one")
    store.put("takes/b.wav", b"one")
    first = by_name(ObjectStore(url))
    assert first["a.wav"].size == 3
    store.put("takes/a.wav", b"two")
    again = by_name(ObjectStore(url))
    assert first["a.wav"].identity != again["a.wav"].identity
    assert first["b.wav"].identity == again["b.wav"].identity != ""


def test_an_object_that_is_gone_is_a_reason_and_one_that_changed_stops(store: Store) -> None:
    store.put("takes/a.wav", b"one")
    store.put("takes/b.wav", b"one")
    source = ObjectStore(f"s3://{store.bucket}/takes")
    files = by_name(source)
    store.remove("takes/a.wav")
    store.put("takes/b.wav", b"two")
    with pytest.raises(Gone, match=f"^{GONE}$"), source.local(files["a.wav"]):
        pass
    with pytest.raises(AudioError) as caught, source.local(files["b.wav"]):
        pass
    assert str(caught.value) == (
        f"s3://{store.bucket}/takes/b.wav: expected it to stay as it was listed, found that it was replaced meanwhile; "
        "run again when nothing writes there"
    )
    assert not isinstance(caught.value, Gone)


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


def test_no_credentials(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert refusal(f"s3://{store.bucket}/takes") == (
        f"s3://{store.bucket}/takes: expected credentials for it, found none that can be used (Unable to locate "
        "credentials); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to a profile of ~/.aws/credentials"
    )


def test_credentials_that_may_not_read(store: Store) -> None:
    store.put("takes/a.wav", b"one")
    source = ObjectStore(f"s3://{store.bucket}/takes")
    file = by_name(source)["a.wav"]
    with store.asking_for_rights():
        found = refusal(f"s3://{store.bucket}/takes")
        with pytest.raises(AudioError, match=r"takes/a\.wav: expected credentials") as caught:
            source.local(file).__enter__()
    assert not isinstance(caught.value, Gone)
    assert found.startswith(
        f"s3://{store.bucket}/takes: expected credentials that may list and read it, found that the store refuses them ("
    )
    assert found.endswith(
        "); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, and the rights that they have"
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
    monkeypatch.setenv("AWS_PROFILE", "stage")
    assert refusal(f"s3://{store.bucket}/takes") == (
        f"s3://{store.bucket}/takes: expected a profile that ~/.aws has, found: The config profile (stage) could not be "
        "found; set AWS_PROFILE to one that is there, or unset it"
    )


def test_no_answer(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    found = refusal(f"s3://{store.bucket}/takes")
    assert found.startswith(
        f"s3://{store.bucket}/takes: expected an answer of the store at http://127.0.0.1:9, found none after several tries ("
    )
    assert found.endswith("); check the network and AWS_ENDPOINT_URL, and run again: nothing was changed")


def test_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    registry = importlib.import_module("fsspec.registry")
    for name in ("_registry", "registry"):  # what has been imported before
        monkeypatch.setattr(registry, name, {})
    found = refusal("s3://bucket/takes")
    assert found.startswith(
        "s3://bucket/takes: expected the library that reads s3:// addresses, found it is not installed ("
    )
    assert found.endswith("); run `pip install 'distill-audio[s3]'`, or `make setup` in the repository")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    assert refusal("gs://bucket/takes").endswith("); install it, or copy the recordings to a folder or to an S3 bucket")


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


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        *(
            (url, f"{url}: {ADDRESS} no bucket in it; write it with two slashes and the name of a bucket")
            for url in ("s3://", "s3:///takes", "s3:/bucket/takes")
        ),
        (
            "s3://key:secret@bucket/takes",
            "s3://: expected an address without credentials, found some in it; take them out, since they would be written "
            "to files, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile",
        ),
        (
            "s4://bucket/takes",
            f"s4://bucket/takes: {ADDRESS} an unknown kind (s4); give a folder or an address of that form",
        ),
        (  # its library needs settings beside the address
            "dbfs://host/takes",
            f"dbfs://host/takes: {ADDRESS} an unknown kind (dbfs); give a folder or an address of that form",
        ),
        ("file:///takes", f"file:///takes: {ADDRESS} one of this computer; write the folder without file://"),
    ],
)
def test_an_address_that_is_none(url: str, sentence: str) -> None:
    assert is_url(url)
    assert refusal(url) == sentence


def test_what_is_not_at_an_address(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal("s3://no-such-bucket/takes") == (
        f"s3://no-such-bucket/takes: expected a bucket with recordings, found none of that name at {store.endpoint} "
        "(The specified bucket does not exist); check the address"
    )
    store.put("takes/a.wav", b"one")
    assert refusal(f"s3://{store.bucket}/takes/a.wav") == (
        f"s3://{store.bucket}/takes/a.wav: expected a prefix with recordings below it, found an object; "
        "give the prefix that holds it"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio")
    assert refusal(f"s3://{store.bucket}/takes") == (
        "AWS_ENDPOINT_URL: expected an address such as https://host:port, found: Invalid endpoint: minio; "
        "correct or unset it"
    )
