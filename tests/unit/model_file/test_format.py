"""The model file: round trip, determinism, and a sentence for every way it can be wrong."""

import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn

from distill.audio.image import BANDS, MONO
from distill.audio.noise_floor import TYPICAL
from distill.audio.side_info import SideInfo
from distill.errors import ArtifactError
from distill.model_file.build import bundle_prior
from distill.model_file.format import HASH, Provenance, load_bundle, metadata_sha256, save_bundle, size_of
from distill.prior.base import PriorShape
from distill.storage.files import canonical_json, write_json
from distill.storage.weights import AtMost, save_weights, tensors_sha256
from faults.mutants import compact, joined, parts
from unit.tiny import MEMORY, PRIOR, networks, prior_artifact, write_prior_model

Json = dict[str, Any]


def rewritten(path: Path, change: Callable[[Json], object]) -> Path:
    """The file with its JSON changed."""
    with safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()["distill"])
    change(values)
    save_file(load_file(path), path, {"distill": canonical_json({**values, HASH: metadata_sha256(values)})})
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_prior_model(tmp_path / "a.distill")
    return tmp_path / "a.distill"


@pytest.mark.parametrize("shape", [PRIOR, MEMORY], ids=["frame", "memory"])
def test_a_round_trip_keeps_every_bit(path: Path, shape: PriorShape) -> None:
    metadata = write_prior_model(path, of=shape)
    bundle = load_bundle(path)
    assert bundle.metadata == metadata
    assert bundle.prior is not None
    assert not bundle.codec.training
    again = path.with_name("b.distill")
    save_bundle(again, bundle.codec, bundle.prior, bundle.metadata, bundle.reference)
    assert again.read_bytes() == path.read_bytes()


def test_a_file_has_the_side_information_of_its_recordings(path: Path) -> None:
    header, _ = parts(mono := path.read_bytes())
    assert "reference.image" not in header
    assert header["reference.noise"]["shape"] == [5, 8]  # a row of each
    images = [MONO, *(np.full((1 + number, 2, BANDS), number, np.uint8) for number in range(4))]
    floors = [np.full((1 + number, 8), 3 * number, np.uint8) for number in range(5)]
    given = [SideInfo(image, floor) for image, floor in zip(images, floors, strict=True)]
    write_prior_model(path, side_info=given)
    header, _ = parts(path.read_bytes())
    assert header["reference.image"]["shape"] == [10, 2 * BANDS]
    assert header["reference.noise"]["shape"] == [15, 8]
    bundle = load_bundle(path)
    assert bundle.reference is not None
    for found, own in zip(bundle.reference.side_info, given, strict=True):
        np.testing.assert_array_equal(found.image, own.image)
        np.testing.assert_array_equal(found.noise, own.noise)
    save_bundle(
        path, bundle.codec, bundle.prior, bundle.metadata, replace(bundle.reference, side_info=[SideInfo()] * 5)
    )
    assert path.read_bytes() == mono


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("image", None, "found that image is missing or of another type or shape"),
        ("image", torch.zeros(1, 40), r"reference\.image should be U8 \[1, 40\] and is F32 \[1, 40\]"),
        ("image", torch.full((1, 40), 15, dtype=torch.uint8), "found that image holds numbers that are no steps"),
        ("image_lengths", torch.tensor([1, 0]), "found that image_lengths has 2 entries for 5 recordings"),
        ("noise", None, "found that noise is missing or of another type or shape"),
        ("noise", torch.full((5, 8), 16, dtype=torch.uint8), "found that noise holds numbers that are no steps"),
        ("noise_lengths", torch.tensor([1, 1, 1, 1, 2]), "found that noise_lengths do not add up to noise"),
        (
            "limits",
            None,
            r"a\.distill: expected noise floors of its recordings and measures to compare sounds with, found a model made "
            "before they were kept; train again",
        ),
        ("limits", torch.zeros(9, dtype=torch.float64), "found that there are 9 limits, not 72"),
        ("faults", torch.zeros(2, 7, dtype=torch.uint8), "found that faults has 2 rows for 3 held-out recordings"),
        ("heard", torch.zeros(0, 6, dtype=torch.float64), "found that heard has no rows"),
        ("scores", torch.full((1, 10), torch.nan), "found that scores holds NaN or infinite values"),
    ],
)
def test_a_reference_that_does_not_fit_is_one_sentence(
    path: Path, name: str, value: Tensor | None, message: str
) -> None:
    write_prior_model(path, side_info=[SideInfo(np.zeros((1, 2, BANDS), np.uint8), TYPICAL), *[SideInfo()] * 4])
    tensors = load_file(path)
    tensors |= {} if value is None else {f"reference.{name}": value}
    if value is None:
        del tensors[f"reference.{name}"]
    with safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()["distill"])
    values["payload_sha256"] = tensors_sha256(tensors)
    save_file(tensors, path, {"distill": canonical_json({**values, HASH: metadata_sha256(values)})})
    with pytest.raises(ArtifactError, match=message):
        load_bundle(path)


def test_equal_models_give_equal_files_with_one_metadata_key(path: Path) -> None:
    data = path.read_bytes()
    write_prior_model(path)
    assert data == path.read_bytes()
    header, _ = parts(data)
    assert list(header["__metadata__"]) == ["distill"]
    text = header["__metadata__"]["distill"]
    values = json.loads(text)
    assert text == json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert (values["codebook_size"], values["num_quantizers"], values["seq_len"]) == (8, 6, 60)
    for part in ("vqvae_config", "prior_config"):  # sizes stand once
        assert not {"codebook_size", "num_quantizers", "context_frames"} & set(values[part])


WRONG: tuple[tuple[Callable[[Json], object], str], ...] = (
    (lambda v: v.update(format="other"), "found another kind of safetensors file; check the path"),
    (lambda v: v.update(version=[2, 0]), r"expected format version 3\.0, found \[2, 0\]; train again with `distill train`"),
    (lambda v: v.update(payload_sha256="00" * 32), "expected weights with SHA-256 0{12}…, found .*changed after it was"),
    (lambda v: v.update(codec_sha256="00" * 32), "expected a codec with SHA-256 0{12}…, found .*changed after it was"),
    (lambda v: v.update(codebook_size="many"), r"expected valid metadata, found vqvae_config\.codebook_size"),
    (lambda v: v.update(has_prior=False), "found that has_prior is missing, or does not follow from the others"),
    (lambda v: v.update(surprise=1), "expected valid metadata, found surprise.* earlier version .* train again"),
    (lambda v: v["vqvae_config"].update(latent_size=1000), "expected latent_size to be no larger than the features"),
    (lambda v: v["vqvae_config"].update(gain_shape=False), r"vqvae_config\.gain_shape: Input should be True.* train again"),
    (lambda v: v["vqvae_config"].update(hidden_size=32), "expected the tensors that its metadata describes, found others"),
    (lambda v: v["prior_config"].update(num_heads=3), "expected num_heads to divide hidden_size"),
    (lambda v: v.update(seq_len=10**13), "less than or equal to"),
    (lambda v: v["vqvae_config"].update(hidden_size=4096), "tensors that its metadata describes, found others"),
    (lambda v: v["prior_config"].update(hidden_size=8192, num_layers=128), "tensors that its metadata describes, found others"),
    (lambda v: v["prior_config"].update(architecture="flat"), r"prior_config\.flat\.\w+: Extra inputs are not permitted"),
    (lambda v: v["prior_config"].update(architecture="os.system"), "does not match any of the expected tags: 'frame'"),
)  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_wrong_metadata_is_one_sentence(path: Path, change: Callable[[Json], object], message: str) -> None:
    with pytest.raises(ArtifactError, match=rf"a\.distill: .*{message}"):
        load_bundle(rewritten(path, change))


def test_a_key_that_is_missing_has_its_default(path: Path) -> None:
    metadata = load_bundle(rewritten(path, lambda v: v.pop("provenance"))).metadata
    assert metadata.provenance == Provenance()


def test_a_tensor_of_another_shape_is_named(path: Path) -> None:
    header, payload = parts(path.read_bytes())
    name = "codec.quantizer.codebooks"
    header[name]["shape"] = [1, *header[name]["shape"]]
    path.write_bytes(joined(header, payload))
    with pytest.raises(
        ArtifactError, match=r"codebooks should be F32 \[2, 8, 8\] and is F32 \[1, 2, 8, 8\]; copy or download"
    ):
        load_bundle(path)
    header["codec.extra"] = header.pop(name)
    path.write_bytes(joined(header, payload))
    with pytest.raises(ArtifactError, match=r"codec.extra should be missing and is F32 .*; copy or download it again"):
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


def safetensors(metadata: dict[str, str] | None) -> bytes:
    return save({"weight": torch.zeros(3)}, metadata)


def test_every_changed_byte_is_told(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Of the header each, of the tensors some: by another letter, by a space, and by an escape that means the same."""
    path = tmp_path / "a.distill"
    write_prior_model(path)
    data = path.read_bytes()
    stop = 8 + int.from_bytes(data[:8], "little")
    every = 1 if pytestconfig.getoption("exhaustive") else 37
    places = [*range(0, stop, every), *range(stop, len(data), len(data) // 40)]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 7)
        path.write_bytes(changed)
        with pytest.raises(ArtifactError):
            load_bundle(path)
    header, payload = parts(data)
    text = compact(header)
    for other in (text.replace('":', '": ', 1), text.replace("distill", "\\u0064istill", 1), text + "\t"):
        path.write_bytes(joined(other, payload))
        with pytest.raises(ArtifactError, match="a header that is not as it was written"):
            load_bundle(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"expected a Distill model, found an empty file \(0 bytes\); copy or download it again"),
        (b"PK\x03\x04" + bytes(100), "found a pickle, or a zip archive .* never opened; make the file again"),
        (b"\x80\x04pickle" * 40, "found a pickle, .* which can run code and is never opened; make the file again"),
        (b"RIFF\x24\x00\x00\x00WAVE" * 10, "found another format; check the path"),
        ((20).to_bytes(8, "little") + b"{" * 100, "found a damaged file .* download it again"),
        (safetensors(None), "found another kind of safetensors file"),
        (safetensors({"distill": "{"}), "found a damaged file"),
        (safetensors({"distill": '{"version":1}'}), r"expected format version 3\.0, found 1; train again"),
        (safetensors({"distill": json.dumps("x" * (1 << 20))}), "a header of [0-9]+ bytes; at most 1048576 are read"),
    ],
    ids=lambda value: "content" if isinstance(value, bytes) else None,
)
def test_foreign_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.distill").write_bytes(content)
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


def test_a_file_that_is_replaced_again_and_again_is_one_or_the_other(path: Path) -> None:
    contents = []
    for labels in (["a"], ["b", "c"]):
        write_prior_model(path, labels=labels)
        contents.append(path.read_bytes())
    done = threading.Event()

    def replace() -> None:
        for content in itertools.cycle(contents):
            if done.wait(0.05):
                return
            path.with_name("new").write_bytes(content)
            path.with_name("new").replace(path)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        found = {tuple(load_bundle(path).labels) for _ in range(10)}
    finally:
        done.set()
        thread.join()
    assert found <= {("a",), ("b", "c")}


def test_a_prior_of_another_codec_is_refused(path: Path, tmp_path: Path) -> None:
    artifact = prior_artifact(codec_sha256="of another one")
    write_json(tmp_path / "prior/config.json", artifact.model_dump(mode="json"))
    save_weights(tmp_path / "prior/model.safetensors", networks()[1])
    with pytest.raises(
        ArtifactError, match="prior: expected a prior of this codec, found one of another; train it again"
    ):
        bundle_prior(tmp_path / "b.distill", load_bundle(path), tmp_path / "prior")
    assert not (tmp_path / "b.distill").exists()


def test_metadata_without_its_hash_is_refused(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()["distill"])
    del values[HASH]
    save_file(load_file(path), path, {"distill": canonical_json(values)})
    with pytest.raises(ArtifactError, match="its SHA-256 is another: the file was changed"):
        load_bundle(path)


def test_a_prior_larger_than_the_file_is_refused_before_it_takes_memory(path: Path) -> None:
    change = lambda values: values["prior_config"].update(hidden_size=8192, num_layers=128)  # noqa: E731
    with pytest.raises(ArtifactError, match="found others: fewer numbers; copy or download it again"):
        load_bundle(rewritten(path, change))
    with AtMost(10):
        nn.Linear(3, 2)
        with pytest.raises(ArtifactError, match="found others: fewer numbers"):
            torch.randn(1 << 40)  # four terabytes


def test_a_model_is_opened_without_torchs_compiler(path: Path) -> None:
    """Importing it takes as long as a sound takes to generate."""
    code = f"import sys, distill; distill.load({str(path)!r}); sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
