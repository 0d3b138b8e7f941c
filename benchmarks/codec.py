"""Our codec against its peers, with equal training and held-out recordings."""

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from benchmarks.baseline import NoNetworkCodec
from benchmarks.measures import (
    Codec,
    Difference,
    Speed,
    interleaved_speeds,
    one_by_one,
    padded,
    paired_difference,
    reconstruct,
)
from benchmarks.opus import KILOBITS, bits_per_second, opus_is_installed, through_opus
from benchmarks.original import OriginalCodec, train_original
from benchmarks.quality import HeldOut, Quality
from benchmarks.sounds import SoundResult, breaking_sounds, judge
from benchmarks.training import StepProfile, Trained, profile_steps, train_within
from distill.audio.augment import waveform
from distill.audio.corpus import Corpus, CorpusEntry, load_corpus
from distill.audio.ingest import ingest
from distill.codec.model import VQVAE
from distill.codec.spectral import spectrogram_config_for
from distill.codec.task import codebook_health
from distill.execution import Execution
from distill.params import Params, VQVAEConfig
from distill.split import split_groups
from distill.training.fabric import make_fabric

OURS, FULL, NO_NETWORK, ORIGINAL = "ours", "ours, full training", "no network", "original plan"
ALONE, TOGETHER = "ours, a call for each", "ours, short ones together"
MAX_SECONDS = 10.0
SPEED_SECONDS = 20.0
SPEED_ROUNDS = 5

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """Measurements to make on a corpus."""

    seconds: float  # of training, ours and the original plan's
    full_seconds: float | None  # of the tier's whole training, at most; None leaves it out
    profile: bool
    sounds: bool
    splits: int = 1  # how often other recordings are held out, and quality compared over all of them


@dataclass(frozen=True)
class Level:
    """Use of a codebook on held-out recordings."""

    utilization: float
    perplexity: float


@dataclass(frozen=True)
class SystemResult:
    """Results of one codec. Opus was not trained and has no codebooks: its seconds are NaN, its levels empty."""

    name: str
    bits_per_second: float
    training_seconds: float
    epochs: str
    quality: Quality
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class Pooled:
    """Quality over the held-out recordings of several splits; those held out in two of them count twice."""

    splits: int
    attacks: tuple[float, ...]  # of the originals, ms
    qualities: dict[str, Quality]


@dataclass(frozen=True)
class Comparison:
    """Paired comparison of one of our codecs with one peer."""

    ours: str
    peer: str
    mel: Difference
    visqol: Difference


@dataclass(frozen=True)
class CodecReport:
    """All measurements on one corpus."""

    corpus: str
    tier: str
    training_recordings: int
    training_seconds: float
    held_out: tuple[str, ...]  # paths
    held_out_seconds: float
    timed_seconds: float  # of the held-out recordings that speed is measured on
    timed: int  # how many they are
    speeds: dict[str, Speed]
    attacks: tuple[float, ...]  # of the held-out recordings, ms
    systems: tuple[SystemResult, ...]
    pooled: Pooled | None
    opus: bool  # whether Opus was there to compare with
    seed: int  # of the intervals
    comparisons: tuple[Comparison, ...]
    profile: StepProfile | None
    sounds: tuple[SoundResult, ...]


@dataclass(frozen=True, eq=False)
class _Material:
    """Training and held-out recordings `[N]` of a corpus, with settings."""

    corpus: Corpus
    config: VQVAEConfig
    val_fraction: float
    seed: int
    fabric: Fabric
    train: tuple[Tensor, ...]
    entries: tuple[CorpusEntry, ...]  # of `held_out`
    held_out: tuple[Tensor, ...]

    @property
    def rate(self) -> int:
        return self.corpus.sample_rate

    @property
    def sounds(self) -> list[Tensor]:
        """The held-out recordings, padded to whole frames."""
        step = spectrogram_config_for(self.rate).samples_per_frame
        return [padded(sound, step) for sound in self.held_out]

    @property
    def to_judge(self) -> HeldOut:
        """The held-out recordings to judge codecs by."""
        groups = tuple(entry.group for entry in self.entries)
        return HeldOut(self.held_out, tuple(self.sounds), groups, self.rate, self.seed)


@dataclass(frozen=True, eq=False)
class _Candidate:
    name: str
    codec: Codec
    seconds: float
    epochs: str


def measure_corpus(folder: Path, params: Params, plan: Plan, execution: Execution, say: Say) -> CodecReport:
    """Ingest a folder, train all codecs on its training recordings, measure on held-out ones. Raises AudioError."""
    with tempfile.TemporaryDirectory() as temporary:
        ingested = Path(temporary) / "corpus"
        ingest(folder, ingested, params.corpus.sample_rate, params.corpus.max_rejected, execution.workers)
        corpus = load_corpus(ingested)
        splits = [
            _material(corpus, params, params.seed + number, make_fabric(execution)) for number in range(plan.splits)
        ]
        tier = params.tier_name(len(corpus.entries))
        return _measure(folder.resolve().name, tier, splits, plan, say)


def _material(corpus: Corpus, params: Params, seed: int, fabric: Fabric) -> _Material:
    config = params.vqvae_config(len(corpus.entries))
    fraction = params.split.resolve(len(corpus.entries))
    sides = split_groups((entry.group for entry in corpus.entries), seed, fraction)
    entries = tuple(entry for entry in corpus.entries if sides[entry.group] == "val")
    most = int(MAX_SECONDS * corpus.sample_rate)
    return _Material(
        corpus,
        config,
        fraction,
        seed,
        fabric,
        tuple(waveform(corpus, entry) for entry in corpus.entries if sides[entry.group] == "train"),
        entries,
        tuple(waveform(corpus, entry, 0, min(entry.samples, most)) for entry in entries),
    )


def _measure(name: str, tier: str, splits: Sequence[_Material], plan: Plan, say: Say) -> CodecReport:
    material = splits[0]
    ours = _train_ours(material, plan, say)
    candidates = [*_candidates(ours), *_train_peers(material, ours[-1].codec.model, plan, say)]
    qualities = _judge(material, candidates, say)
    opus = _judge_opus(material, say)
    names, peer_names = [one.name for one in candidates[: len(ours)]], [one.name for one in candidates[len(ours) :]]
    comparisons = _compare(qualities, names, peer_names, material.seed)
    pooled = None
    if len(splits) > 1:
        label = f"{OURS}, {len(splits)} splits"
        pooled = _over_splits({**qualities, **{one.name: one.quality for one in opus}}, splits, plan, say)
        every = pooled.qualities
        comparisons += _compare({label: every[OURS], **every}, [label], peer_names, material.seed)
    say("measuring speed")
    chosen = _first(material.sounds, SPEED_SECONDS * material.rate)
    peers = {one.name: one_by_one(one.codec) for one in candidates[len(ours) :]}
    ways = {ALONE: one_by_one(ours[-1].codec), TOGETHER: ours[-1].codec.together(), **peers}
    speeds = interleaved_speeds(ways, chosen, material.rate, SPEED_ROUNDS)
    return CodecReport(
        corpus=name,
        tier=tier,
        training_recordings=len(material.train),
        training_seconds=sum(map(len, material.train)) / material.rate,
        held_out=tuple(entry.path for entry in material.entries),
        held_out_seconds=sum(map(len, material.held_out)) / material.rate,
        timed_seconds=sum(map(len, chosen)) / material.rate,
        timed=len(chosen),
        speeds=speeds,
        attacks=material.to_judge.attacks(),
        systems=(
            *(
                SystemResult(
                    name=one.name,
                    bits_per_second=one.codec.bits_per_second,
                    training_seconds=one.seconds,
                    epochs=one.epochs,
                    quality=qualities[one.name],
                    levels=_levels(one.codec, material.sounds, material.config.codebook_size),
                )
                for one in candidates
            ),
            *opus,
        ),
        pooled=pooled,
        opus=bool(opus),
        seed=material.seed,
        comparisons=tuple(comparisons),
        profile=_profile(material, plan, say),
        sounds=_sounds(ours[-1].codec.model, material, plan, say),
    )


def _judge(material: _Material, candidates: Sequence[_Candidate], say: Say) -> dict[str, Quality]:
    held_out, found = material.to_judge, {}
    for candidate in candidates:
        say(f"measuring {candidate.name}")
        found[candidate.name] = held_out.judge([reconstruct(candidate.codec, sound) for sound in held_out.padded])
    return found


def _judge_opus(material: _Material, say: Say) -> list[SystemResult]:
    """Opus at each bitrate, or nothing where it is not installed."""
    held_out, found = material.to_judge, []
    for kilobits in KILOBITS if opus_is_installed() else ():
        say(f"measuring Opus at {kilobits} kbit/s")
        made = [through_opus(sound.numpy(), material.rate, kilobits) for sound in held_out.padded]
        quality = held_out.judge([torch.from_numpy(one.samples) for one in made])
        found.append(SystemResult(f"Opus {kilobits}", bits_per_second(made), math.nan, "", quality, ()))
    return found


def _compare(
    qualities: Mapping[str, Quality], ours: Sequence[str], peers: Sequence[str], seed: int
) -> list[Comparison]:
    return [
        Comparison(
            one,
            peer,
            paired_difference(qualities[one].mel, qualities[peer].mel, seed),
            paired_difference(qualities[one].visqol, qualities[peer].visqol, seed),
        )
        for one in ours
        for peer in peers
    ]


def _over_splits(first: Mapping[str, Quality], splits: Sequence[_Material], plan: Plan, say: Say) -> Pooled:
    """Quality of our codec and the peers, pooled over the held-out recordings of all splits; `first` is of the first.

    Our full training, which the first split alone has, is left out.
    """
    pooled = {name: quality for name, quality in first.items() if name != FULL}
    for number, material in enumerate(splits[1:], start=2):
        say(f"split {number} of {len(splits)}")
        ours = _train_ours(material, replace(plan, full_seconds=None), say)
        candidates = [*_candidates(ours), *_train_peers(material, ours[0].codec.model, plan, say)]
        found = _judge(material, candidates, say) | {one.name: one.quality for one in _judge_opus(material, say)}
        pooled = {name: quality.joined(found[name]) for name, quality in pooled.items()}
    attacks = tuple(attack for material in splits for attack in material.to_judge.attacks())
    return Pooled(len(splits), attacks, pooled)


def _train_ours(material: _Material, plan: Plan, say: Say) -> list[Trained]:
    task = (material.corpus, material.config, material.val_fraction, material.seed, material.fabric)
    say(f"training ours for {plan.seconds:.0f} s")
    trained = [train_within(*task, plan.seconds)]
    if plan.full_seconds is not None:
        say(f"training ours in full, for {plan.full_seconds / 60:.0f} min at most")
        trained.append(train_within(*task, plan.full_seconds, material.config.epochs))
    return trained


def _candidates(ours: Sequence[Trained]) -> list[_Candidate]:
    return [
        _Candidate(name, one.codec, one.seconds, f"{one.epochs} of {one.planned}, best {one.best_epoch + 1}")
        for name, one in zip((OURS, FULL), ours, strict=False)
    ]


def _train_peers(material: _Material, model: VQVAE, plan: Plan, say: Say) -> list[_Candidate]:
    config, hop_length = material.config, model.spectrogram.hop_length
    say("fitting the codec without a network")
    began = time.perf_counter()
    plain = NoNetworkCodec.fit(
        material.train, material.rate, hop_length, config.num_quantizers, config.codebook_size, material.seed
    )
    fitted = time.perf_counter() - began
    say(f"training the original plan's codec for {plan.seconds:.0f} s")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(material.seed)
        original = OriginalCodec(material.rate, hop_length, config.codebook_size, config.ema_decay)
    device = material.fabric.device
    taken = train_original(original, material.train, material.held_out, plan.seconds, material.seed, device)
    return [_Candidate(NO_NETWORK, plain, fitted, ""), _Candidate(ORIGINAL, original, taken, "")]


def _first(sounds: Sequence[Tensor], samples: float) -> list[Tensor]:
    """The first sounds that have `samples` samples together."""
    chosen: list[Tensor] = []
    for sound in sounds:
        if sum(map(len, chosen)) < samples:
            chosen.append(sound)
    return chosen


def _levels(codec: Codec, sounds: Sequence[Tensor], codebook_size: int) -> tuple[Level, ...]:
    health = codebook_health(torch.cat([codec.encode(sound) for sound in sounds]), codebook_size)
    return tuple(Level(values["utilization"], values["perplexity"]) for values in health.values())


def _profile(material: _Material, plan: Plan, say: Say) -> StepProfile | None:
    if not plan.profile:
        return None
    say("profiling training steps")
    task = (material.corpus, material.config, material.val_fraction, material.seed, material.fabric)
    return profile_steps(*task, plan.seconds / 4)


def _sounds(model: VQVAE, material: _Material, plan: Plan, say: Say) -> tuple[SoundResult, ...]:
    if not plan.sounds:
        return ()
    say("reconstructing sounds that break codecs")
    return tuple(judge(model, *item) for item in breaking_sounds(material.rate, material.seed).items())
