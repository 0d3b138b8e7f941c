"""The quantizer against slow, separate versions of its parts: search, fit, moving averages."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from distill.codec import search
from distill.codec.constants import BEAM_SIZE, FIT_WEIGHT
from distill.codec.layout import LOUDNESS_RANGE, LOUDNESS_STEP
from distill.codec.quantizer import (
    LibraryQuantizer,
    OverlappingQuantizer,
    ResidualQuantizer,
    fitted_codebooks,
    fitted_kernel,
    kmeans,
)
from distill.codec.search import (
    KERNEL_FRAMES,
    REACH,
    SEARCH_CONTEXT,
    BeamSearch,
    join_sequences,
    overlap,
    overlap_weights,
    sum_codewords,
)
from distill.codec.streaming import decode, encode, encode_each
from distill.model_file.format import BundleMetadata, load_bundle, save_bundle
from unit.tiny import tiny_codec

WIDTH, SCALE = 6, 1.0  # of latents, and of the loudness in them


def steady(count: int, frames: int, seed: int) -> list[Tensor]:
    """Pieces `[frames, WIDTH]` whose latents change slowly."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(count, frames, WIDTH, generator=generator) * torch.linspace(0.6, 0.1, WIDTH)
    walks = torch.randn(count, 1, WIDTH, generator=generator) + steps.cumsum(dim=1)
    return list(walks)


@pytest.fixture(scope="module")
def quantizer() -> ResidualQuantizer:
    fitted = OverlappingQuantizer(WIDTH, 16, 4, 0.9, SCALE).eval()
    fitted.fit(steady(20, 40, 0), torch.Generator().manual_seed(0))
    return fitted


def squared_error(quantizer: ResidualQuantizer, pieces: list[Tensor]) -> float:
    latents = torch.stack(pieces)
    return float((quantizer.decode(quantizer.search(latents)) - latents).square().mean())


def test_overlapping_levels_code_steady_sound_better(quantizer: ResidualQuantizer) -> None:
    plain = OverlappingQuantizer(WIDTH, 16, 4, 0.9, SCALE).eval()
    plain.fit_frames(torch.cat(steady(20, 40, 0)), torch.Generator().manual_seed(0))
    held_out = steady(10, 40, 1)
    assert squared_error(quantizer, held_out) < 0.85 * squared_error(plain, held_out)


def test_loudness_and_the_first_shape_depend_on_one_frame_only(quantizer: ResidualQuantizer) -> None:
    latents = torch.cat(steady(1, 60, 2))
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    codes, moved = quantizer.search(latents[None])[0], quantizer.search(latents[order][None])[0]
    assert torch.equal(codes[order, :2], moved[:, :2])
    assert not torch.equal(codes[order], moved)


@settings(deadline=None, max_examples=25)
@given(start=st.integers(0, 150), length=st.integers(1, 60))
def test_frames_beyond_the_context_decide_nothing(quantizer: ResidualQuantizer, start: int, length: int) -> None:
    latents = torch.stack(steady(2, 230, 3))
    stop = min(start + length, 230)
    first, last = max(0, start - SEARCH_CONTEXT), min(230, stop + SEARCH_CONTEXT)
    piece = quantizer.search(latents[:, first:last], torch.arange(first, last))[:, start - first : stop - first]
    codes = quantizer.search(latents)
    assert torch.equal(piece, codes[:, start:stop])
    near = slice(max(0, start - REACH), stop + REACH)
    decoded = quantizer.decode(codes[:, near])[:, start - near.start :][:, : stop - start]
    torch.testing.assert_close(decoded, quantizer.decode(codes)[:, start:stop])


def test_codes_do_not_depend_on_the_batch_and_decode_to_the_quantised_latents(quantizer: ResidualQuantizer) -> None:
    latents = torch.stack(steady(3, 40, 4))
    together = quantizer(latents)
    torch.testing.assert_close(quantizer.decode(together.codes), together.latents)
    torch.testing.assert_close(together.commit_loss, (together.latents - latents).square().mean())
    for row in range(3):
        alone = quantizer(latents[row : row + 1])
        assert torch.equal(alone.codes[0], together.codes[row])
        assert torch.equal(alone.latents[0], together.latents[row])


def test_large_codebooks_are_searched_without_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their products of all pairs of codewords would take gigabytes: those of the candidates are computed."""
    generator = torch.Generator().manual_seed(0)
    codebooks, rows = torch.randn(4, 40, 5, generator=generator), torch.randn(30, 5, generator=generator)
    with_tables = BeamSearch(codebooks)
    monkeypatch.setattr(search, "MOST_BYTES", 8 * 4 * 40 * 3)  # three rows at once
    without = BeamSearch(codebooks)
    assert with_tables.products
    assert not without.products
    assert torch.equal(without(rows), with_tables(rows))


def test_a_wide_enough_beam_finds_the_best_sum_of_codewords() -> None:
    generator = torch.Generator().manual_seed(2)
    first, second = codebooks = torch.randn(2, BEAM_SIZE, 3, generator=generator)
    latents = torch.randn(50, 3, generator=generator)
    distances = (latents[:, None, None] - first[None, :, None] - second[None, None]).square().sum(dim=-1)
    best = distances.flatten(1).argmin(dim=1)
    expected = torch.stack([best // BEAM_SIZE, best % BEAM_SIZE], dim=1)
    assert torch.equal(BeamSearch(codebooks)(latents), expected)


def least_squares(codebooks: Tensor, codes: Tensor, rows: Tensor, inside: Tensor, kernel: Tensor) -> Tensor:
    """Codebooks `[Q, V, D]` as `fitted_codebooks` gives them, from a design matrix."""
    levels, size, width = codebooks.shape
    fitted = codebooks.double().flatten(0, 1)
    for component in range(width):
        design = torch.zeros(len(rows), levels * size, dtype=torch.float64)
        for word in range(levels * size):
            hits = ((codes[:, word // size] == word % size) & inside).double()[:, None]
            design[:, word] = overlap(hits, kernel[:, component, None].double())[:, 0] * inside
        target = rows[:, component].double() * inside - design @ fitted[:, component]
        gram = design.T @ design + FIT_WEIGHT * torch.eye(levels * size)
        fitted[:, component] += torch.linalg.solve(gram, design.T @ target)
    return fitted.reshape(codebooks.shape).float()


def test_codebooks_fitted_together_are_the_regularised_least_squares_solution() -> None:
    """Also where almost all is silence, thousands of equal frames, and weights are large: the ridge is lost in fp32."""
    generator = torch.Generator().manual_seed(8)
    codebooks = torch.randn(2, 3, 2, generator=generator)
    rows, turns = join_sequences(torch.randn(2, 12, 2, generator=generator))
    codes = torch.randint(3, (len(rows), 2), generator=generator)
    kernel = torch.rand(KERNEL_FRAMES, 2, generator=generator)
    given = (codebooks, codes, rows, turns >= 0, kernel + kernel.flip(0))
    torch.testing.assert_close(fitted_codebooks(*given), least_squares(*given), rtol=1e-3, atol=1e-4)
    rows, turns = join_sequences(torch.zeros(1, 4000, 1))
    codes = torch.zeros(len(rows), 2, dtype=torch.int64)
    rows[1000], codes[1000] = 1.0, 1
    codebooks = torch.tensor([[[0.0], [1e-3]], [[0.0], [1e-3]]])
    given = (codebooks, codes, rows, turns >= 0, torch.full((KERNEL_FRAMES, 1), 300.0))
    torch.testing.assert_close(fitted_codebooks(*given), least_squares(*given), rtol=1e-3, atol=1e-5)


def test_a_kernel_is_recovered() -> None:
    generator = torch.Generator().manual_seed(9)
    codewords, turns = join_sequences(torch.randn(30, 100, WIDTH, generator=generator))
    side = torch.linspace(0.0, 0.2, WIDTH)
    kernel = torch.stack([side / 2, side, 1 - 3 * side, side, side / 2])
    found = fitted_kernel(codewords, overlap(codewords, kernel), turns >= 0, REACH)
    torch.testing.assert_close(found, kernel, rtol=0, atol=0.03)
    torch.testing.assert_close(found.sum(dim=0), torch.ones(WIDTH))
    silent = fitted_kernel(torch.zeros_like(codewords), torch.zeros_like(codewords), turns >= 0, REACH)
    torch.testing.assert_close(silent, torch.full((KERNEL_FRAMES, WIDTH), 1 / KERNEL_FRAMES))


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_any_number_of_levels_and_pieces_shorter_than_a_kernel(levels: int) -> None:
    quantizer = OverlappingQuantizer(WIDTH, 8, levels, 0.9, SCALE)
    pieces = [piece[: 1 + number % 5] for number, piece in enumerate(steady(60, 5, 10))]
    quantizer.fit(pieces, torch.Generator().manual_seed(0))
    assert quantizer.codebooks.isfinite().all()
    for piece in pieces[:5]:
        codes = quantizer.search(piece[None])
        assert codes.shape == (1, len(piece), 1 + levels)
        assert quantizer.decode(codes).shape == (1, len(piece), WIDTH)


def test_moving_averages_follow_a_plain_loop(quantizer: ResidualQuantizer) -> None:
    moving = OverlappingQuantizer(WIDTH, 16, 4, 0.75, SCALE)
    moving.load_state_dict(quantizer.state_dict())
    batch = torch.stack(steady(2, 20, 12))
    codes, shape = moving.search(batch)[..., 1:], batch * (torch.arange(WIDTH) > 0)
    codebooks, counts, sums = moving.codebooks.clone(), moving.counts.clone(), moving.sums.clone()
    plain, finer = (sum_codewords(codebooks[part], codes[..., part]) for part in (slice(0, 1), slice(1, 4)))
    residual_rows = shape - overlap(plain, moving.kernels[0])
    for level in range(4):
        rows: dict[int, list[Tensor]] = {word: [] for word in range(16)}
        for sound in range(2):
            joined, turns = join_sequences(residual_rows[sound : sound + 1])
            joined_codewords, _ = join_sequences(finer[sound : sound + 1])
            for frame in range(20):
                code = int(codes[sound, frame, level])
                if level == 0:
                    row = shape[sound, frame] - plain[sound, frame]
                else:
                    kernel = moving.kernels[1]
                    positions, weights = overlap_weights(turns >= 0, torch.tensor([REACH + frame]), kernel)
                    residual = (joined - overlap(joined_codewords, kernel))[positions[0]]
                    row = (residual * weights[0]).sum(dim=0) / kernel.abs().sum(dim=0).square()
                rows[code].append(row + codebooks[level, code])
        for word, found in rows.items():
            total = torch.stack(found).sum(dim=0) if found else torch.zeros(WIDTH)
            counts[level, word] = 0.75 * counts[level, word] + 0.25 * len(found)
            sums[level, word] = 0.75 * sums[level, word] + 0.25 * total
    moving.eval()(batch)
    assert torch.equal(moving.codebooks, codebooks)
    moving.train()(batch)
    torch.testing.assert_close(moving.codebooks, sums / counts[..., None])
    assert torch.equal(moving.kernels, quantizer.kernels)


def test_latents_that_are_not_finite_move_no_codebook(quantizer: ResidualQuantizer) -> None:
    moving = OverlappingQuantizer(WIDTH, 16, 4, 0.8, SCALE)
    moving.load_state_dict(quantizer.state_dict())
    batch = torch.stack(steady(2, 50, 13)) + 1
    batch[1, 7:9] = torch.tensor([[torch.nan], [torch.inf]])
    moving.train()(batch)
    assert torch.allclose(moving.codebooks, quantizer.codebooks)
    assert all(value.isfinite().all() for value in moving.buffers())


@pytest.mark.parametrize("count", [1, 3, 8])
def test_kmeans_with_fewer_points_than_clusters(count: int) -> None:
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    centres, assignment = kmeans(points, 8, torch.Generator().manual_seed(0))
    assert centres.isfinite().all()
    torch.testing.assert_close(centres[assignment], points)


SIZE, SHAPES = 8, 3  # of the library's quantizer


def library_quantizer() -> tuple[LibraryQuantizer, torch.Tensor]:
    torch.manual_seed(0)
    quantizer = LibraryQuantizer(WIDTH, SIZE, SHAPES, 0.9, SCALE)
    latents = torch.randn(4, 50, WIDTH)
    quantizer.fit([latents.flatten(0, 1)], torch.Generator().manual_seed(0))
    return quantizer.eval(), latents


def test_codes_are_the_nearest_codewords_level_after_level() -> None:
    quantizer, latents = library_quantizer()
    residual, sums = latents * (torch.arange(WIDTH) > 0), torch.zeros_like(latents)
    codes = quantizer.search(latents)
    sums[..., 0] = LOUDNESS_RANGE[0] + LOUDNESS_STEP * codes[..., 0]
    within = (latents[..., 0] > LOUDNESS_RANGE[0]) & (latents[..., 0] < LOUDNESS_RANGE[1])
    assert float((sums - latents)[..., 0][within].abs().max()) <= LOUDNESS_STEP / 2 + 1e-5
    for level, book in enumerate(quantizer.codebooks, start=1):
        nearest = (residual[:, :, None] - book).square().sum(dim=3).argmin(dim=2)
        assert torch.equal(codes[:, :, level], nearest)
        sums, residual = sums + book[nearest], residual - book[nearest]
    torch.testing.assert_close(quantizer.decode(codes), sums)
    assert not quantizer.decode(codes, (torch.arange(50) % 2).float())[:, ::2].any()


def test_the_gradient_goes_straight_through_and_training_alone_moves_codebooks() -> None:
    quantizer, latents = library_quantizer()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    assert list(before) == ["codebooks", "kernels", "counts", "sums"]  # those of the other quantizer
    latents = latents.requires_grad_()
    quantized = quantizer(latents)
    quantized.latents.sum().backward()
    assert torch.equal(latents.grad, torch.ones_like(latents))  # type: ignore[arg-type]
    quantizer.train().search(latents)
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
    quantizer(latents)
    nearest = quantized.codes[..., 1].flatten()
    shape = (latents.detach() * (torch.arange(WIDTH) > 0)).flatten(0, 1)
    for word in range(SIZE):  # of the first shape level, as moving averages: by hand
        own = shape[nearest == word]
        count = 0.9 * before["counts"][0, word] + 0.1 * len(own)
        total = 0.9 * before["sums"][0, word] + 0.1 * own.sum(dim=0)
        torch.testing.assert_close(quantizer.codebooks[0, word], total / count, rtol=1e-3, atol=1e-3)


def test_dead_codewords_are_replaced_where_there_is_a_threshold() -> None:
    for threshold, is_replaced in ((0.0, False), (0.5, True)):
        quantizer, latents = library_quantizer()
        quantizer.dead_code_threshold = threshold
        quantizer.codebooks[0, 3], quantizer.counts[0, 3] = 1e6, 0.0
        quantizer.train()(latents)
        assert bool(quantizer.codebooks[0, 3].abs().max() < 100) is is_replaced


def test_a_model_file_names_its_quantizer(tmp_path: Path) -> None:
    model = tiny_codec(quantizer="residual")
    metadata = BundleMetadata(vqvae_config=model.architecture, spectrogram_config=model.spectrogram)
    save_bundle(tmp_path / "m.distill", model, None, metadata)
    loaded, sound = load_bundle(tmp_path / "m.distill").codec, torch.randn(1, 4000)
    assert loaded.architecture.quantizer == "residual"
    assert isinstance(loaded.quantizer, LibraryQuantizer)
    codes = encode(model, sound)
    assert torch.equal(encode(loaded, sound), codes)
    assert torch.equal(decode(loaded, codes), decode(model, codes))
    assert torch.equal(next(encode_each(loaded, [sound[0], sound[0, :3000]])), codes[0])
