"""The model file: round trip, determinism, and a sentence for every way it can be wrong."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from faults.hostile import joined, parts
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from unit.tiny import MEMORY, TRAINED, networks, write_model, write_prior_model

from distill.errors import ArtifactError
from distill.model_file.format import load_bundle, save_bundle, size_of
from distill.model_file.verify import verify

Json = dict[str, Any]


def rewritten(path: Path, change: Callable[[Json], object]) -> Path:
    """The file with its JSON changed."""
    with safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()["distill"])
    change(values)
    save_file(load_file(path), path, {"distill": json.dumps(values)})
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_prior_model(tmp_path / "a.distill")
    return tmp_path / "a.distill"


@pytest.mark.parametrize("shape", [None, MEMORY])
def test_a_round_trip_keeps_every_bit(path: Path, shape: Any) -> None:
    metadata = write_prior_model(path) if shape is None else write_prior_model(path, of=shape)
    bundle = load_bundle(path)
    assert bundle.metadata == metadata
    assert bundle.prior is not None
    assert not bundle.codec.training
    again = path.with_name("b.distill")
    save_bundle(again, bundle.codec, bundle.prior, bundle.metadata, bundle.reference)
    assert again.read_bytes() == path.read_bytes()


def test_equal_models_give_equal_files_with_one_metadata_key(path: Path) -> None:
    data = path.read_bytes()
    write_prior_model(path)
    assert data == path.read_bytes()
    header, _ = parts(data)
    assert list(header["__metadata__"]) == ["distill"]
    text = header["__metadata__"]["distill"]
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_sizes_stand_once_in_a_file(path: Path) -> None:
    values = load_bundle(path).metadata.file_json()
    assert (values["codebook_size"], values["num_quantizers"], values["seq_len"]) == (8, 2, 20)
    for part in ("vqvae_config", "prior_config"):
        assert not {"codebook_size", "num_quantizers", "context_frames"} & set(values[part])


WRONG: tuple[tuple[Callable[[Json], object], str], ...] = (
    (lambda v: v.update(format="other"), "found another kind of safetensors file; check the path"),
    (lambda v: v.update(version=[2, 5]), r"expected format version 2\.0, found \[2, 5\]; train again with `distill train`"),
    (lambda v: v.update(version="1.0"), r"expected format version 2\.0, found '1\.0'; train again with `distill train`"),
    (lambda v: v.update(payload_sha256="00" * 32), "expected weights with SHA-256 0{12}…, found .*changed after it was"),
    (lambda v: v.update(codec_sha256="00" * 32), "expected a codec with SHA-256 0{12}…, found .*changed after it was"),
    (lambda v: v.update(payload_sha256="00"), "expected valid metadata, found payload_sha256"),
    (lambda v: v.update(codebook_size="many"), r"expected valid metadata, found vqvae_config\.codebook_size"),
    (lambda v: v.update(surprise=1), "expected valid metadata, found surprise.* earlier version .* train again"),
    (lambda v: v.update(has_prior=False), "found that has_prior is missing, or not as this version writes it"),
    (lambda v: v.update(seq_len=21), "found that seq_len is missing, or not as this version writes it"),
    (lambda v: v.update(prior_config=None), "expected prior_metadata exactly where there is prior_config"),
    (lambda v: v.pop("seq_len"), r"found prior_config\..*context_frames: Field required; .* train again"),
    (lambda v: v.pop("provenance"), "found that provenance is missing, .*; download it again; if an earlier version"),
    (lambda v: v["prior_metadata"].pop("memorization"), r"found prior_metadata\.memorization: Field required"),
    (lambda v: v["provenance"].pop("data_sha256"), r"found that provenance\.data_sha256 is missing"),
    (lambda v: v["prior_config"].update(codebook_size=8), "found that prior_config.codebook_size is missing, or not as"),
    (lambda v: v["vqvae_config"].update(latent_size=1000), "expected latent_size to be no larger than the features"),
    (lambda v: v["vqvae_config"].update(hidden_size=32), "expected the tensors that its metadata describes, found others"),
    (lambda v: v["prior_config"].update(num_heads=0), "greater than or equal to 1"),
    (lambda v: v["prior_config"].update(num_heads=3), "expected num_heads to divide hidden_size"),
    (lambda v: v.update(seq_len=10**13), "less than or equal to"),
    (lambda v: v["prior_config"].update(hidden_size=4096), "expected the weights of the networks it describes, found too"),
    (lambda v: v["prior_config"].update(architecture="flat"), r"prior_config\.flat\.\w+: Extra inputs are not permitted"),
    (lambda v: v["prior_config"].update(architecture="os.system"), "does not match any of the expected tags: 'frame'"),
    (lambda v: v["prior_metadata"]["memorization"].update(threshold=None), r"prior_metadata\.memorization\.threshold"),
)  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_wrong_metadata_is_one_sentence(path: Path, change: Callable[[Json], object], message: str) -> None:
    with pytest.raises(ArtifactError, match=rf"a\.distill: .*{message}"):
        load_bundle(rewritten(path, change))


def test_a_memory_that_cannot_be_is_refused(path: Path) -> None:
    for wrong in ({"shard_length": 0}, {"key_size": 1 << 20}, {"span_frames": 1 << 40}, {"more": 1}):
        write_prior_model(path, of=MEMORY)
        (key,) = wrong
        with pytest.raises(ArtifactError, match=rf"prior_config\.memory\.{key}"):
            load_bundle(rewritten(path, lambda v, wrong=wrong: v["prior_config"].update(wrong)))  # type: ignore[misc]


def test_a_tensor_of_another_shape_is_named(path: Path) -> None:
    header, payload = parts(path.read_bytes())
    name = "codec.quantizer.codebooks"
    header[name]["shape"] = [1, *header[name]["shape"]]
    path.write_bytes(joined(header, payload))
    with pytest.raises(ArtifactError, match=r"codebooks should be F32 \[2, 8, 8\] and is F32 \[1, 2, 8, 8\]; download"):
        load_bundle(path)
    header["codec.extra"] = header.pop(name)
    path.write_bytes(joined(header, payload))
    with pytest.raises(ArtifactError, match=r"codec.extra should be missing and is F32 .* and 1 more that differ"):
        load_bundle(path)


def test_weights_that_cannot_be_are_named(path: Path) -> None:
    codec, prior = networks()
    metadata = load_bundle(path).metadata
    prior.smoothing.fill_(-1)
    save_bundle(path, codec, prior, metadata)
    with pytest.raises(ArtifactError, match=r"expected label smoothing of 0 or more in prior\.smoothing, found -1"):
        load_bundle(path)
    codec.head.bias.data.fill_(float("nan"))
    save_bundle(path, codec, prior, metadata)
    with pytest.raises(
        ArtifactError, match=r"expected finite weights, found NaN or infinite values in codec\.head\.bias"
    ):
        load_bundle(path)


def test_metadata_that_could_not_be_read_again_is_not_written(path: Path) -> None:
    longer = load_bundle(path).metadata.model_copy(update={"loss_curve_history": {"a": [0.123456789] * 30_000}})
    with pytest.raises(ArtifactError, match="expected at most 262144 bytes of metadata, found"):
        save_bundle(path.with_name("b.distill"), *networks(), longer)
    assert [one.name for one in path.parent.iterdir()] == ["a.distill"]


def zip_archive() -> bytes:
    """A zip archive such as torch.save writes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"found an empty file \(0 bytes\); download it again"),
        ("Grüße\n".encode() * 100, "found text; check the path"),
        (
            zip_archive(),
            r"found a zip archive, such as PyTorch's torch\.save writes: .* never opened; make the file again",
        ),
        (b"\x80\x04pickle" * 40, "found a pickle, which can run code and is never opened; make the file again"),
        (b"RIFF\x24\x00\x00\x00WAVE" * 10, "found another format; check the path"),
        ((20).to_bytes(8, "little") + b"{" * 100, "found a damaged file .* download it again"),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.distill").write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"a\.distill: expected a Distill model, {message}"):
        load_bundle(tmp_path / "a.distill")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "found another kind of safetensors file"),
        ({"distill": "[1]"}, "found another kind of safetensors file"),
        ({"distill": "{"}, "found a damaged file"),
        ({"distill": '{"version": NaN}'}, "found a damaged file"),
        ({"distill": '{"version": 1}'}, r"expected format version 2\.0, found 1; train again"),
        ({"distill": json.dumps("x" * (1 << 20))}, "found a header of [0-9]+ bytes; at most 1048576 are read"),
    ],
)
def test_safetensors_files_of_others_are_refused(tmp_path: Path, metadata: dict[str, str] | None, message: str) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "a.distill", metadata)
    with pytest.raises(ArtifactError, match=rf"a\.distill: .*{message}"):
        load_bundle(tmp_path / "a.distill")


def test_what_is_no_whole_file_is_a_sentence(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="expected a Distill model, found a folder; name the file in it"):
        load_bundle(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactError, match="found something that is not a regular file"):
        load_bundle(tmp_path / "pipe")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="expected a Distill model, found a damaged file"):
        load_bundle(path)
    with pytest.raises(ArtifactError, match="expected a Distill model, found no such file"):
        load_bundle(tmp_path / "none.distill")
    with pytest.raises(ArtifactError, match="found that it was removed while it was read; put it back"):
        size_of(tmp_path / "none.distill")


def test_a_good_file_is_verified_part_by_part(path: Path) -> None:
    found = dict(verify(path))
    assert list(found) == ["form", "metadata", "weights", "hash", "reference", "codec", "prior"]
    assert load_bundle(path).metadata.payload_sha256 in found["hash"]
    write_model(path)
    assert load_bundle(path).prior is None
    assert "prior" not in dict(verify(path))


def test_weights_that_are_numbers_and_no_model_are_found_by_use(path: Path) -> None:
    metadata = load_bundle(path).metadata
    codec, prior = networks()
    codec.head.bias.data.fill_(3e38)
    codec.head.weight.data.fill_(3e38)
    alone = metadata.model_copy(update={"prior_config": None, "prior_metadata": None})
    save_bundle(path, codec, None, alone)
    with pytest.raises(ArtifactError, match="expected finite samples of the codec, found NaN or infinite values"):
        verify(path)
    for value in prior.parameters():
        value.data.fill_(3e38)
    save_bundle(path, networks()[0], prior, metadata.model_copy(update={"prior_metadata": TRAINED}))
    with pytest.raises(ArtifactError, match="expected finite logits of the prior, found NaN or infinite values"):
        verify(path)
