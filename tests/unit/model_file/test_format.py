"""The model file: round trip, determinism, and a sentence for every way it can be wrong."""

import io
import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from faults.hostile import joined, parts
from safetensors.torch import load_file, save_file
from unit.tiny import MEMORY, networks, write_model, write_prior_model

from distill.errors import ArtifactError
from distill.generate.sampling import Sampling, sample_codes
from distill.model_file.card import card_text, facts, write_card
from distill.model_file.format import load_bundle, save_bundle
from distill.model_file.verify import verify
from distill.novelty.memorization import Memorization
from distill.prior.memory.network import MemoryPrior


def rewritten(path: Path, **changes: Any) -> Path:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()["distill"])
    save_file(load_file(path), path, {"distill": json.dumps({**values, **changes})})
    return path


def test_a_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    path = tmp_path / "a.distill"
    metadata = write_prior_model(path)
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
    write_prior_model(tmp_path / "a.distill")
    write_prior_model(tmp_path / "b.distill")
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
        ({"required_features": ["telepathy"]}, r"expected features that .* has, found \['telepathy'\]; upgrade"),
        ({"payload_sha256": "00" * 32}, "expected weights with SHA-256 0{12}…, found .*changed after it was written"),
        ({"codec_sha256": "00" * 32}, "expected a codec with SHA-256 0{12}…, found .*changed after it was written"),
        ({"payload_sha256": "00"}, "expected valid metadata, found payload_sha256"),
        ({"codebook_size": "many"}, "expected valid metadata, found codebook_size"),
        ({"num_quantizers": 3}, "expected codec, prior and file to name the same codebook_size and num_quantizers"),
        ({"has_prior": False}, "expected prior_config and prior_metadata exactly where has_prior is true"),
        ({"seq_len": 21}, "expected seq_len to be that of prior_config"),
        ({"surprise": 1}, "expected valid metadata, found surprise"),
    ],
)
def test_wrong_metadata_is_one_sentence(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_prior_model(tmp_path / "a.distill")
    with pytest.raises(ArtifactError, match=message) as caught:
        load_bundle(rewritten(tmp_path / "a.distill", **changes))
    assert "a.distill" in str(caught.value)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    write_prior_model(tmp_path / "a.distill")
    header, payload = parts((tmp_path / "a.distill").read_bytes())
    values = json.loads(header["__metadata__"]["distill"])
    del values["seq_len"], values["provenance"]
    (tmp_path / "a.distill").write_bytes(joined({**header, "__metadata__": {"distill": json.dumps(values)}}, payload))
    with pytest.raises(
        ArtifactError, match="expected complete metadata, found none of provenance, seq_len; download the"
    ):
        load_bundle(tmp_path / "a.distill")


def test_a_newer_minor_version_may_say_more(tmp_path: Path) -> None:
    path = tmp_path / "a.distill"
    shape = {**write_prior_model(path).vqvae_config.model_dump(), "flavour": "salt"}
    loaded = load_bundle(rewritten(path, version=[2, 7], surprise=1, vqvae_config=shape))
    assert loaded.metadata.version == [2, 7]
    with pytest.raises(ArtifactError, match=r"expected features that .* has, found \['telepathy'\]; upgrade"):
        load_bundle(rewritten(path, required_features=["telepathy"]))
    rewritten(path, required_features=[], prior_config={"architecture": "mamba"})
    with pytest.raises(ArtifactError, match=r"prior_config.* upgrade Distill"):
        load_bundle(path)


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.distill"
    write_prior_model(path)
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


def test_metadata_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    metadata = write_prior_model(tmp_path / "a.distill")
    longer = metadata.model_copy(update={"loss_curve_history": {"a": [0.123456789] * 30_000}})
    with pytest.raises(ArtifactError, match="expected at most 262144 bytes of metadata, found"):
        save_bundle(tmp_path / "b.distill", *networks(), longer)
    assert [path.name for path in tmp_path.iterdir()] == ["a.distill"]


def test_shapes_that_do_not_fit_the_weights_are_refused(tmp_path: Path) -> None:
    metadata = write_prior_model(tmp_path / "a.distill")
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
        ({"hidden_size": 4096}, "expected the weights of the networks it describes, found too small a file"),
        ({"codeword_size": -1}, "greater than or equal to 0"),
        ({"depth_layers": 65}, "less than or equal to 64"),
        ({"architecture": "flat"}, "depth_layers: Extra inputs are not permitted"),
        ({"architecture": "os.system"}, "does not match any of the expected tags: 'frame', 'memory', 'flat'"),
    ],
)
def test_a_prior_that_cannot_be_is_refused_before_it_is_built(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    metadata = write_prior_model(tmp_path / "a.distill")
    assert metadata.prior_config is not None
    shape = {**metadata.prior_config.model_dump(), **changes}
    with pytest.raises(ArtifactError, match=message):
        load_bundle(rewritten(tmp_path / "a.distill", prior_config=shape, seq_len=shape["context_frames"] * 2))


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
        (b"short", "found text; check the path"),
        ("Grüße\n".encode() * 100, "found text; check the path"),
        (
            zip_archive(),
            r"found a zip archive, such as PyTorch's torch\.save writes: .* never opened; make the file again",
        ),
        (b"\x80\x04pickle" * 40, "found a pickle, which can run code and is never opened; make the file again"),
        (b"RIFF\x24\x00\x00\x00WAVE" * 10, "found another format; check the path"),
        (b"\xff" * 64, "found another format; check the path"),
        ((20).to_bytes(8, "little") + b"{" * 100, "found a damaged file .* download it again"),
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
    write_prior_model(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="expected a Distill model"):
        load_bundle(path)


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="expected a Distill model, found no such file"):
        load_bundle(tmp_path / "none.distill")


def test_inspecting_shows_a_files_words_as_words(tmp_path: Path) -> None:
    from rich.console import Console

    from distill.model_file.inspect import describe

    path = tmp_path / "a.distill"
    metadata = write_prior_model(path).model_copy(update={"metadata": {"note": "[/red]\x1b[31m"}})
    console = Console(width=200)
    with console.capture() as capture:
        console.print(describe(path, metadata))
    assert "[/red]" in capture.get()
    assert "\x1b" not in capture.get()


def test_the_card_tells_what_the_file_is_and_takes_words_as_words(tmp_path: Path) -> None:
    path = tmp_path / "a|b.distill"
    metadata = write_prior_model(path)
    write_card(path, metadata.model_copy(update={"metadata": {"note": "<script>|x\x1b[31m"}}))
    card = (tmp_path / "a|b.distill.md").read_text()
    assert metadata.payload_sha256 in card
    assert "frame, 1 layers of 16" in card
    assert "distill generate" in card
    assert "It holds no codes of its training recordings" in card
    assert "<script>" not in card
    assert "\x1b" not in card
    assert {line.count("|") - line.count("\\|") for line in card.splitlines() if line.startswith("|")} <= {3, 4}
    recorded = metadata.model_copy(update={"metadata": {"reference_recordings": 5}})
    assert "the codes of its 5 training recordings" in card_text("m.distill", recorded)
    assert card_text("m.distill", metadata) == card_text("m.distill", load_bundle(path).metadata)


def test_the_facts_name_the_labels(tmp_path: Path) -> None:
    def labels_of(labels: list[str]) -> str | None:
        return dict(facts(write_prior_model(tmp_path / f"{len(labels)}.distill", labels=labels))).get("labels")

    assert labels_of([]) is None
    assert labels_of(["drums/kick", "snare"]) == "drums/kick, snare"
    many = labels_of([f"{number:02d}" for number in range(23)])
    assert many is not None
    assert many.startswith("00, 01, ")
    assert many.endswith("18, 19 and 3 more")


def test_a_good_file_is_verified_part_by_part(tmp_path: Path) -> None:
    metadata = write_prior_model(tmp_path / "a.distill")
    found = dict(verify(tmp_path / "a.distill"))
    assert list(found) == ["form", "metadata", "weights", "hash", "reference", "codec", "prior"]
    assert metadata.payload_sha256 in found["hash"]
    write_model(tmp_path / "codec.distill")
    assert "prior" not in dict(verify(tmp_path / "codec.distill"))


def test_weights_that_are_numbers_and_no_model_are_found_by_use(tmp_path: Path) -> None:
    path = tmp_path / "a.distill"
    metadata = write_prior_model(path)
    codec, prior = networks()
    codec.head.bias.data.fill_(3e38)
    codec.head.weight.data.fill_(3e38)
    save_bundle(
        path,
        codec,
        None,
        metadata.model_copy(update=dict.fromkeys(("prior_config", "prior_metadata", "seq_len")) | {"has_prior": False}),
    )
    with pytest.raises(ArtifactError, match="expected finite samples of the codec, found NaN or infinite values"):
        verify(path)
    for value in prior.parameters():
        value.data.fill_(3e38)
    save_bundle(path, networks()[0], prior, metadata)
    with pytest.raises(ArtifactError, match="expected finite logits of the prior, found NaN or infinite values"):
        verify(path)


def test_a_memory_is_kept_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "m.distill"
    written = write_prior_model(path, of=MEMORY)
    bundle = load_bundle(path)
    assert bundle.metadata.prior_config == written.prior_config == MEMORY
    assert isinstance(bundle.prior, MemoryPrior)
    assert bundle.prior.memories.size.shard_length == 16
    drawn = sample_codes(bundle.prior, 2, 40, 0, Sampling(), natural_ending=False)
    again = sample_codes(load_bundle(path).prior, 2, 40, 0, Sampling(), natural_ending=False)  # type: ignore[arg-type]
    assert [codes.tolist() for codes in drawn] == [codes.tolist() for codes in again]
    assert dict(facts(bundle.metadata))["prior"].endswith("s and a memory of what came before")


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        ({"shard_length": 0}, "shard_length: Input should be greater than or equal to 8"),
        ({"key_size": 1 << 20}, "key_size: Input should be less than or equal to 256"),
        ({"span_frames": 1 << 40}, "span_frames: Input should be less than or equal to"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
    ],
)
def test_a_memory_that_cannot_be_is_refused(tmp_path: Path, memory: dict[str, int], message: str) -> None:
    path = tmp_path / "m.distill"
    write_prior_model(path, of=MEMORY)
    header, payload = parts(path.read_bytes())
    metadata = json.loads(header["__metadata__"]["distill"])
    metadata["prior_config"] |= memory
    header["__metadata__"]["distill"] = json.dumps(metadata)
    path.write_bytes(joined(header, payload))
    with pytest.raises(ArtifactError, match=re.escape(message)):
        load_bundle(path)


MEMORIZED = Memorization(was_memorizing=True, val_perplexity=1.5, threshold=2, codebook_size=8, recordings=5)


def test_a_file_says_that_its_prior_memorised(tmp_path: Path) -> None:
    path = tmp_path / "a.distill"
    metadata = write_prior_model(path)
    assert metadata.prior_metadata is not None
    assert "warning" not in dict(facts(metadata))
    trained = {**metadata.prior_metadata.model_dump(), "memorization": MEMORIZED.model_dump()}
    found = load_bundle(rewritten(path, prior_metadata=trained)).metadata
    assert dict(facts(found))["warning"] == MEMORIZED.message
    assert ".distill/stop" in card_text("a.distill", found)


def test_a_file_of_format_2_0_is_read_and_written_again_as_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "a.distill"
    metadata = write_prior_model(path)
    assert metadata.prior_metadata is not None
    trained = metadata.prior_metadata.model_dump(exclude={"memorization"})
    bundle = load_bundle(rewritten(path, version=[2, 0], prior_metadata=trained))
    assert bundle.metadata.version == [2, 0]
    assert bundle.metadata.prior_metadata == metadata.prior_metadata
    written = save_bundle(path, bundle.codec, bundle.prior, bundle.metadata)
    assert written.version == load_bundle(path).metadata.version == [2, 5]


@pytest.mark.parametrize(
    "wrong",
    [{"was_memorizing": "yes"}, {"val_perplexity": -1.0}, {"threshold": None}, {"alike": 1.5}, {"recordings": 2**40}],
)
def test_figures_of_memorisation_that_cannot_be_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    path = tmp_path / "a.distill"
    metadata = write_prior_model(path)
    assert metadata.prior_metadata is not None
    trained = {**metadata.prior_metadata.model_dump(), "memorization": {**MEMORIZED.model_dump(), **wrong}}
    with pytest.raises(
        ArtifactError, match=rf"expected valid metadata, found prior_metadata\.memorization\.{next(iter(wrong))}"
    ):
        load_bundle(rewritten(path, prior_metadata=trained))
