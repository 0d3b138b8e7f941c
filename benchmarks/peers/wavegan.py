"""WaveGAN, written from its paper (Donahue, McAuley and Puckette 2019, "Adversarial audio synthesis").

The form for 65,536 samples, trained by WGAN-GP (Gulrajani et al. 2017). A quarter of the paper's width and an eighth of
its batch, so that a CPU does some steps a minute; all else is the paper's. Shapes: `B` batch, `C` channels, `N` samples.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from benchmarks.peers.worker import WINDOW, windows

WIDTH = 16  # the paper's d, 64 there
BATCH = 8  # 64 there
LATENT = 100
FIRST = 16  # samples that the first layer makes
SHUFFLE = 2  # samples by which a phase is shuffled at most
CRITIC_STEPS = 5
PENALTY = 10.0
CHANNELS = [32 * WIDTH, 16 * WIDTH, 8 * WIDTH, 4 * WIDTH, 2 * WIDTH, WIDTH, 1]


class Generator(nn.Module):
    """From latents `[B, LATENT]` to sounds `[B, 1, WINDOW]`: each layer makes four samples of one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(LATENT, FIRST * CHANNELS[0])
        pairs = pairwise(CHANNELS)
        self.layers = nn.ModuleList(
            nn.ConvTranspose1d(more, fewer, 25, stride=4, padding=11, output_padding=1)
            for more, fewer in pairs
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Sounds `[B, 1, WINDOW]` of latents `[B, LATENT]`."""
        features: Tensor = self.first(latents).view(-1, CHANNELS[0], FIRST)
        for layer in self.layers:
            features = layer(features.relu())
        return features.tanh()


class Critic(nn.Module):
    """From sounds `[B, 1, WINDOW]` to scores `[B]`, higher for recordings."""

    def __init__(self) -> None:
        super().__init__()
        pairs = pairwise(CHANNELS[::-1])
        self.layers = nn.ModuleList(
            nn.Conv1d(fewer, more, 25, stride=4, padding=12) for fewer, more in pairs
        )
        self.last = nn.Linear(FIRST * CHANNELS[0], 1)

    def forward(self, sounds: Tensor) -> Tensor:
        """Scores `[B]` of sounds `[B, 1, WINDOW]`."""
        features = sounds
        for number, layer in enumerate(self.layers, start=1):
            features = nn.functional.leaky_relu(layer(features), 0.2)
            if number < len(self.layers):
                features = shuffled(features)
        scores: Tensor = self.last(features.flatten(1))
        return scores[:, 0]


def shuffled(features: Tensor) -> Tensor:
    """Features `[B, C, N]`, each example moved by up to SHUFFLE samples and reflected at its end (section 3.3)."""
    length = features.shape[-1]
    shifts = torch.randint(-SHUFFLE, SHUFFLE + 1, (len(features), 1))
    positions = (torch.arange(length) - shifts).abs()
    reflected = torch.where(positions < length, positions, 2 * (length - 1) - positions)
    return features.gather(2, reflected[:, None].expand_as(features))


class Network:
    """A generator, and the critic that it is trained with."""

    def __init__(self, rate: int) -> None:
        self.rate, self.kept, self.critic = rate, Generator(), Critic()

    def learn(self, recordings: Sequence[Tensor], go_on: Callable[[], bool]) -> None:
        """Learn recordings `[N]`: a step is one of the generator, after CRITIC_STEPS of the critic."""
        optimizers = [
            torch.optim.Adam(part.parameters(), 1e-4, (0.5, 0.9))
            for part in (self.critic, self.kept)
        ]
        going = True
        while going:
            for _ in range(CRITIC_STEPS):
                _descend(optimizers[0], self.critic_loss(windows(recordings, BATCH)))
            _descend(optimizers[1], -self.critic(self.made(BATCH)).mean())
            going = go_on()

    def critic_loss(self, recorded: Tensor) -> Tensor:
        """Loss of the critic on recordings `[B, 1, WINDOW]`: WGAN-GP, with gradients of slope 1 between both sides."""
        made = self.made(len(recorded)).detach()
        between = torch.lerp(recorded, made, torch.rand(len(recorded), 1, 1)).requires_grad_()
        (slopes,) = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)
        penalty = (slopes.flatten(1).norm(dim=1) - 1).square().mean()
        loss: Tensor = self.critic(made).mean() - self.critic(recorded).mean() + PENALTY * penalty
        return loss

    def made(self, count: int) -> Tensor:
        """New sounds `[count, 1, WINDOW]`."""
        sounds: Tensor = self.kept(2 * torch.rand(count, LATENT) - 1)
        return sounds

    def draw(self, count: int, samples: int, recordings: Sequence[Tensor]) -> list[Tensor]:  # noqa: ARG002
        """New sounds `[samples]`, WINDOW at most."""
        return [self.made(1)[0, 0, :samples] for _ in range(count)]


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


assert FIRST * 4 ** (len(CHANNELS) - 1) == WINDOW
