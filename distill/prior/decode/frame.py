"""Step-by-step sampler of `FramePrior`."""

from typing import cast

import torch
from torch import Tensor, nn

from distill.codes.sequences import bos_token, window_start
from distill.prior.base import Draw
from distill.prior.decode.count_experts import CountExpertsDecoder, NoCountExperts
from distill.prior.decode.loudness_course import LoudnessCourseDecoder
from distill.prior.decode.pointer_mixture import PointerMixtureDecoder
from distill.prior.decode.steps import Decoder, FastLayerNorm, FastLinear, FrameEmbedding, ResidualStep
from distill.prior.frame.network import FramePrior
from distill.prior.transformer import ResidualBlock, Transformer


class FrameSampler:
    """Samples frame by frame and level by level. Windows advance as in `window_start`."""

    @torch.no_grad()
    def __init__(
        self, prior: FramePrior, count: int, history: Tensor | None = None, labels: Tensor | None = None
    ) -> None:
        self.prior, self.labels = prior, labels
        self.tables, self.decoder = prior.tables(), self._decoder(count)
        self.to_depth = FastLinear(prior.to_depth.weight, prior.to_depth.bias)
        self.depth = [ResidualStep(cast(ResidualBlock, block)) for block in prior.depth]
        self.norm = FastLayerNorm(prior.norm)
        experts = prior.count_experts
        self.experts = NoCountExperts() if experts is None else CountExpertsDecoder(experts, count, labels)
        self.outputs = [self._output_layer(level) for level in range(prior.num_quantizers)]
        self.mixture = PointerMixtureDecoder(prior.pointer_mixture, prior.context_frames)
        bos, device = bos_token(prior.codebook_size), prior.bias.device
        # Frames [B, S, Q] of the window.
        self.history = torch.full((count, 1, prior.num_quantizers), bos, device=device)
        if history is not None:
            self.history = torch.cat([self.history, history.to(device)], dim=1)
        self.frame, self.start = self.history.shape[1] - 1, -1  # first position of the window; -1: not in the cache yet
        course = prior.loudness_course
        self.course = None if course is None else LoudnessCourseDecoder(course)
        self.embed = FrameEmbedding(self.tables.input, prior.position_embedding)

    @torch.no_grad()
    def next_frame(self, draw: Draw) -> Tensor:
        """See `Sampler`."""
        self._prefill()
        hidden = self._hidden_state()
        self.mixture.start_frame(self.history)
        self.experts.start_frame(self.history[:, -1])
        codes: list[Tensor] = []
        for level in range(self.prior.num_quantizers):
            if level:
                hidden = hidden + self._advance_level(level - 1, codes[-1])
            logits = self._logits(hidden, level)
            codes.append(draw(logits, level, self.frame).to(hidden.device))
        self.frame += 1
        frame = torch.stack(codes, dim=1)
        self.history = torch.cat([self.history, frame[:, None]], dim=1)
        return frame

    def keep(self, rows: Tensor) -> None:
        """See `Sampler`."""
        self.decoder.keep(rows)
        self.experts.keep(rows)
        self.history = self.history[rows]
        self.labels = None if self.labels is None else self.labels[rows]

    def _decoder(self, count: int) -> Decoder:
        return Decoder(cast(Transformer, self.prior.stack), count, self.prior.context_frames)

    def _prefill(self) -> None:
        """Fill the cache with the frames before the last one, where a new window begins."""
        start = window_start(self.frame + 1, self.prior.context_frames)
        if start != self.start:
            cache = self.decoder.cache
            self.history = self.history[:, start - max(0, self.start) :]
            self.start, cache.length = start, 0
            if self.history.shape[1] > 1:
                self.prior.hidden_states(self.tables, self.history[:, :-1], torch.tensor([start]), self.labels, cache)

    def _hidden_state(self) -> Tensor:
        """Append the last frame to the cache; its hidden state `[B, D]`. `FramePrior.hidden_states` in fewer calls."""
        x = self.prior.labelled(self.embed(self.history[:, -1], self.frame)[:, None], self.labels)[:, 0]
        return self.to_depth(self.decoder(x, self.frame))

    def _logits(self, hidden: Tensor, level: int) -> Tensor:
        """Logits `[B, V + 2]` of a level from `hidden` `[B, D]`, which includes the embeddings of coarser codes."""
        depth_hidden = hidden + self.prior.level[level]
        for block in self.depth:
            depth_hidden = block(depth_hidden)
        outputs = self.outputs[level](self.norm(depth_hidden))
        size = self.prior.bias.shape[2]
        logits = outputs[:, :size]
        logits = self.experts.add(logits, outputs[:, size + 1 :], level)
        if level == 0 and self.course is not None:
            logits = logits + self.course.added(self.history[:, :, 0], max(0, self.start))
        mixed = self.mixture.mix(logits, outputs[:, size], level, self._retrieved(level))
        return mixed + self.prior.impossible[level]

    def _retrieved(self, _: int) -> Tensor | None:
        """Retrieval weights `[B, V + 2]` of the codes of a level, if any."""
        return None

    def _advance_level(self, level: int, codes: Tensor) -> Tensor:
        """Condition finer levels on the codes `[B]` of this one; their embedding `[B, D]`."""
        self.mixture.update(level, codes)
        self.experts.update(level, codes)
        return nn.functional.embedding(codes, self.tables.coarser[level])

    def _output_layer(self, level: int) -> FastLinear:
        """Layer from `[B, D]` to a level's logits, the sentinel of the pointer mixture and the experts' weights.

        `[B, V + 2 + 1 + n]` for n experts beside the unigrams.
        """
        mixture = self.prior.pointer_mixture
        logits = self.tables.output[level], self.prior.bias[level, 0]
        sentinel = mixture.sentinel.weight, mixture.sentinel.bias + mixture.threshold[level]
        logits, gates = self.experts.output_layer(level, logits)
        weights, biases = zip(logits, sentinel, gates, strict=True)
        return FastLinear(torch.cat(weights), torch.cat(biases))
