"""Report of generated sounds: novelty, takes, faults, labels."""

from benchmarks.faults import FaultsReport
from benchmarks.labels import LabelsReport
from benchmarks.novelty import NoveltyReport
from benchmarks.report import Grid, Section, number
from benchmarks.variations import TAKES, VariationsReport
from distill.generate.faults import FAULTS, FaultReport
from distill.novelty.report import SetReport


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


def _likeness(found: SetReport) -> tuple[str, str, str]:
    """Kernel distance, diversity and mean length of a set."""
    distance = "–" if found.distance is None else number(found.distance.value, 1)
    diversity = "–" if found.diversity is None else f"{found.diversity.value:.1f}"
    return distance, diversity, f"{found.mean_seconds:.2f}"


def _verdicts(found: SetReport) -> tuple[str, str]:
    """Verdicts on the sounds of a set and their mean percentiles."""
    percentiles = f"{found.mean_percentile_codes:.0%}, {found.mean_percentile_spectra:.0%}"
    return f"{found.new}, {found.close}, {found.copies}", percentiles
