"""The model file: round trip, determinism, and a sentence for every way it can be wrong."""

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from unit.tiny import PRIOR, write_model

from distill.bundle import BundleMetadata, PriorMetadata, codec_shape, load_bundle, save_bundle
from distill.errors import ArtifactError
from distill.models.prior import Prior
from distill.models.priors import build_prior
from distill.models.spectral import spectrogram_config_for
from distill.models.vqvae import VQVAE, VQVAEArchitecture


def networks() -> tuple[VQVAE, Prior]:
    torch.manual_seed(0)
    spectrogram = spectrogram_config_for(16_000)
    codec = VQVAE(
        VQVAEArchitecture(
            spectrogram=spectrogram, codebook_size=8, num_quantizers=2, latent_size=8, hidden_size=16, num_layers=1
        )
    )
    codec.quantizer.fit([torch.randn(50, 8)], torch.Generator().manual_seed(0))
    return codec.eval(), build_prior(PRIOR, codec.quantizer.codebooks).eval()


def write(path: Path) -> BundleMetadata:
    codec, prior = networks()
    metadata = BundleMetadata(
        has_prior=True,
        vqvae_config=codec_shape(codec),
        spectrogram_config=codec.spectrogram,
        prior_config=PRIOR,
        prior_metadata=PriorMetadata(epochs_trained=3, final_perplexity=5.0, best_perplexity=4.0),
        codebook_size=8,
        seq_len=20,
        num_quantizers=2,
    )
    return save_bundle(path, codec, prior, metadata)


def rewritten(path: Path, **changes: Any) -> Path:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()["distill"])
    save_file(load_file(path), path, {"distill": json.dumps({**values, **changes})})
    return path


def test_a_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    path = tmp_path / "a.distill"
    metadata = write(path)
    bundle = load_bundle(path)
    codec, prior = networks()
    assert bundle.metadata == metadata
    assert bundle.prior is not None
    for loaded, built in ((bundle.codec, codec), (bundle.prior, prior)):
        state = loaded.state_dict()
        assert state.keys() == built.state_dict().keys()
        assert all(torch.equal(state[key], value) for key, value in built.state_dict().items())
    assert not bundle.codec.training


def test_equal_models_give_equal_files_with_one_metadata_key(tmp_path: Path) -> None:
    write(tmp_path / "a.distill")
    write(tmp_path / "b.distill")
    data = (tmp_path / "a.distill").read_bytes()
    assert data == (tmp_path / "b.distill").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert list(header["__metadata__"]) == ["distill"]
    text = header["__metadata__"]["distill"]
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_a_codec_alone_is_a_model_without_a_prior(tmp_path: Path) -> None:
    write_model(tmp_path / "a.distill")
    assert load_bundle(tmp_path / "a.distill").prior is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": [1, 0]}, r"expected format version 2, found \[1, 0\]; older models .* train again with `distill"),
        ({"version": 1}, "expected format version 2, found 1; older models cannot be converted"),
        ({"version": "1.0"}, r"expected format version 2, found '1\.0'; older models cannot be converted"),
        ({"version": [3, 1]}, r"expected format version 2, found \[3, 1\]; upgrade Distill"),
        ({"version": None}, "expected format version 2, found None; make the model again"),
        ({"version": "2.0"}, r"expected format version 2, found '2\.0'; make the model again"),
        ({"format": "other"}, "found another kind of safetensors file; check the path"),
        ({"required_features": ["telepathy"]}, r"needs \['telepathy'\], which this version of Distill lacks; upgrade"),
        ({"payload_sha256": "00"}, "expected weights with SHA-256 00…, found .*changed after it was written"),
        ({"codebook_size": "many"}, "expected valid metadata, found codebook_size"),
        ({"num_quantizers": 3}, "expected codec, prior and file to name the same codebook_size and num_quantizers"),
        ({"has_prior": False}, "expected prior_config exactly where has_prior is true"),
        ({"seq_len": 21}, "expected seq_len to be that of prior_config"),
        ({"surprise": 1}, "expected valid metadata, found surprise"),
    ],
)
def test_wrong_metadata_is_one_sentence(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write(tmp_path / "a.distill")
    with pytest.raises(ArtifactError, match=message) as caught:
        load_bundle(rewritten(tmp_path / "a.distill", **changes))
    assert "a.distill" in str(caught.value)


def test_shapes_that_do_not_fit_the_weights_are_refused(tmp_path: Path) -> None:
    metadata = write(tmp_path / "a.distill")
    wider = {**metadata.vqvae_config.model_dump(), "hidden_size": 32}
    with pytest.raises(ArtifactError, match="expected the tensors that its metadata describes, found others"):
        load_bundle(rewritten(tmp_path / "a.distill", vqvae_config=wider))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 0}, "greater than or equal to 1"),
        ({"num_heads": 3}, "expected num_heads to divide hidden_size"),
        ({"context_frames": -2}, "greater than or equal to 1"),
        ({"context_frames": 10**13}, "less than or equal to"),
        ({"hidden_size": 4096}, "found too small a file"),
        ({"codeword_size": -1}, "greater than or equal to 0"),
        ({"depth_layers": 65}, "less than or equal to 64"),
        ({"architecture": "flat"}, "expected depth_layers 0 but for frame"),
        ({"architecture": "os.system"}, "Input should be 'frame', 'flat' or 'delay'"),
    ],
)
def test_a_prior_that_cannot_be_is_refused_before_it_is_built(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    metadata = write(tmp_path / "a.distill")
    assert metadata.prior_config is not None
    shape = {**metadata.prior_config.model_dump(), **changes}
    with pytest.raises(ArtifactError, match=message):
        load_bundle(rewritten(tmp_path / "a.distill", prior_config=shape, seq_len=shape["context_frames"] * 2))


def zip_archive() -> bytes:
    """What torch.save writes, as far as anybody looks at it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"found an empty file \(0 bytes\); get it again"),
        (b"short", "found text; check the path"),
        ("Grüße\n".encode() * 100, "found text; check the path"),
        (
            zip_archive(),
            r"found a zip archive, such as PyTorch's torch\.save writes: .* never opened; make the file again",
        ),
        (b"\x80\x04pickle" * 40, "found a pickle, which can run code and is never opened; make the file again"),
        (b"RIFF\x24\x00\x00\x00WAVE" * 10, "found another format; check the path"),
        (b"\xff" * 64, "found another format; check the path"),
        ((20).to_bytes(8, "little") + b"{" * 100, "found a damaged file .* get it again"),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.distill"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"a\.distill: expected a Distill model, {message}"):
        load_bundle(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "found another kind of safetensors file"),
        ({"format": "pt"}, "found another kind of safetensors file"),
        ({"distill": "[1]"}, "found another kind of safetensors file"),
        ({"distill": "{"}, "found a damaged file"),
        ({"distill": '{"version": NaN}'}, "found a damaged file"),
        ({"format": "distill_model", "version": "1.0"}, r"expected format version 2, found '1\.0'; older models"),
        ({"distill": '{"version": 1}'}, "expected format version 2, found 1; older models"),
        ({"distill": json.dumps("x" * (1 << 20))}, "found a header of [0-9]+ bytes; at most 1048576 are read"),
    ],
)
def test_safetensors_files_of_others_and_of_version_1_are_refused(
    tmp_path: Path, metadata: dict[str, str] | None, message: str
) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "a.distill", metadata)
    with pytest.raises(ArtifactError, match=rf"a\.distill: .*{message}"):
        load_bundle(tmp_path / "a.distill")


def test_a_folder_and_a_pipe_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="expected a Distill model, found a folder; name the file in it"):
        load_bundle(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactError, match="found something that is not a regular file"):
        load_bundle(tmp_path / "pipe")


def test_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.distill"
    write(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="expected a Distill model"):
        load_bundle(path)


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="expected a Distill model, found no such file"):
        load_bundle(tmp_path / "none.distill")


def test_inspecting_shows_a_files_words_as_words(tmp_path: Path) -> None:
    from rich.console import Console

    from distill.inspection import describe

    path = tmp_path / "a.distill"
    metadata = write(path).model_copy(update={"metadata": {"note": "[/red]\x1b[31m"}})
    console = Console(width=200)
    with console.capture() as capture:
        console.print(describe(path, metadata))
    assert "[/red]" in capture.get()
    assert "\x1b" not in capture.get()
