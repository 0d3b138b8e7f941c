"""RAVE (Caillon and Esling 2021), `v2_small` of acids-rave: its own network, losses, optimisers and schedule.

RAVE cuts files into windows and drops shorter ones, so recordings are joined. Sounds are decodes of noise N(0, 1), the
prior of its variational autoencoder, around the mean of the recordings' latents, which the models that RAVE exports add
to what they are given. Its second network, a prior of the latents, would need a training of its own.
"""

import importlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

BATCH = 4  # 8 by default
SIGNAL = 1 << 16  # samples of a window; 131072 by default
GAP = 0.2  # seconds of silence between recordings


class Network:
    """RAVE's model without what measures its training."""

    def __init__(self, rate: int) -> None:
        rave: Any = importlib.import_module("rave")
        gin = importlib.import_module("gin")
        configs = Path(rave.__file__).parent / "configs"
        gin.add_config_file_search_path(str(configs.parent))
        gin.parse_config_files_and_bindings(
            [str(configs / "v2_small.gin")], [f"SAMPLING_RATE = {rate}"]
        )
        self.rave, self.rate = rave, rate
        self.whole = rave.RAVE(n_channels=1)
        self.kept = nn.ModuleList([self.whole.pqmf, self.whole.encoder, self.whole.decoder])

    def learn(self, recordings: Sequence[Tensor], go_on: Callable[[], bool]) -> None:
        """Learn windows of recordings `[N]` that are joined, changed as RAVE changes them: phases and dither."""
        lightning = importlib.import_module("pytorch_lightning")
        model = importlib.import_module("rave.model")
        field = self.rave.core.get_rave_receptive_field(self.whole, n_channels=1)
        self.whole.receptive_field.copy_(torch.tensor(field))

        def stop(trainer: Any, *_: Any) -> None:
            trainer.should_stop = not go_on()

        callbacks = [model.WarmupCallback(), model.QuantizeCallback(), model.BetaWarmupCallback()]
        trainer = lightning.Trainer(
            logger=lightning.loggers.TensorBoardLogger(Path.cwd() / ".peers" / "rave-log"),
            accelerator="cpu",
            callbacks=[*callbacks, lightning.callbacks.LambdaCallback(on_train_batch_end=stop)],
            max_steps=10**9,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(self.whole, DataLoader[Tensor](Windows(recordings, self.rate), BATCH))

    def draw(self, count: int, samples: int, recordings: Sequence[Tensor]) -> list[Tensor]:
        """New sounds `[samples]`: decodes of noise around the mean of the latents of recordings `[N]`."""
        windows = [nn.functional.pad(sound, (0, -len(sound) % SIGNAL)) for sound in recordings]
        latents = torch.cat([self.whole.encode(window[None, None])[0] for window in windows], dim=1)
        mean = latents[: self.whole.latent_size].mean(dim=1, keepdim=True)
        frames = -(-samples * latents.shape[1] // sum(map(len, windows)))
        noises = [torch.randn(1, self.whole.latent_size, frames) for _ in range(count)]
        return [self.whole.decode(mean + noise)[0, 0, :samples] for noise in noises]


class Windows(Dataset[Tensor]):
    """Endless windows `[1, SIGNAL]` of joined recordings, each another one."""

    def __init__(self, recordings: Sequence[Tensor], rate: int) -> None:
        data, transforms = (
            importlib.import_module(f"rave.{name}") for name in ("dataset", "transforms")
        )
        silence = torch.zeros(round(GAP * rate))
        self.joined = torch.cat(
            [part for recording in recordings for part in (recording, silence)]
        ).numpy()
        self.mangled: Any = transforms.RandomApply(
            lambda sound: data.random_phase_mangle(sound, 20, 2000, 0.99, rate), p=0.8
        )
        self.dithered: Any = transforms.Dequantize(16)

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, _: int) -> Tensor:
        start = random.randrange(len(self.joined) - SIGNAL + 1)
        sound = self.dithered(self.mangled(self.joined[None, start : start + SIGNAL]))
        return torch.from_numpy(sound).float()
