"""Weights as safetensors files, and their hashes."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from distill.errors import ArtifactError
from distill.storage.files import write_bytes

M = TypeVar("M", bound=nn.Module)


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 over names, types, shapes and bytes of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{value.dtype}\0{list(value.shape)}\0".encode())
        if value.numel():
            digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def weights_sha256(module: nn.Module) -> str:
    """Hex SHA-256 of a network's weights. That of a codec identifies its codes and priors."""
    return tensors_sha256(module.state_dict())


def save_weights(path: Path, module: nn.Module) -> None:
    """Write a network's weights as safetensors, atomically."""
    write_bytes(path, save({key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}))


def load_weights(path: Path, module: M) -> M:
    """Load weights into a network and set eval mode. Raises ArtifactError when they do not match."""
    try:
        module.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ArtifactError(
            f"{path}: expected the weights that config.json describes, found {reason}; run `dvc repro` again"
        ) from error
    return module.eval()
