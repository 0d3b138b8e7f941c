"""The codec of the original plan: its pictures of a second, their codes, and a training that ends in time."""

import pytest
import torch

from benchmarks.original_plan import COLUMNS, LATENT_SIZE, LEVELS, ROWS, OriginalCodec, picture_loss, train_original

RATE, HOP = 24_000, 256


@pytest.fixture
def codec() -> OriginalCodec:
    torch.manual_seed(0)
    return OriginalCodec(RATE, HOP, codebook_size=8, ema_decay=0.9).eval()


def test_a_picture_has_48_positions_with_three_codes_and_comes_back_in_its_size(codec: OriginalCodec) -> None:
    pictures = torch.randn(2, 1, 128, 94)
    latents = codec.encoder(pictures)
    assert latents.shape == (2, LATENT_SIZE, ROWS, COLUMNS)
    assert codec.decoder(latents).shape == pictures.shape
    assert codec.bits_per_second == pytest.approx(48 * 3 * 3 * RATE / (94 * HOP))


def test_pictures_follow_the_sound(codec: OriginalCodec) -> None:
    sound = torch.zeros(45_000)
    sound[30_000:30_100] = 1.0
    pictures = codec.pictures(sound)
    assert pictures.shape == (2, 1, 128, 94)
    loudest = int(torch.cat([pictures[0, 0], pictures[1, 0]], dim=1).sum(dim=0).argmax())
    assert loudest == pytest.approx(30_050 / HOP, abs=3)


def test_the_loss_of_equal_pictures_is_zero_and_of_an_offset_the_offset() -> None:
    picture = torch.randn(1, 1, 128, 94)
    assert float(picture_loss(picture, picture)) == 0
    assert float(picture_loss(picture + 0.5, picture)) == pytest.approx(0.5, rel=1e-4)


def test_training_ends_in_time_and_what_it_leaves_codes_sound(codec: OriginalCodec) -> None:
    sounds = [torch.sin(torch.arange(RATE) * 0.05 * (1 + index)) for index in range(3)]
    before = codec.encoder[0].weight.detach().clone()
    train_original(codec, sounds[:2], sounds[2:], seconds=0.01, seed=0, device=torch.device("cpu"))
    assert not torch.equal(codec.encoder[0].weight, before)
    codes = codec.encode(sounds[0][:10_000])
    assert codes.shape == (48, LEVELS)
    assert len(codec.decode(codes)) >= 10_000
