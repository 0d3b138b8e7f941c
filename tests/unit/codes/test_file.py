"""Files of codes: round trip, one header key, and a sentence for every way a file can be wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from distill.codes.file import CodesGeometry, read_codes, write_codes
from distill.errors import ArtifactError

GEOMETRY = CodesGeometry(codec_sha256="ab" * 32, sample_rate=16_000, frame_rate=62.5, codebook_size=8, num_quantizers=2)


def written(path: Path) -> Path:
    first, second = np.arange(6).reshape(3, 2), np.full((1, 2), 7)
    write_codes(path, GEOMETRY, [("a.wav", 700, first), ("a.wav", 5, second)])
    return path


def header(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert list(metadata) == ["distill_codes"]
    values: dict[str, Any] = json.loads(metadata["distill_codes"])
    assert metadata["distill_codes"] == json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return values


def refused(path: Path, message: str, tensors: dict[str, Any] | None = None, **changes: Any) -> None:
    """Whether a file with other tensors or another header is refused."""
    values = {**header(path), **changes}
    save_file(load_file(path) if tensors is None else tensors, path, {"distill_codes": json.dumps(values)})
    with pytest.raises(ArtifactError, match=message) as caught:
        read_codes(path)
    assert "a.codes" in str(caught.value)


@given(
    st.lists(
        arrays.arrays(np.int64, st.tuples(st.integers(1, 30), st.just(2)), elements=st.integers(0, 7)),
        min_size=1,
        max_size=12,
    )
)
def test_codes_come_back_in_order(tmp_path_factory: pytest.TempPathFactory, codes: list[Any]) -> None:
    path = tmp_path_factory.mktemp("codes") / "a.codes"
    write_codes(path, GEOMETRY, [(f"{n}.wav", n + 1, one) for n, one in enumerate(codes)])
    read, again = read_codes(path)
    assert [(entry.name, entry.samples) for entry in read.recordings] == [
        (f"{n}.wav", n + 1) for n in range(len(codes))
    ]
    assert all(np.array_equal(a, b) and a.dtype == np.int64 for a, b in zip(again, codes, strict=True))


def test_the_file_is_uint16_with_one_canonical_header_key(tmp_path: Path) -> None:
    path = written(tmp_path / "a.codes")
    values = header(path)
    assert values["format"] == "distill_codes"
    assert values["version"] == [1, 0]
    assert {key: values[key] for key in GEOMETRY.model_dump()} == GEOMETRY.model_dump()
    assert [(entry["name"], entry["samples"]) for entry in values["recordings"]] == [("a.wav", 700), ("a.wav", 5)]
    tensors = load_file(path)
    assert [tensors[entry["key"]].shape for entry in values["recordings"]] == [(3, 2), (1, 2)]
    assert {value.dtype for value in tensors.values()} == {np.dtype(np.uint16)}
    assert path.read_bytes() == written(tmp_path / "b.codes").read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "found another kind of safetensors file; check the path"),
        ({"version": [2, 0]}, r"expected codes of format version 1\.0, found \[2, 0\]; encode the recordings again"),
        ({"version": "1.0"}, r"expected codes of format version 1\.0, found '1\.0'"),
        ({"version": [1, 1]}, r"expected codes of format version 1\.0, found \[1, 1\]"),
        ({"recordings": []}, "expected a valid header, found recordings: .* at least 1 item"),
        ({"surprise": 1}, "expected a valid header, found surprise"),
        ({"codebook_size": "8"}, "expected a valid header, found codebook_size"),
        ({"num_quantizers": 3}, r"expected uint16 codes \[frames, 3\] of a\.wav, found U16 \[3, 2\]"),
        ({"codebook_size": 5}, r"expected codes below 5 in a\.wav, found 5; encode"),
        ({"frame_rate": 0.0}, "expected a valid header, found frame_rate"),
        ({"codec_sha256": "short"}, "expected a valid header, found codec_sha256"),
    ],
)
def test_a_wrong_header_is_one_sentence(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    refused(written(tmp_path / "a.codes"), message, **changes)


@pytest.mark.parametrize("name", ["", "../a.wav", "a/b.wav", "a\\b.wav", "a\nb.wav", "x" * 256])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "a.codes")
    first, *rest = header(path)["recordings"]
    recordings = [{**first, "name": name}, *rest]
    refused(path, r"expected a valid header, found recordings\.0\.name", recordings=recordings)


@pytest.mark.parametrize(
    "tensors",
    [
        {"00000000": np.zeros((3, 2), np.uint16)},
        {"00000000": np.zeros((3, 2), np.uint16), "more": np.zeros(1)},
        {f"{n:08d}": np.zeros((3, 2), np.uint16) for n in range(3)},
    ],
)
def test_tensors_and_names_have_to_agree(tmp_path: Path, tensors: dict[str, Any]) -> None:
    refused(written(tmp_path / "a.codes"), "expected one tensor for each recording it names, found others", tensors)


@pytest.mark.parametrize(
    "tensor",
    [np.zeros((3, 2), np.int64), np.zeros((3, 2), np.float32), np.zeros(6, np.uint16), np.zeros((0, 2), np.uint16)],
)
def test_tensors_have_to_be_codes(tmp_path: Path, tensor: Any) -> None:
    tensors = {"00000000": tensor, "00000001": np.zeros((1, 2), np.uint16)}
    refused(written(tmp_path / "a.codes"), r"expected uint16 codes \[frames, 2\] of a\.wav, found", tensors)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found an empty file"),
        (b"PK\x03\x04" + bytes(60), "found a zip archive, such as PyTorch's torch.save writes"),
        (b"\x80\x02}q\x00." * 9, "found a pickle, which can run code and is never opened"),
        (b"hello, this is text", "found text; check the path"),
        (b"\xff" * 99, "found another format"),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.codes"
    path.write_bytes(content)
    with pytest.raises(
        ArtifactError, match=rf"a\.codes: expected a file of codes that `distill encode` wrote, {message}"
    ):
        read_codes(path)


def test_a_cut_file_and_a_missing_one_are_sentences(tmp_path: Path) -> None:
    path = written(tmp_path / "a.codes")
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ArtifactError, match="found a damaged file"):
        read_codes(path)
    with pytest.raises(ArtifactError, match="found no such file"):
        read_codes(tmp_path / "none.codes")
    save_file({"a": np.zeros(3)}, path, None)
    with pytest.raises(ArtifactError, match="found another kind of safetensors file"):
        read_codes(path)
