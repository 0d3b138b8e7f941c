"""`quantizer: residual`: plain residual vector quantisation, the `ResidualVQ` of vector-quantize-pytorch."""

from collections.abc import MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from vector_quantize_pytorch import ResidualVQ

from distill.codec.fitting import kmeans
from distill.codec.quantizer import Quantized
from distill.codec.search import identity_kernel
from distill.codec.spectral import mask_gaps

LIBRARY = "library."  # prefix of the library's tensors, of which files know nothing


class PlainResidualQuantizer(nn.Module):
    """Plain residual quantizer of Q codebooks of V codewords: each level codes the residual of those before.

    Codebooks move by exponential averages, in training mode only. A codeword that is nearest to fewer latents of a
    batch, on average, than `dead_code_threshold` is replaced by a latent of the batch; 0 replaces none. In files the
    codebooks and averages have the names and shapes of `ResidualQuantizer`'s, so that no file depends on the library's
    layout.
    """

    kernels: Tensor  # [2, KERNEL_FRAMES, D]: no codeword overlaps

    def __init__(
        self,
        latent_size: int,
        codebook_size: int,
        num_quantizers: int,
        ema_decay: float,
        dead_code_threshold: float = 0.0,
    ) -> None:
        super().__init__()
        self.codebook_size, self.num_quantizers = codebook_size, num_quantizers
        self.search_context = 0
        self.library = ResidualVQ(
            dim=latent_size,
            codebook_size=codebook_size,
            num_quantizers=num_quantizers,
            decay=ema_decay,
            kmeans_init=False,  # it would run on the first batch, in eval mode, too
            commitment_weight=0.0,
            threshold_ema_dead_code=dead_code_threshold,
            rotation_trick=False,
            sync_codebook=torch.distributed.is_available() and torch.distributed.is_initialized(),
        )
        self.register_buffer("kernels", identity_kernel(latent_size).repeat(2, 1, 1))
        self.register_state_dict_post_hook(_to_file)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_to_library)  # type: ignore[no-untyped-call]

    @property
    def codebooks(self) -> Tensor:
        """Codebooks `[Q, V, D]`."""
        books: Tensor = self.library.codebooks
        return books

    def forward(self, latents: Tensor) -> Quantized:
        """Quantise `[B, F, D]`. The commitment loss is the mean squared error of the whole stack, unweighted."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            _, codes, _ = self.library(latents.detach())
            quantized = self.decode(codes)
            commit_loss = (latents - quantized).square().mean()
            return Quantized(latents + (quantized - latents).detach(), codes, commit_loss)

    @torch.no_grad()
    def search(self, latents: Tensor, positions: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Codes `[B, F, Q]` of latents `[B, F, D]`, level after level; `positions` are not needed."""
        was_training = self.library.training
        self.library.eval()  # in training mode it would move the codebooks
        try:
            codes: Tensor = self.library(latents.float())[1]
        finally:
            self.library.train(was_training)
        return codes

    def decode(self, codes: Tensor, inside: Tensor | None = None) -> Tensor:
        """Latents `[B, F, D]` of codes `[B, F, Q]`; 0 where `inside` `[F]` is 0, in gaps."""
        latents: Tensor = self.library.get_output_from_indices(codes).detach()
        return mask_gaps(latents, inside)

    def fit(self, pieces: Sequence[Tensor], generator: torch.Generator) -> None:
        """Fit the codebooks to latents `[F, D]` of pieces of sound from the whole corpus."""
        self.fit_frames(torch.cat(list(pieces)), generator)

    @torch.no_grad()
    def fit_frames(self, latents: Tensor, generator: torch.Generator) -> None:
        """Fit the codebooks to latents `[n, D]` by k-means, level after level."""
        residual = latents.float()
        for layer in self.library.layers:
            book = layer._codebook
            centres, assignment = kmeans(residual, self.codebook_size, generator)
            counts = torch.bincount(assignment, minlength=self.codebook_size).clamp_min(1).float()
            book.embed.copy_(centres[None])
            book.cluster_size.copy_(counts[None])
            book.embed_avg.copy_((centres * counts[:, None])[None])
            residual = residual - centres[assignment]


_NAMES = {"codebooks": "embed", "counts": "cluster_size", "sums": "embed_avg"}


def _to_file(module: PlainResidualQuantizer, state: MutableMapping[str, Any], prefix: str, _: object) -> None:
    """Stack the library's tensors of single levels to the tensors of files."""
    levels = range(module.num_quantizers)
    for name, stored in _NAMES.items():
        parts = [state[f"{prefix}{LIBRARY}layers.{level}._codebook.{stored}"][0] for level in levels]
        state[prefix + name] = torch.stack(parts)
    for key in [key for key in state if key.startswith(prefix + LIBRARY)]:
        del state[key]


def _to_library(module: PlainResidualQuantizer, state: MutableMapping[str, Any], prefix: str, *_: object) -> None:
    """Undo `_to_file`."""
    for name, stored in _NAMES.items():
        for level, part in enumerate(state.pop(prefix + name, ())):
            state[f"{prefix}{LIBRARY}layers.{level}._codebook.{stored}"] = part[None]
    for level in range(module.num_quantizers):
        state[f"{prefix}{LIBRARY}layers.{level}._codebook.initted"] = torch.tensor(True)
