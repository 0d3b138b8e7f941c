"""A diffusion U-Net on waveforms by audio-diffusion-pytorch: its v-objective and its sampler, 8.5 M weights."""

import importlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks.peers.worker import windows

BATCH = 4
MULTIPLE = 256  # of the samples that it takes: the product of its factors
STEPS = 20  # of sampling; the library's page suggests 10 to 100


class Network:
    """The library's model, as its page shows it but narrower and less deep: that has 217 M weights."""

    def __init__(self, rate: int) -> None:
        library = importlib.import_module("audio_diffusion_pytorch")
        self.rate = rate
        self.kept = library.DiffusionModel(
            net_t=library.UNetV0,
            in_channels=1,
            channels=[8, 32, 64, 128, 256],
            factors=[1, 4, 4, 4, 4],
            items=[1, 1, 1, 2, 2],
            attentions=[0, 0, 0, 0, 1],
            attention_heads=8,
            attention_features=32,
            diffusion_t=library.VDiffusion,
            sampler_t=library.VSampler,
        )

    def learn(self, recordings: Sequence[Tensor], go_on: Callable[[], bool]) -> None:
        """Learn windows of recordings `[N]`."""
        optimizer, going = (
            torch.optim.AdamW(self.kept.parameters(), 1e-4, (0.95, 0.999), 1e-6, 1e-3),
            True,
        )
        while going:
            optimizer.zero_grad()
            self.kept(windows(recordings, BATCH)).backward()
            optimizer.step()
            going = go_on()

    def draw(self, count: int, samples: int, recordings: Sequence[Tensor]) -> list[Tensor]:  # noqa: ARG002
        """New sounds `[samples]`."""
        length = -(-samples // MULTIPLE) * MULTIPLE
        noises = [torch.randn(1, 1, length) for _ in range(count)]
        return [self.kept.sample(noise, num_steps=STEPS)[0, 0, :samples] for noise in noises]
