"""WaveGAN as its paper has it: shapes, phase shuffle, the loss of the critic, and what a step changes."""

import pytest
import torch
from torch import Tensor, nn

from benchmarks.peers import wavegan
from benchmarks.peers.worker import WINDOW


def test_latents_become_sounds_and_sounds_scores() -> None:
    torch.manual_seed(0)
    network = wavegan.Network(44_100)
    sounds = network.made(2)
    assert sounds.shape == (2, 1, WINDOW)
    assert sounds.abs().max() <= 1
    assert network.critic(sounds).shape == (2,)
    assert [sound.shape for sound in network.draw(3, 1_000, [])] == 3 * [(1_000,)]


def test_phase_shuffle_moves_each_example_and_reflects_at_its_ends() -> None:
    torch.manual_seed(0)
    features = torch.randn(64, 3, 20)
    padded = nn.functional.pad(features, (wavegan.SHUFFLE, wavegan.SHUFFLE), mode="reflect")
    moved = padded.unfold(2, 20, 1).transpose(1, 2)  # [B, shifts, C, N]
    alike = (moved == wavegan.shuffled(features)[:, None]).all(dim=(2, 3))
    assert (alike.sum(dim=1) == 1).all()
    assert alike.any(dim=0).all()  # each of the five shifts


class Slope(nn.Module):
    """A critic whose slope is `steepness` everywhere."""

    def __init__(self, steepness: float) -> None:
        super().__init__()
        weights = torch.randn(WINDOW)
        self.weights = nn.Parameter(steepness * weights / weights.norm())

    def forward(self, sounds: Tensor) -> Tensor:
        return sounds[:, 0] @ self.weights


@pytest.mark.parametrize(("steepness", "penalty"), [(1.0, 0.0), (3.0, 40.0), (0.5, 2.5)])
def test_the_critic_is_fined_for_slopes_other_than_one(steepness: float, penalty: float) -> None:
    torch.manual_seed(0)
    network = wavegan.Network(44_100)
    critic = network.critic = Slope(steepness)
    recorded = torch.randn(2, 1, WINDOW)
    torch.manual_seed(1)
    made = network.made(2)
    apart = float((critic(made).mean() - critic(recorded).mean()).detach())
    torch.manual_seed(1)
    assert float(network.critic_loss(recorded).detach()) == pytest.approx(apart + penalty, abs=1e-3)


def test_a_step_trains_both_sides_until_it_is_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wavegan, "BATCH", 1)
    torch.manual_seed(0)
    network, answers = wavegan.Network(44_100), [True, False]
    before = [[part.clone() for part in side.parameters()] for side in (network.kept, network.critic)]
    network.learn([0.1 * torch.randn(5_000), 0.1 * torch.randn(2 * WINDOW)], lambda: answers.pop(0))
    assert not answers
    for side, old in zip((network.kept, network.critic), before, strict=True):
        changed = [not torch.equal(*pair) for pair in zip(side.parameters(), old, strict=True)]
        assert sum(changed) >= len(changed) - 1  # but the critic's last bias, which cancels
