"""Priors: shapes, causality by perturbation, cache against no cache, codeword geometry."""

from typing import Any

import pytest
import torch
from torch import Tensor

from distill.codes.sequences import IGNORED, Batch, bos_token, eos_token
from distill.prior.architectures import ARCHITECTURES, ArchitectureName
from distill.prior.artifact import build_prior
from distill.prior.base import Prior, Sampler
from distill.prior.flat import CodePrior
from distill.prior.frame import CodewordEmbedding, FramePrior
from unit.tiny import prior_shape

SIZES = (7, 11, 9, 6, 8)
LEVELS, SIZE, CONTEXT = len(SIZES), max(SIZES), 8
COUNTED = 0.5  # standard deviation of the tables of counts


def code_prior(**changes: int) -> CodePrior:
    torch.manual_seed(0)
    sizes = {"codebook_size": 16, "seq_len": 24, "num_quantizers": 3, "hidden_size": 32, "num_layers": 3}
    return CodePrior(**{**sizes, **changes}).eval()


def prior(architecture: ArchitectureName) -> Prior:
    sizes = {"codebook_sizes": SIZES, "context_frames": CONTEXT, "hidden_size": 32}
    more = {} if architecture == "flat" else {"depth_layers": 2, "codeword_size": 5, "count_experts": True}
    memory = {"key_size": 6, "span_frames": 64} if architecture == "memory" else {}
    shape = prior_shape(architecture, **{**sizes, "num_layers": 2, "num_heads": 4, **more, **memory})
    torch.manual_seed(0)
    codewords = torch.randn(LEVELS, shape.codebook_size, getattr(shape, "codeword_size", 5))
    model = build_prior(shape, codewords).eval()
    if isinstance(model, FramePrior) and model.count_experts is not None:
        for table in model.count_experts.buffers():
            table.copy_(torch.randn(table.shape) * COUNTED)
    with torch.no_grad():  # untrained, differences would drown in rounding
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    return model


def window(count: int = 2, first: int = 0) -> Batch:
    draws = torch.rand(count, CONTEXT + 1, LEVELS, generator=torch.Generator().manual_seed(1))
    codes = (draws * torch.tensor(SIZES)).long()
    if first == 0:
        codes[:, 0] = bos_token(SIZE)
    return Batch(codes[:, :-1], codes[:, 1:].clone(), torch.full((count,), first))


def test_logits_have_a_row_a_token_and_a_column_a_code() -> None:
    assert code_prior()(torch.zeros(2, 9, dtype=torch.int64)).shape == (2, 9, 16)
    assert code_prior(num_special_tokens=2)(torch.full((1, 1), 17)).shape == (1, 1, 18)
    with pytest.raises(ValueError, match="expected at most 24 tokens, found 25"):
        code_prior()(torch.zeros(1, 25, dtype=torch.int64))
    with pytest.raises(ValueError, match="expected num_heads to divide the width 30, found 4"):
        code_prior(hidden_size=30)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_codes_depend_on_earlier_ones_only_by_perturbation(architecture: ArchitectureName) -> None:
    model = prior(architecture)
    batch = window()
    inputs, targets = batch[:2]
    before = model(batch)
    assert before.shape == (2, CONTEXT, LEVELS, SIZE + 2)
    for frame, level in ((0, 0), (2, 1), (5, 2), (CONTEXT - 1, 0)):
        changed = targets.clone()
        changed[:, frame, level] = (changed[:, frame, level] + 5) % SIZES[level]
        following = torch.cat([inputs[:, :1], changed[:, :-1]], dim=1)
        moved = (
            (model(batch._replace(inputs=following, targets=changed)) - before)
            .abs()[..., : min(SIZES)]
            .amax(dim=(0, 3))
        )
        may = [[(frame, level) < (f, q) for q in range(LEVELS)] for f in range(CONTEXT)]
        assert (moved > 1e-6).tolist() == may, (frame, level)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("first", [0, 5])
def test_ignored_targets_have_no_influence(architecture: ArchitectureName, first: int) -> None:
    model = prior(architecture)
    batch = window(first=first)
    before = model(batch)
    batch.inputs[:, 6:], batch.targets[:, 6:] = 0, IGNORED
    after = model(batch)
    torch.testing.assert_close(after[:, :6], before[:, :6], rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_samplers_see_the_logits_of_the_forward_pass(architecture: ArchitectureName) -> None:
    model = prior(architecture)
    batch = window()
    expected = model(batch)
    sampler = Sampler(model, torch.zeros(2, 0, LEVELS, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    seen = torch.zeros(2, CONTEXT, LEVELS, SIZE + 2)

    def follow(logits: Tensor, coarser: Tensor, frame: int) -> Tensor:
        level = coarser.shape[1]
        assert torch.equal(coarser, batch.targets[:, frame, :level])
        seen[:, frame, level] = logits
        return batch.targets[:, frame, level]

    frames = [sampler.next_frame(follow) for _ in range(CONTEXT)]
    assert torch.equal(torch.stack(frames, dim=1), batch.targets)
    torch.testing.assert_close(seen, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_only_codes_of_a_level_are_predicted_and_eos_at_the_first(architecture: ArchitectureName) -> None:
    logits = prior(architecture)(window())
    for level, size in enumerate(SIZES):
        possible = [*range(size), *([eos_token(SIZE)] if level == 0 else [])]
        assert (logits[:, :, level].isfinite().all(dim=(0, 1)).nonzero()[:, 0]).tolist() == possible
        assert (logits[:, :, level] == -torch.inf).all(dim=(0, 1)).sum() == SIZE + 2 - len(possible)


def test_equal_codewords_give_equal_logits() -> None:
    """With equal codewords and no free vectors two codes are one."""
    books = torch.randn(LEVELS, SIZE, 5, generator=torch.Generator().manual_seed(3))
    books[:, 7] = books[:, 4]
    model = build_prior(prior_shape(codebook_sizes=(SIZE,) * LEVELS, codeword_size=5), books).eval()
    for module in model.modules():
        if isinstance(module, CodewordEmbedding):
            torch.nn.init.zeros_(module.free)
    # Without the pointer mixture, which compares codes and not codewords.
    model.pointer_mixture.threshold.data.fill_(50.0)  # type: ignore[union-attr]
    batch = window()
    logits = model(batch)
    torch.testing.assert_close(logits[..., 7], logits[..., 4])
    swap = {4: 7, 7: 4}
    for tensor in batch[:2]:
        tensor.apply_(lambda code: swap.get(code, code))
    torch.testing.assert_close(model(batch), logits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 30}, "expected num_heads to divide hidden_size"),
        ({"hidden_size": 36, "num_heads": 12}, "into heads of even size"),
        ({"labels": ["a", "a"]}, "expected every label once"),
        ({"architecture": "flat", "depth_layers": 1}, "depth_layers\n  Extra inputs"),
    ],
)
def test_invalid_shapes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prior_shape(**changes)


def test_gradients_of_a_long_batch_are_the_same_bytes_each_time() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    model = code_prior(seq_len=2048, num_layers=1)
    tokens = torch.randint(0, 16, (4, 2048), generator=torch.Generator().manual_seed(1))
    seen = set()
    for _ in range(4):
        model.zero_grad()
        model(tokens).square().sum().backward()
        gradient = model.level_embedding.weight.grad
        assert gradient is not None
        seen.add(gradient.numpy().tobytes())
    torch.set_num_threads(threads)
    assert len(seen) == 1
