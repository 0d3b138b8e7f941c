"""The codec: model, quantizers, search, fitting, losses, data, training, artefact and pretrained weights."""

from typing import TYPE_CHECKING

from distill.exports import lazy_exports

if TYPE_CHECKING:
    from distill.codec.model import VQVAE as VQVAE
    from distill.codec.model import VQVAEArchitecture as VQVAEArchitecture
    from distill.codec.quantizer import ResidualQuantizer as ResidualQuantizer

_HOMES = {
    "ResidualQuantizer": "distill.codec.quantizer",
    "VQVAE": "distill.codec.model",
    "VQVAEArchitecture": "distill.codec.model",
}

__all__ = ["VQVAE", "ResidualQuantizer", "VQVAEArchitecture"]

__getattr__ = lazy_exports(__name__, _HOMES)
