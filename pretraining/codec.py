"""Pre-training of the decoder on synthetic sounds; the weights are shipped.

`make pretrain PART=decoder` writes `distill/codec/pretrained/`, starting from the weights that are there. Sounds are
coded with codebooks fitted to small synthetic corpora, so that the decoder is trained on the errors of real use.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from distill.audio.augment import varispeed
from distill.audio.noise_floor import noise_floor
from distill.audio.side_info import SideInfo
from distill.audio.synthetic_sounds import synthetic_sound
from distill.codec.constants import BETAS, DRAWS, WARMUP_STEPS
from distill.codec.initialise import (
    PRETRAINED_PARTS,
    SYNTHETIC_GAIN_RANGE,
    SYNTHETIC_SOUND_FRAMES,
    build_vqvae,
    load_pretrained,
    pretrained_path,
)
from distill.codec.losses import DecoderLoss
from distill.codec.model import VQVAE
from distill.codec.quantizer import OverlappingQuantizer
from distill.codec.streaming import noise_of
from distill.execution import STATE, execution_from_environment
from distill.params import get_adaptive_vqvae_config
from distill.progress import ProgressReport
from distill.seeds import Stream, derive_seed
from distill.storage.files import write_bytes
from distill.training.checkpoints import NO_CHECKPOINTS, CheckpointStore
from distill.training.distributed import make_fabric
from distill.training.run import Run
from distill.training.task import Task, TrainerSettings
from distill.training.trainer import Trainer
from pretraining.recordings import synthetic_collection
from pretraining.reports import PretrainingConsole

SOUNDS, HELD_OUT = 3000, 100  # synthetic sounds, and how many of them are held out
CROP_FRAMES = 32  # code frames
CORPORA = 6  # synthetic corpora, each with a projection and codebooks of its own
CORPUS_SOUNDS = (60, 200, 400)
CORPUS_CODEWORDS = (64, 128, 64, 64)
CORPUS_LEVELS = (7, 3, 7, 13, 7)  # without those of tones
BATCH_SIZE, STEPS_PER_EPOCH = 4, 250
KEPT = 0.5  # of the weights that were there (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models")


@dataclass(frozen=True, eq=False)
class _Coding:
    """Projection and codebooks of one synthetic corpus."""

    mean: Tensor
    components: Tensor
    quantizer: OverlappingQuantizer


class _Decoding(nn.Module):
    """The part of the codec that is pre-trained: features to samples, two draws of each."""

    def __init__(self, codec: VQVAE) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, features: Tensor, codes: Tensor, noise: Tensor) -> Tensor:
        """Samples `[2 * B, N]` of features `[B, F, features]`, codes `[B, F, Q]` and noise `[B, F, noise bands]`."""
        audio: Tensor = self.codec.synthesise(features, codes, noise, draws=DRAWS)
        return audio


class _PretrainingTask(Task[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Task for `Trainer`: decode coded synthetic sounds. A batch is (features, codes, noise, samples)."""

    steps_per_epoch = STEPS_PER_EPOCH

    def __init__(
        self, sample_rate: int, seed: int, fabric: Fabric, progress: ProgressReport
    ) -> None:
        config = get_adaptive_vqvae_config(1000, dropout=0.0)
        self.codec = build_vqvae(sample_rate, config, seed, warm=False).eval()
        if not load_pretrained(self.codec):  # it starts from the convolutions of the window of 1024
            load_pretrained(self.codec, 1024, ("decoder.",))
        self.model = _Decoding(self.codec)
        self.seed, self.fabric = seed, fabric
        self.step = self.codec.spectrogram.samples_per_frame
        self.sounds: list[NDArray[np.float32]] = []
        for number in range(SOUNDS):
            rng = np.random.default_rng(derive_seed(seed, Stream.PRETRAINING_SOUNDS, number))
            self.sounds.append(_sound(rng, sample_rate, SYNTHETIC_SOUND_FRAMES * self.step))
            progress(number + 1, SOUNDS, "synthetic sounds")
        self.codings = [self._coding(number, progress) for number in range(CORPORA)]
        self.loss = DecoderLoss(sample_rate)
        fabric.to_device(self.loss)

    def batches(self, epoch: int, skip: int) -> Iterable[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Batches of random crops, coded with one of the corpora's codebooks or, of some batches, not coded."""
        for step in range(skip, STEPS_PER_EPOCH):
            rng = np.random.default_rng(
                derive_seed(self.seed, Stream.PRETRAINING_BATCHES, epoch, step)
            )
            audio = torch.stack([self._crop(rng) for _ in range(BATCH_SIZE)])
            coding = self.codings[int(rng.integers(CORPORA))] if rng.random() >= 0.15 else None
            yield self._pair(audio, coding)

    def losses(
        self, model: nn.Module, batch: tuple[Tensor, Tensor, Tensor, Tensor]
    ) -> dict[str, Tensor]:
        """Loss of the decoded features."""
        *given, audio = batch
        return _named("train", self.loss(model(*given), audio))

    def validate(self) -> dict[str, float]:
        """Mean loss on the held-out sounds."""
        held_out = torch.from_numpy(np.stack(self.sounds[-HELD_OUT:])[:, : CROP_FRAMES * self.step])
        batches = held_out.split(BATCH_SIZE)
        totals: dict[str, float] = defaultdict(float)
        for number, audio in enumerate(batches):
            *given, samples = self._pair(audio, self.codings[number % CORPORA])
            for name, value in _named("val", self.loss(self.model(*given), samples)).items():
                totals[name] += float(value) / len(batches)
        return totals

    @torch.no_grad()
    def _pair(self, audio: Tensor, coding: _Coding | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features `[B, F, features]` after quantisation with `coding`, codes, noise, and the samples `[B, N]` to decode to."""
        codec, margin = self.codec, self.codec.margin
        features, tones = codec.flat_features(
            self.fabric.to_device(nn.functional.pad(audio, (margin, margin)))
        )
        if coding is not None:
            codec.mean.copy_(coding.mean)
            codec.components.copy_(coding.components)
            codes = coding.quantizer.search(codec.project(features))
            features = codec.unproject(coding.quantizer.decode(codes))
        else:  # for the noise alone
            codes = (features[..., :4] * 1e4).long()
        rate = codec.spectrogram.sample_rate
        about = [SideInfo(noise=noise_floor(one.numpy(), rate)) for one in audio]
        noise = torch.cat([noise_of(codec, one, features.shape[1]) for one in about])
        return features, codec.layout.join(codes, tones), noise, self.fabric.to_device(audio)

    def _crop(self, rng: np.random.Generator) -> Tensor:
        length = CROP_FRAMES * self.step
        speed = 2.0 ** (rng.uniform(-6.0, 6.0) / 12)
        needed = int(length * speed) + 1
        sound = self.sounds[int(rng.integers(SOUNDS - HELD_OUT))]
        start = int(rng.integers(len(sound) - needed))
        gain = rng.uniform(*SYNTHETIC_GAIN_RANGE) * rng.choice((-1.0, 1.0))
        resampled = varispeed(torch.from_numpy(sound[start : start + needed]), speed)[:length]
        crop: Tensor = nn.functional.pad(resampled, (0, length - len(resampled))) * gain
        return crop

    @torch.no_grad()
    def _coding(self, number: int, progress: ProgressReport) -> _Coding:
        codec = self.codec
        generator = torch.Generator().manual_seed(
            derive_seed(self.seed, Stream.PRETRAINING_CODECS, number)
        )
        count = CORPUS_SOUNDS[number % len(CORPUS_SOUNDS)]
        chosen = torch.randperm(SOUNDS - HELD_OUT, generator=generator)[:count].tolist()
        padded = (np.pad(self.sounds[index], codec.margin) for index in chosen)
        features = (codec.flat_features(torch.from_numpy(sound)[None])[0][0] for sound in padded)
        pieces = [piece[: 5_000 // count] for piece in features]
        codec.fit_projection(torch.cat(pieces))
        codewords = CORPUS_CODEWORDS[number % len(CORPUS_CODEWORDS)]
        levels = CORPUS_LEVELS[number % len(CORPUS_LEVELS)]
        sizes = (codec.architecture.latent_size, codewords, levels - 1)
        quantizer = OverlappingQuantizer(
            *sizes, ema_decay=1.0, loudness_scale=codec.quantizer.loudness_scale
        ).eval()
        quantizer.fit([codec.project(piece) for piece in pieces], generator)
        progress(number + 1, CORPORA, "synthetic corpora")
        mean, components = codec.mean.clone(), codec.components.clone()
        return _Coding(
            mean, components, cast(OverlappingQuantizer, self.fabric.to_device(quantizer))
        )


def _sound(rng: np.random.Generator, sample_rate: int, length: int) -> NDArray[np.float32]:
    """A sound `[length]`: of layers at random, or as often recordings of one synthetic collection, one after another."""
    if rng.random() < 0.5:
        return synthetic_sound(rng, sample_rate, length)
    recordings = synthetic_collection(rng, sample_rate, 100, length / sample_rate)
    joined = np.concatenate([recording.samples for recording in recordings])[:length]
    return np.pad(joined, (0, length - len(joined)))


def _named(side: str, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Losses with the names of metrics: the whole is `<side>_loss`, its parts are `<side>_<part>`."""
    return {
        f"{side}_{'loss' if name == 'recon' else name}": value for name, value in losses.items()
    }


def pretrain_codec(
    sample_rate: int, epochs: int, seed: int, fabric: Fabric, store: CheckpointStore | None
) -> VQVAE:
    """Pre-train the decoder for `epochs` epochs of 250 steps at `sample_rate` Hz, and write its weights."""
    with ProgressReport("pretraining") as progress:
        task = _PretrainingTask(sample_rate, seed, fabric, progress)
        before = {name: value.clone() for name, value in _pretrained(task.codec).items()}
        settings = TrainerSettings(
            epochs=epochs,
            learning_rate=4e-4,
            weight_decay=0.01,
            betas=BETAS,
            gradient_clip=5.0,
            warmup_steps=WARMUP_STEPS,
            patience=0,
            seed=seed,
            validate_initial=True,
            average=0.999,
        )
        Trainer(
            task, settings, Run(fabric, store or NO_CHECKPOINTS, [PretrainingConsole(progress)])
        ).run()
    for name, value in _pretrained(task.codec).items():
        value.lerp_(before[name], KEPT)
    write_pretrained(task.codec)
    return task.codec


def write_pretrained(codec: VQVAE) -> None:
    """Write a decoder's weights where `load_pretrained` reads them, in half precision."""
    tensors = {key: value.cpu().half().contiguous() for key, value in _pretrained(codec).items()}
    write_bytes(pretrained_path(codec.spectrogram.n_fft), save(tensors))


def _pretrained(codec: VQVAE) -> dict[str, Tensor]:
    """The weights of a decoder that are shipped; to change them changes the codec."""
    return {
        key: value for key, value in codec.state_dict().items() if key.startswith(PRETRAINED_PARTS)
    }


def main() -> None:
    """Run `python -m pretraining.codec SAMPLE_RATE EPOCHS SEED`."""
    sample_rate, epochs, seed = (int(value) for value in sys.argv[1:])
    store = CheckpointStore(STATE / "pretraining" / f"{sample_rate}-{epochs}-{seed}")
    pretrain_codec(sample_rate, epochs, seed, make_fabric(execution_from_environment()), store)
    store.clear()


if __name__ == "__main__":
    main()
