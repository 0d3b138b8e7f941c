"""A codec as it is before it is fitted to a corpus."""

import torch

from distill.codec.initialise import load_pretrained
from distill.codec.model import VQVAE, VQVAEArchitecture
from distill.codec.spectral import spectrogram_config_for
from distill.errors import ParamsError
from distill.params import VQVAEConfig
from distill.seeds import Stream, derive_seed


def build_vqvae(sample_rate: int, config: VQVAEConfig, seed: int, warm: bool = True) -> VQVAE:
    """A codec not yet fitted to the corpus: weights drawn from `seed`, with `warm` a practised decoder. Raises ParamsError."""
    spectrogram = spectrogram_config_for(sample_rate)
    if config.latent_size > spectrogram.features:
        raise ParamsError(
            f"vqvae.latent_size: expected at most {spectrogram.features}, the features of a frame at {sample_rate} Hz, "
            f"found {config.latent_size}"
        )
    architecture = VQVAEArchitecture(
        spectrogram=spectrogram,
        codebook_size=config.codebook_size,
        num_quantizers=config.num_quantizers,
        latent_size=config.latent_size,
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, Stream.CODEC_WEIGHTS))
        model = VQVAE(architecture, config.dropout, config.ema_decay if config.encoder_rate else 1.0)
    if warm:
        load_pretrained(model)
    return model
