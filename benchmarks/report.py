"""Reports of measurements: tables on the terminal, in Markdown and as JSON."""

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.codec import ORIGINAL, CodecReport
from benchmarks.faults import FaultsReport
from benchmarks.kills import Kills
from benchmarks.labels import LabelsReport
from benchmarks.long_memory import LongMemory, Use
from benchmarks.measures import Difference
from benchmarks.memory import Peak
from benchmarks.novelty import NoveltyReport
from benchmarks.pretrained import STEPS, PretrainedReport
from benchmarks.prior import PriorReport
from benchmarks.sampling import Drawn, Made
from benchmarks.throughput import Throughput
from benchmarks.variations import TAKES, VariationsReport
from distill.generate.fault_report import FaultReport
from distill.generate.faults import FAULTS
from distill.novelty.report import SetReport
from distill.storage.files import write_bytes

INTRODUCTION = """\
# Benchmarks

The codec is compared with two peers and Opus, and the prior with that of the original plan. All are trained and
measured in the same run. To repeat it on your own folders:

```sh
make bench CORPUS="folder other-folder" ARGS="--full --splits 3 --profile --sounds --memory --write docs/benchmarks.md"
make bench CORPUS="folder other-folder" ARGS="--prior --throughput --sampling --kills 20 --write docs/benchmarks.md"
```

`--seconds` sets the training time (120), `--json FILE` writes the figures of each recording,
`python -m benchmarks --help` lists the rest. On Linux the first run builds a dependency of ViSQOL, which needs a C++
compiler. Opus needs `opusenc` and `opusdec` (Debian's package opus-tools); without them its rows are left out. Only
`--write` writes the tables; each names the command that made it. `make listen` makes a page to judge by ear, in blind
A/B/X trials.

- **ours**: the codec of this repository with the settings of the corpus's tier, trained for a given time. The time of
  an epoch is measured first, so that the whole learning-rate schedule fits. **ours, full training**: all epochs of the
  tier.
- **no network**: PCA and residual k-means of the log-mel frames of the same training recordings, at our bitrate.
  Decoding is the pseudo-inverse of the mel filters and 32 iterations of Griffin-Lim (`benchmarks/baseline.py`).
- **original plan**: 2-D convolutions over log-mel spectrograms of one second, three codebooks, 128 iterations of
  Griffin-Lim, trained for as long as ours (`benchmarks/original.py`).
- **Opus 6, 12, 24**: Opus for music at that many kbit/s, variable. Bitrates in the tables are those of its packets,
  without the Ogg container (`benchmarks/opus.py`). It learns nothing from the corpus.

All are trained on the same recordings and evaluated on the same held-out ones, each whole (at most 10 s) and with
equal weight. Ours and the original plan keep the weights with the lowest held-out loss. Mel L1 is measured on
recordings that are padded with silence to whole frames of our codec, with Opus, too; all else without the padding.

The corpora:

- **sonic**: the 165 samples that come with Sonic Pi (drums, tabla, bass, loops, ambience; CC0).
- **digits**: 200 recordings of the Free Spoken Digit Dataset (two speakers, ten takes of each digit, 8 kHz; CC BY-SA
  4.0).
- **bd**: the 13 kick drums of sonic.
- **demo**: `data/demo`, the only one in this repository.

For labels the recordings of sonic and digits are in folders named after the first part of their names (bass, tabla,
...; the digit).

The original plan starts at random and from the corpus. Ours starts from principal components and codebooks of the
corpus and of synthetic sounds, and from decoder weights pretrained on synthetic sounds. Pre-training does not count as
training time.

- **mel L1**: L1 distance of log10-mel spectrograms at 7 scales, lower is better. Amplitudes below 1e-5 (-100 dB) count
  as 1e-5. It compares logarithms band by band, and so hardly hears level, peaks and attacks.
- **ViSQOL**: predicted mean opinion score in audio mode at 48 kHz, higher is better. Sounds are padded with silence,
  as its guidelines ask. Differences are more reliable than values: its model was fitted to higher bitrates and to
  sounds of 5 to 10 s. It can choose the wrong decoder: Mimi at 1.1 kbit/s has 1.84 with adversarial losses alone and
  2.82 with reconstruction losses, and listeners give the first 81 and the second 58.8 of 100 (MUSHRA,
  [arXiv 2410.00037](https://arxiv.org/abs/2410.00037)).
- **level**: energy of the whole sound. **absolute**: its mean without sign.
- **peak**: largest absolute sample.
- **attack**: time that the 2 ms envelope takes from 10 to 90 % of its peak, beside the original's.
- **envelope**: correlation of the 2 ms envelopes, 1 is best.
- **before attack**: energy in the 50 ms before the original's attack, as a share of the sound's: echoes ahead of a hit.
- **above 6 kHz**: energy of what lies there.
- **flutter**: how much more the level wavers (deviation from a line) in quarters of a second where the original is
  steady.
- **told apart**: share of right answers of a classifier that says which patches of 256 ms are originals and which
  decodes; .5 is chance. It is a linear one, on levels and differences of log-mel bands and of the 2 ms envelope, fitted
  to other recordings than those it is asked about (8 folds, near-duplicates in one). It never hears a pair. Compare
  within a corpus only: sounds without treble, say, lose nothing with it (`benchmarks/telling_apart.py`).
- **95 %**: bootstrap confidence interval over recordings of the difference ours - peer; an interval without 0 is
  significant.
- **3 splits**: everything is trained again with other held-out recordings, and compared over all of these. Recordings
  that are held out in two splits count twice.
- **prior**: `original plan` is `CodePrior` with the settings of its tier, trained on unmodified recordings and
  evaluated at its best epoch. **ours** is the default of this repository, on the same codes. Bits per second are the
  negative log-likelihood of held-out recordings, EOS included. **counting** has no network: how often each code occurs
  in training, after the coarser code of its frame, after the code of the frame before, and lately in the recording,
  mixed with weights for each level that are fitted on half of the training recordings.
- **x real time**: seconds of sound per second, medians of interleaved rounds. `distill encode`, `distill decode` and
  `encode_codes` process short sounds in batches; peers are called once for each sound.
"""
BLOCK = re.compile(r"\n<!-- (?!end)([^\n]+) -->\n.*?\n<!-- end -->\n", re.DOTALL)


@dataclass(frozen=True)
class Section:
    """A heading with a paragraph and tables. `key` identifies it in the Markdown file."""

    key: str
    title: str
    text: str
    tables: tuple["Grid", ...]


@dataclass(frozen=True)
class Grid:
    """A table of text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def codec_section(report: CodecReport, command: str, threads: int) -> Section:
    """Codec comparison on one corpus."""
    rows = tuple(
        (
            one.name,
            f"{one.bits_per_second / 1000:.3f}",
            number(one.training_seconds, 0),
            one.epochs or "–",
            number(_mean(one.quality.mel), 3),
            number(_mean(one.quality.visqol), 2),
        )
        for one in report.systems
    )
    columns = (
        "codec",
        "kbit/s",
        "training s",
        "epochs",
        "mel L1",
        "ViSQOL",
    )
    original = report.speeds[ORIGINAL]
    speeds = tuple(
        (name, _speed(one.encode), _speed(one.decode), _speed(one.decode / original.decode))
        for name, one in report.speeds.items()
    )
    timed = ("codec", "encode x real time", "decode x real time", "decode x original plan")
    differences = tuple(
        (
            f"{one.ours} - {one.peer}",
            _interval(one.mel, 3),
            number(one.mel.ratio, 3),
            _interval(one.visqol, 2),
        )
        for one in report.comparisons
    )
    compared = ("difference", "mel L1, 95 %", "mel L1 ratio", "ViSQOL, 95 %")
    levels = tuple(
        (one.name, str(number), f"{level.utilization:.0%}", f"{level.perplexity:.1f}")
        for one in report.systems
        for number, level in enumerate(one.levels)
    )
    scored = min(sum(map(math.isfinite, one.quality.visqol)) for one in report.systems)
    text = (
        f"`{command}`: tier {report.tier}, {report.training_recordings} training recordings "
        f"({report.training_seconds:.0f} s), {len(report.held_out)} ({report.held_out_seconds:.0f} s) held out, of which ViSQOL could score "
        f"{scored}; speed on {report.timed} of them with {report.timed_seconds:.1f} s; CPU threads: {threads}."
    )
    used = ("codec", "level", "used", "perplexity")
    tables = (Grid(columns, rows), Grid(compared, differences), Grid(timed, speeds), Grid(used, levels))
    return Section(f"codec {report.corpus}", f"Codec on `{report.corpus}`", text, tables)


def profile_section(report: CodecReport, command: str) -> Section:
    """Profile of a training step."""
    profile = report.profile
    assert profile is not None
    shares = (profile.sampling, profile.other, profile.sampling + profile.other)
    row = (str(profile.steps), f"{profile.milliseconds:.0f}", *(f"{share:.1%}" for share in shares))
    columns = (
        "steps",
        "ms a step",
        "sampling batches",
        "transfers, logging, checks",
        "outside network, loss, optimiser",
    )
    title = f"Training step on `{report.corpus}`"
    return Section(f"step {report.corpus}", title, f"`{command}`.", (Grid(columns, (row,)),))


def sounds_section(report: CodecReport, command: str) -> Section:
    """Robustness of the codec on test signals."""
    rows = tuple(
        (
            one.name,
            f"{one.peak:.3f}",
            f"{one.reconstructed_peak:.3f}",
            number(one.reconstructed_peak / one.peak if one.peak else math.nan, 2),
            "yes" if one.finite else "NO",
            number(one.jump_at_seams, 4),
            f"{one.jump_elsewhere:.4f}",
            f"{one.chunking:.1e}",
        )
        for one in report.sounds
    )
    columns = ("sound", "peak", "out", "ratio", "finite", "jump at seams", "elsewhere", "chunks - at once")
    text = (
        f"`{command}`: synthesised sounds through the codec trained last. Jumps are the largest differences of "
        "neighbouring samples; the last column is the largest difference of decoding in chunks of 64 frames."
    )
    return Section(
        f"sounds {report.corpus}", f"Breaking sounds, codec of `{report.corpus}`", text, (Grid(columns, rows),)
    )


def memory_section(peaks: Sequence[Peak], command: str) -> Section:
    """Peak memory of encoding; ratios are to the fewest hours of the same kind."""
    least = {one.recording_seconds: one for one in sorted(peaks, key=lambda one: -one.hours)}
    rows = tuple(
        (
            f"{one.hours:g} h",
            f"{one.recordings} x {one.recording_seconds} s",
            f"{one.baseline_mebibytes:.0f}",
            f"{one.mebibytes:.0f}",
            f"{one.mebibytes / least[one.recording_seconds].mebibytes:.2f}",
            f"{one.times_real_time:.0f}",
        )
        for one in peaks
    )
    columns = ("sound", "recordings", "MiB before", "peak MiB", "ratio", "x real time")
    text = (
        f"`{command}`: `encode_corpus` with an untrained codec of the large tier on synthetic sound, each row a process of "
        "its own; mapped pages of the corpus count, too."
    )
    return Section("memory", "Memory of coding", text, (Grid(columns, rows),))


def long_memory_section(found: LongMemory, command: str) -> Section:
    """A prior's memory on synthetic tasks."""
    chunks = tuple(
        (
            one.kind,
            str(one.chunk),
            f"{one.tokens_per_second / 1000:.1f}k",
            f"{one.product_share:.0%}",
            f"{one.difference:.0e}",
        )
        for one in found.chunks
    )
    recalled = tuple(
        (str(one.seed), f"{one.seconds:.0f}", f"{one.accuracy:.1%}", f"{one.ablated:.1%}", f"{one.longer:.1%}")
        for one in found.recalled
    )
    shortest = found.lengths[0].microseconds
    lengths = tuple(
        (
            str(one.frames),
            f"{one.microseconds:.0f}",
            f"{one.microseconds / shortest:.2f}",
            f"{one.state_bytes / 1e6:.2f}",
        )
        for one in found.lengths
    )
    text = (
        f"`{command}`: first, forward and backward through a memory of 4 heads with values of size 64, 16384 positions in "
        "shards of 2048, fp32, against a matrix product of equal FLOPs in the same rounds, and the difference of outputs to "
        "those of the smallest chunks. Then multi-query associative recall: 8 pairs of 64 keys and 64 values, 256 "
        "positions, two blocks of width 64 with windows of 32, values beyond their receptive field; after training, with "
        "the memory ablated, and at 1024 positions. Last, a training step of the prior (width 128, 3 blocks, 4 levels) for "
        "each frame of one sequence, and the size of the sampler's state after it."
    )
    grids = (
        Grid(("keys", "chunk", "tokens/s", "of a product", "difference"), chunks),
        Grid(("seed", "seconds", "recalled", "ablated", "at 1024"), recalled),
        Grid(("frames", "us a frame", "ratio", "state, MB"), lengths),
    )
    return Section("long memory", "Long memory", text, grids)


def use_section(found: Sequence[Use], command: str) -> Section:
    """Benefit of a memory on one corpus."""
    rows = tuple(
        (
            str(one.seed),
            f"{one.plain:.0f}",
            f"{one.ablated:.0f}",
            f"{one.memory:.0f}",
            f"{one.memory / one.plain - 1:+.1%}",
            f"{one.memory / one.ablated - 1:+.1%}",
            f"{one.plain_seconds:.0f}",
            f"{one.memory_seconds:.0f}",
        )
        for one in found
    )
    probes = tuple(
        (
            str(one.seed),
            str(distance),
            *(f"{value:.2f}" for value in (probe.mechanism, probe.in_situ, probe.top1, probe.ranked)),
            *(
                f"{value:.2f}"
                for value in (probe.top1_ablated, probe.ranked_ablated, probe.top1_absent, probe.ranked_absent)
            ),
        )
        for one in found
        for distance, probe in one.probes
    )
    corpus = found[0].corpus
    text = (
        f"`{command}`: {found[0].recordings} recordings, held-out bits per second of `frame` and of `memory` with equal "
        "width, blocks and windows of a second, and of the latter with its memory ablated. Below, retrieval of a needle "
        "among 100 others, at least so many real frames back: the worst of three seeds (ablated, which is chance: the "
        "mean); cosines of mechanism and in situ, shares of first codes at top 1 and of values ranked first, ablated and "
        "without a needle."
    )
    grids = (
        Grid(("seed", "frame", "ablated", "memory", "to frame", "to ablated", "s, frame", "s, memory"), rows),
        Grid(
            (
                "seed",
                "frames back",
                "mechanism",
                "in situ",
                "top 1",
                "ranked",
                "top 1, ablated",
                "ranked, ablated",
                "top 1, absent",
                "ranked, absent",
            ),
            probes,
        ),
    )
    return Section(f"use {corpus}", f"Benefit of a memory on `{corpus}`", text, grids)


def prior_section(report: PriorReport, command: str) -> Section:
    """Prior comparison on one corpus."""
    plan = report.trained[0]
    rows = []
    for one in report.trained:
        seconds, bits = one.best
        reached = one.seconds_to(plan.best[1])
        rows.append(
            (
                one.name,
                f"{one.parameters / 1e6:.2f} M",
                f"{bits:.0f}",
                f"{bits / plan.best[1] - 1:+.1%}",
                number(bits / report.counting, 2),
                "–" if one.start is None else f"{one.start:.0f}",
                ", ".join(f"{value:.1f}" for value in one.perplexities),
                f"{seconds:.0f} of {one.curve[-1][0]:.0f}",
                f"{reached:.1f}" if math.isfinite(reached) else "–",
                number(reached / plan.best[0], 2),
            )
        )
    columns = (
        "prior",
        "weights",
        "bits/s",
        "difference",
        "to counting",
        "before training",
        "perplexity by level",
        "best after s",
        "s to the plan's best",
        "ratio",
    )
    costs = (("first step after", "logging, checkpoints, inspections", "bytes a code in memory"),)
    text = (
        f"`{command}`: tier {report.tier}, {report.recordings} recordings, {report.train_frames} training frames, "
        f"{report.val_frames} held out; codes of a codec trained for {report.codec_seconds:.0f} s, whose uniform code takes "
        f"{report.uniform:.0f} bits per second. Counting alone takes {report.counting:.0f}."
    )
    cost = (f"{report.first_step:.2f} s", f"{report.overhead:.1%} of a run", f"{report.bytes_per_code:.2f}")
    return Section(
        f"prior {report.corpus}",
        f"Prior on `{report.corpus}`",
        text,
        (Grid(columns, tuple(rows)), Grid(costs[0], (cost,))),
    )


def novelty_section(report: NoveltyReport, command: str) -> Section:
    """Novelty verdicts and distances of sounds on one corpus."""
    rows = []
    for kind in report.kinds:
        rows.append(
            (
                kind.name,
                *_likeness(kind.report),
                ", ".join(f"{value:.2f}" for value in kind.seconds),
                f"{kind.durations:.2f}",
                *_verdicts(kind.report),
            )
        )
    first = report.kinds[0].report
    null = "–"
    if first.distance is not None:
        null = f"{first.distance.null_mean:.1f} ± {first.distance.null_deviation:.1f}"
    baseline = "–" if first.diversity is None else f"{first.diversity.baseline:.1f}"
    columns = (
        "sounds",
        "kernel distance",
        "diversity",
        "mean s",
        "s at 10, 50, 90 %",
        "KS of durations",
        "new, close, copy",
        "percentiles",
    )
    checks = (
        ("training recordings with 5 % of codes replaced, judged copies", f"{report.copied:.1%}"),
        ("held-out recordings judged copies, each half against the other", f"{report.held_out:.1%}"),
        *(
            (
                f"pairs in which the over-trained sound is more similar to training ({one.space})",
                f"{one.share:.0%}, z = {one.deviations:.1f}",
            )
            for one in report.apart
        ),
    )
    text = (
        f"`{command}`: {report.recordings} recordings; our prior after {report.epochs} epochs, and over-trained for four "
        f"times as many with nothing held out; 64 sounds of each kind, 4 s at most. As many training recordings have a "
        f"kernel distance of {null} to held-out ones and a diversity of {baseline}; held-out recordings last "
        f"{first.held_out_mean_seconds:.2f} s. KS of durations: Kolmogorov-Smirnov statistic of the durations of generated "
        f"and held-out sounds; of training recordings it is {report.durations:.2f}."
    )
    pictures = "".join(
        f"\n\n![Spectrograms of generated sounds and of control sounds]({name})" for name in report.pictures
    )
    grids = (Grid(columns, tuple(rows)), Grid(("check", "found"), checks))
    return Section(f"novelty {report.corpus}", f"Novelty and distance on `{report.corpus}`", text + pictures, grids)


def variations_section(report: VariationsReport, command: str) -> Section:
    """Variations of the recordings of one corpus, by strength."""
    rows = tuple(
        (
            f"{one.strength:.1f}",
            number(one.mel, 3),
            f"{one.difference_db:.1f}",
            f"{one.equal_codes:.0%}",
            f"{one.own:.0%}",
            f"{one.own_others:.0%}",
            f"{number(one.semitones, 2)} ({one.pitched})",
            "–" if not one.strength else str(one.equal),
            str(one.wrong_lengths),
        )
        for one in report.strengths
    )
    columns = ("strength", "mel L1", "dB", "equal codes", "own kind", "without itself", "semitones (takes)", "the same")
    text = (
        f"`{command}`: {TAKES} takes of each of {report.recordings} recordings with `{report.model}`. Strength 0 is the "
        "decoded recording, 1 a free draw of its length. Distances are to the decoded recording; their rank correlation "
        f"with strength is at least 0.9 for {report.growing:.0%} of recordings, {min(report.correlations):.3f} at least. "
        "Own kind: the nearest recording is of the same folder; then the same without the varied one. Semitones: median "
        "change where both have a pitch. The same: takes equal to another or to the recording."
    )
    title = f"Variations on `{report.corpus}`"
    return Section(f"variations {report.corpus}", title, text, (Grid((*columns, "other length"), rows),))


def faults_section(report: FaultsReport, command: str) -> Section:
    """Faults of the sounds of one model beside those of recordings."""
    rows = []
    for name, found in report.sides():
        rates = FaultReport(found, ()).metrics()
        shares = (rates[f"{kind}_rate"] for kind in ("fault", *FAULTS))
        rows.append((name, str(len(found)), *(f"{share:.0%}" for share in shares)))
    text = (
        f"`{command}`: sounds of `{report.model}` that end by themselves, with [faults](novelty.md#faults). Limits are those "
        "of the training recordings, which held-out ones had no part in. Left out: each training recording is judged by "
        "the limits of the others."
    )
    columns = ("sounds", "number", "faulty", *FAULTS)
    return Section(f"faults {report.model}", f"Faults of `{report.model}`", text, (Grid(columns, tuple(rows)),))


def labels_section(report: LabelsReport, command: str) -> Section:
    """Label accuracy of sounds on one corpus."""
    rows = [
        (
            f"{one.guidance:g}" if one.guidance else "unconditional",
            f"{one.own:.0%}",
            *_likeness(one.report),
            *_verdicts(one.report),
        )
        for one in report.asked
    ]
    columns = ("guidance", "own folder", "kernel distance", "diversity", "mean s", "new, close, copy", "percentiles")
    labelled, unlabelled, without = report.bits
    text = (
        f"`{command}`: {report.recordings} recordings in {report.labels} folders; some 192 sounds at each guidance, of each "
        f"folder in proportion to its training recordings, 4 s at most. Own folder: the share of sounds whose nearest "
        f"training recording, by the statistics of the kernel distance, has the label; {report.chance:.0%} by chance, and "
        f"{report.held_out:.0%} of held-out recordings. These last {report.asked[0].report.held_out_mean_seconds:.2f} s and "
        f"take {labelled:.0f} bits/s with their labels, {unlabelled:.0f} without, and {without:.0f} by a prior trained "
        f"without labels."
    )
    return Section(f"labels {report.corpus}", f"Labels on `{report.corpus}`", text, (Grid(columns, tuple(rows)),))


def pretrained_section(report: PretrainedReport, command: str) -> Section:
    """Priors of few and many recordings after few and many steps, with pretrained weights and without."""
    rows = tuple(
        (
            str(one.recordings),
            f"{one.counting:.0f}",
            *(f"{bits:.0f}" for bits in one.nothing),
            *(f"{bits:.0f}" for bits in one.pretrained),
        )
        for one in report.trained
    )
    columns = (
        "recordings",
        "counting",
        *(f"from nothing, {steps}" for steps in STEPS),
        *(f"pretrained, {steps}" for steps in STEPS),
    )
    (new, close, copies), null = report.verdicts, report.null
    text = (
        f"`{command}`: bits per second of {report.held_out} held-out recordings, by counts alone and by priors of so many "
        f"recordings, the best weights within so many steps; without early stopping. The prior before any training makes "
        f"sounds of which {new} are new, {close} close and {copies} copies of {report.practice} of the synthetic "
        f"recordings that it was pretrained on; of other recordings that are synthesised alike {null[0]}, {null[1]} and "
        f"{null[2]}."
    )
    return Section(
        f"pretrained {report.corpus}", f"Pretrained weights on `{report.corpus}`", text, (Grid(columns, rows),)
    )


def _likeness(found: SetReport) -> tuple[str, str, str]:
    """Kernel distance, diversity and mean length of a set."""
    distance = "–" if found.distance is None else number(found.distance.value, 1)
    diversity = "–" if found.diversity is None else f"{found.diversity.value:.1f}"
    return distance, diversity, f"{found.mean_seconds:.2f}"


def _verdicts(found: SetReport) -> tuple[str, str]:
    """Verdicts on the sounds of a set and their mean percentiles."""
    percentiles = f"{found.mean_percentile_codes:.0%}, {found.mean_percentile_spectra:.0%}"
    return f"{found.new}, {found.close}, {found.copies}", percentiles


def throughput_section(found: Sequence[Throughput], command: str) -> Section:
    """Training throughput for one shape."""
    ours, others = found[0], found[1:]
    best = max(one.bf16 for one in others)
    rows = tuple(
        (one.name, f"{one.fp32:.0f}", f"{one.bf16:.0f}", f"{ours.bf16 / one.bf16:.2f}", f"{ours.bf16 / one.fp32:.2f}")
        for one in found
    )
    columns = ("network", "tokens/s, fp32", "tokens/s, bf16", "ours bf16 / its bf16", "ours bf16 / its fp32")
    text = (
        f"`{command}`: width 256, 4 blocks, 4 heads, 128 codes, 32 x 188 tokens, forward, backward and AdamW, each "
        f"in a process of its own, interleaved, medians; ours, with memory kept between steps as in training, against the "
        f"best of the others: {ours.bf16 / best:.2f}."
    )
    return Section("throughput", "Training throughput", text, (Grid(columns, rows),))


def sampling_section(drawn: Sequence[Drawn], made: Sequence[Made], command: str) -> Section:
    """Sampling speed for one shape, and generation speed of model files."""
    fastest = {batch: min((one.ours[batch] for one in drawn[1:]), default=math.nan) for batch in drawn[0].tokens}
    rows = tuple(
        (one.name, *(f"{one.tokens[b]:.0f}" for b in one.tokens), *(f"{one.ours[b]:.2f}" for b in one.tokens))
        for one in drawn
    )
    columns = ("network", "tokens/s, one", "tokens/s, 16", "ours / it, one", "ours / it, 16")
    sounds = tuple(
        (
            one.model,
            *(f"{value:.1f}" for value in one.real_time.values()),
            f"{one.cold_start:.1f} s",
            f"{one.judging:.1f} s",
        )
        for one in made
    )
    text = (
        f"`{command}`: width 256, 4 blocks, 4 heads, 128 codes, 188 tokens sampled with a cache, fp32, each in a process of "
        f"its own, interleaved, medians; ours against the fastest of the others, medians of each round's ratio: "
        + ", ".join(f"{ratio:.2f} for {batch}" for batch, ratio in fastest.items())
        + ". Below: sounds of 4 s sampled and decoded, `distill generate` from its start to a file of a second, and the "
        "novelty of 64 sounds of 4 s against 1000 minutes of random codes."
    )
    grids = [Grid(columns, rows)]
    if sounds:
        grids.append(Grid(("model", "x real time, one", "x real time, 16 at once", "cold start", "judging"), sounds))
    return Section("sampling", "Sampling", text, tuple(grids))


def kills_section(found: Kills, command: str) -> Section:
    """Resumption of a training after kills."""
    row = (str(found.kills), f"{found.seconds:.0f}", "yes" if found.equal else "NO")
    text = f"`{command}`: a prior's training killed with SIGKILL at random moments and started again each time."
    columns = ("kills", "seconds in all", "weights, history and log as without")
    return Section("kills", "Killed training", text, (Grid(columns, (row,)),))


def show(section: Section, console: Console) -> None:
    """Print a section on the terminal."""
    console.print(f"\n[bold]{section.title}[/bold]")
    console.print(section.text, markup=False, highlight=False)
    for grid in section.tables:
        table = Table(*grid.columns)
        for row in grid.rows:
            table.add_row(*row)
        console.print(table)


def write_markdown(path: Path, sections: Sequence[Section]) -> None:
    """Write sections into the file; each replaces the one with the same key, other sections stay."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    blocks = {match.group(1): match.group(0) for match in BLOCK.finditer(text)}
    blocks |= {section.key: _block(section) for section in sections}
    text = INTRODUCTION + "".join(blocks.values())
    write_bytes(path, text.encode())


def write_json(path: Path, command: str, **found: Sequence[Any]) -> None:
    """Write all measurements, those of each recording included; NaN and infinite values become null."""
    values = {"command": command} | {name: [dataclasses.asdict(one) for one in every] for name, every in found.items()}
    write_bytes(path, (json.dumps(_finite(values), indent=2, allow_nan=False) + "\n").encode())


def _block(section: Section) -> str:
    tables = "\n".join(_markdown(grid) for grid in section.tables)
    return f"\n<!-- {section.key} -->\n## {section.title}\n\n{section.text}\n\n{tables}<!-- end -->\n"


def _markdown(grid: Grid) -> str:
    rows = (grid.columns, ("---",) * len(grid.columns), *grid.rows)
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _speed(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def number(value: float, digits: int) -> str:
    """A finite number, or a dash."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _interval(difference: Difference, digits: int) -> str:
    if not math.isfinite(difference.mean):
        return "–"
    return f"{difference.mean:+.{digits}f} [{difference.low:+.{digits}f}, {difference.high:+.{digits}f}]"


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
