"""Construction of a codec that is not yet fitted to a corpus."""

import torch

from distill.codec.constants import DEAD_CODE_SHARE
from distill.codec.initialise import load_pretrained
from distill.codec.model import VQVAE, VQVAEArchitecture
from distill.codec.spectral import spectrogram_config_for
from distill.errors import ParamsError
from distill.params import VQVAEConfig
from distill.seeds import Stream, derive_seed


def build_vqvae(sample_rate: int, config: VQVAEConfig, seed: int, warm: bool = True) -> VQVAE:
    """Build a codec that is not yet fitted to a corpus.

    Weights are drawn from `seed`; with `warm` the decoder gets pretrained weights where they fit. Raises ParamsError.
    """
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
        quantizer=config.quantizer,
        stochastic=True,
        gain_shape=config.quantizer == "overlapping" and config.num_quantizers > 1,
    )
    frames = config.batch_size * config.crop_seconds * spectrogram.frame_rate
    threshold = DEAD_CODE_SHARE * frames / config.codebook_size if config.encoder_rate else 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, Stream.CODEC_WEIGHTS))
        model = VQVAE(architecture, config.dropout, config.ema_decay if config.encoder_rate else 1.0, threshold)
    if warm:
        load_pretrained(model)
    return model
