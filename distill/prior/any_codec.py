"""The pretrained prior as it is, for a codec whose recordings it has not heard."""

from distill.codec.coordinates import COORDINATES, codewords_of
from distill.codec.model import VQVAE
from distill.params import PRETRAINED_SIZES
from distill.prior.architectures import PriorShape, build_prior
from distill.prior.frame import FramePrior
from distill.prior.pretrained import load_pretrained_prior

CONTEXT_SECONDS = 4.0


def prior_of_codec(codec: VQVAE) -> FramePrior | None:
    """Pretrained prior for the codes of a codec, which has counted nothing; None where it cannot read the codewords."""
    codewords = codewords_of(codec)
    if not codewords.are_shared:
        return None
    shape = PriorShape(
        architecture="frame",
        codebook_size=codec.architecture.codebook_size,
        num_quantizers=codec.architecture.num_quantizers,
        context_frames=round(CONTEXT_SECONDS * codec.spectrogram.frame_rate),
        codeword_size=COORDINATES,
        count_experts=True,
        **PRETRAINED_SIZES._asdict(),
    )
    prior = build_prior(shape, codewords.vectors)
    assert isinstance(prior, FramePrior)
    load_pretrained_prior(prior, [], None)
    prior.copy_no_loudness()
    return prior.eval()
