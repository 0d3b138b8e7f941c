"""Interface of priors over codes: whole windows in training, step by step from a state in sampling."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from distill.codec.layout import ATOM, NOTE
from distill.codes.sequences import (
    NUM_SPECIAL_TOKENS,
    Batch,
    bos_token,
    possible_tokens,
    window_start,
)
from distill.codes.store import CodeLevels, CodesConfig
from distill.params import Heads, PriorConfig, PriorLayers, PriorWidth
from distill.prior.architectures import ArchitectureName
from distill.prior.courses import MOST_COURSES, Courses
from distill.prior.transformer import INIT_STD

MOST_LABELS = 1000
LONGEST_LABEL = 1000  # characters
LONGER = 1.5  # sounds that follow a contour are cut at this multiple of the longest recording
Label = Annotated[str, Field(min_length=1, max_length=LONGEST_LABEL)]


class PriorShape(CodeLevels):
    """`prior_config` of a model file: the settings that fix the shape of the prior's tensors.

    Each architecture has its own subclass. `labels` are the names that generation accepts; `courses` are the lengths,
    in frames, of the recordings with a loudness contour.
    """

    architecture: ArchitectureName
    context_frames: Annotated[int, Field(ge=1, le=1 << 20)]
    hidden_size: PriorWidth
    num_layers: PriorLayers
    num_heads: Heads
    labels: Annotated[list[Label], Field(max_length=MOST_LABELS)]
    courses: Annotated[
        list[Annotated[int, Field(ge=1, le=1 << 20)]],
        Field(max_length=MOST_COURSES, exclude_if=lambda frames: not frames),
    ] = []

    head_divisor: ClassVar[int] = 2  # of the head size: rotary positions rotate pairs of features

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        head = self.hidden_size // self.num_heads
        if self.hidden_size % self.num_heads or head % self.head_divisor:
            raise ValueError("expected num_heads to divide hidden_size into heads of even size")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("expected every label once")
        return self

    @classmethod
    def of(
        cls,
        settings: PriorConfig,
        codes: CodesConfig,
        codeword_size: int,
        labels: Sequence[str] = (),
    ) -> Self:
        """Make the shape from settings, for codes whose codewords have `codeword_size` values. Raises ParamsError."""
        context_frames = max(1, round(settings.context_seconds * codes.frame_rate))
        sizes = {
            "codeword_size": codeword_size,
            "context_frames": context_frames,
            "labels": list(labels),
        }
        values = {**settings.model_dump(), **codes.model_dump(), **sizes}
        if settings.memory is not None:
            span_frames = max(
                context_frames, round(settings.memory.span_seconds * codes.frame_rate)
            )
            values |= {**settings.memory.model_dump(), "span_frames": span_frames}
        return cls(**{name: values[name] for name in cls.model_fields if name in values})


class CountedTones(NamedTuple):
    """Counted tones as logits: notes `[L + 1, NOTES]` by label (0: any), and partial-set codes `[NOTES, V]` by note."""

    notes: Tensor
    atoms: Tensor


class Prior(nn.Module):
    """A distribution over sequences of frames of codes, conditional on a label if there are labels.

    `forward` runs whole windows. Sampling goes step by step: `start` makes a state, `advance` reads frames, and
    `next_logits` predicts the levels of the next frame one by one. Both run the same modules. Attention spans
    `context_frames`; training and validation sequences have at most `span_frames`.
    """

    def __init__(self, shape: PriorShape, label_std: float = INIT_STD) -> None:
        super().__init__()
        self.shape = shape
        self.codebook_size, self.num_quantizers = shape.codebook_size, shape.num_quantizers
        self.context_frames = self.span_frames = shape.context_frames
        impossible = torch.zeros(shape.num_quantizers, shape.codebook_size + NUM_SPECIAL_TOKENS)
        impossible[~torch.from_numpy(possible_tokens(shape.codebook_sizes))] = -torch.inf
        self.impossible = nn.Buffer(
            impossible, persistent=False
        )  # [Q, V + 2], logit mask: 0 or -inf
        self.smoothing = nn.Buffer(
            torch.zeros(shape.num_quantizers)
        )  # [Q], label smoothing of each level in training
        self.longest = nn.Buffer(
            torch.zeros(1)
        )  # frames of the longest training recording, 0 if unknown
        self.courses = Courses(shape.courses, shape.codebook_sizes) if shape.courses else None
        self.label: nn.Parameter | None = None  # [labels + 1, D], label embeddings; row 0: no label
        if shape.labels:
            self.label = nn.Parameter(
                torch.randn(len(shape.labels) + 1, shape.hidden_size) * label_std
            )

    @property
    def most_frames(self) -> int:
        """Maximum length of a generated sound in frames; 0 if unlimited.

        It is the length of the longest recording, or `LONGER` times that for priors with loudness contours.
        """
        longest = self.longest.item()
        known = int(longest) if 1 <= longest < math.inf else 0  # a file may hold any number
        return round(known * LONGER) if self.courses else known

    def begin_courses(self, frames: Sequence[int]) -> Courses:
        """Add empty loudness contours for recordings with lengths `frames`, and return them to be fitted."""
        self.courses = Courses(frames, self.shape.codebook_sizes).to(self.smoothing.device)
        self.shape = self.shape.model_copy(update={"courses": self.courses.frames})
        return self.courses

    def counted_tones(self) -> CountedTones:
        """Counts of notes and partial-set codes, for codes with tones; uniform unless the prior has counts."""
        sizes, labels = self.shape.codebook_sizes, len(self.shape.labels)
        return CountedTones(
            torch.zeros(1 + labels, sizes[NOTE]), torch.zeros(sizes[NOTE], sizes[ATOM])
        )

    def forward(self, batch: Batch) -> Tensor:
        """Logits `[B, T, Q, V + 2]` of the targets of a batch of windows; T is at most `span_frames`.

        Impossible tokens of a level get -inf. The batch's folds select the tables of `CountExperts`, if present.
        """
        raise NotImplementedError

    def window_start(self, frames: int) -> int:
        """Start of the window for predicting the next frame, after `frames` frames including BOS."""
        return window_start(frames, self.context_frames)

    def start(self, labels: Tensor, position: int = 0) -> Any:
        """Make the state of sequences with labels `[B]` that begin at `position`. It has a method `keep(rows)`."""
        raise NotImplementedError

    def advance(self, frames: Tensor, state: Any, newest: int | None = None) -> None:
        """Read the next `frames` `[B, T, Q]`. Only the last `newest` of them (default: all) need predictions."""
        raise NotImplementedError

    def next_logits(self, codes: Tensor, state: Any) -> Tensor:
        """Logits `[B, V + 2]` of the next level of the next frame, given its L coarser codes `[B, L]`."""
        raise NotImplementedError

    def labelled(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """Add the embeddings of `labels` `[B]` to `x` `[B, T, D]`."""
        if self.label is None:
            return x
        rows = self.label[:1] if labels is None else nn.functional.embedding(labels, self.label)
        return x + rows[:, None].to(x.dtype)


DrawCode = Callable[[Tensor, Tensor, int], Tensor]
"""Sampling function: maps logits `[B, V + 2]`, the frame's L coarser codes `[B, L]` and its index to codes `[B]`."""


class Sampler:
    """B sequences being sampled. Beyond the prior's context, the window advances as in `Prior.window_start`."""

    def __init__(self, prior: Prior, history: Tensor, labels: Tensor) -> None:
        """Continue `history` `[B, F, Q]`, F at least 0; `labels` `[B]` count from 1, 0 means no label."""
        device = prior.smoothing.device
        self.prior, self.labels = prior, labels.to(device)
        bos = torch.full(
            (len(labels), 1, prior.num_quantizers), bos_token(prior.codebook_size), device=device
        )
        self.frames = torch.cat([bos, history.to(device)], dim=1)  # [B, S, Q], the last frames
        self.frame = self.frames.shape[1] - 1  # index of the next frame
        self.start = -1  # position of the first frame of the window; -1: no window yet
        self.state: Any = None

    @torch.inference_mode()
    def next_frame(self, draw: DrawCode) -> Tensor:
        """Sample the next frame `[B, Q]`. A row whose first code is EOS ended before this frame."""
        prior, start = self.prior, self.prior.window_start(self.frame + 1)
        if start == self.start:
            prior.advance(self.frames[:, -1:], self.state)
        else:
            self.start, self.state = start, prior.start(self.labels, start)
            prior.advance(self.frames[:, start - self.frame - 1 :], self.state, newest=1)
        codes = self.frames[:, 0, :0]
        for _ in range(prior.num_quantizers):
            drawn = draw(prior.next_logits(codes, self.state), codes, self.frame)
            codes = torch.cat([codes, drawn.to(codes.device)[:, None]], dim=1)
        self.frame += 1
        self.frames = torch.cat([self.frames[:, -prior.context_frames :], codes[:, None]], dim=1)
        return codes

    @torch.inference_mode()
    def keep(self, rows: Tensor) -> None:
        """Keep only the sequences with these indices."""
        self.frames, self.labels = self.frames[rows], self.labels[rows]
        self.state.keep(rows)
