"""Report of priors: held-out loss, memory, what pretrained weights are worth, speed, kills."""

import math
from collections.abc import Sequence

from benchmarks.kills import Kills
from benchmarks.long_memory import LongMemory, Use
from benchmarks.pretrained import STEPS, PretrainedReport
from benchmarks.prior import PriorReport
from benchmarks.report import Grid, Section, number
from benchmarks.sampling import Drawn, Made
from benchmarks.throughput import Throughput


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
    costs = (("first step after", "logging, checkpoints, inspections"),)
    text = (
        f"`{command}`: tier {report.tier}, {report.recordings} recordings, {report.train_frames} training frames, "
        f"{report.val_frames} held out; codes of a codec trained for {report.codec_seconds:.0f} s, whose uniform code takes "
        f"{report.uniform:.0f} bits per second. Counting alone takes {report.counting:.0f}."
    )
    cost = (f"{report.first_step:.2f} s", f"{report.overhead:.1%} of a run")
    return Section(
        f"prior {report.corpus}",
        f"Prior on `{report.corpus}`",
        text,
        (Grid(columns, tuple(rows)), Grid(costs[0], (cost,))),
    )


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
