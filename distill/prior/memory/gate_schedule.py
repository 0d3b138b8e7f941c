"""Weight of the polarisation loss over training, and early failure where gates collapse."""

from collections.abc import Mapping, Sequence

from distill.errors import DistillError
from distill.params import MemoryConfig
from distill.prior.memory.gates import GateFigures

FINAL_SHARE = 0.01  # of the initial polarisation weight
MIN_STD = 0.01
MIN_GROWTH = 1.5  # of the gates' variance from the first check to the second
MIN_POLARISED = 0.2
FIRST_CHECK, SECOND_CHECK, FULL_LENGTH = 100, 500, 1000  # steps; shorter trainings check earlier in proportion


def polarisation_weight(step: int, total_steps: int, memory: MemoryConfig) -> float:
    """Weight of the polarisation loss: constant through the warm-up, then decaying exponentially to a hundredth."""
    progress = step / max(1, total_steps)
    if progress <= memory.polarisation_warmup:
        return memory.polarisation
    decay_progress = (progress - memory.polarisation_warmup) / (1 - memory.polarisation_warmup)
    return float(memory.polarisation * FINAL_SHARE ** min(1.0, decay_progress))


def gate_metrics(figures: Sequence[GateFigures]) -> dict[str, float]:
    """Gate statistics under their metric names."""
    return {
        f"gates/layer_{layer}/{name}": value
        for layer, figure in enumerate(figures)
        for name, value in figure._asdict().items()
    }


def stop_if_gates_collapse(
    step: int, total_steps: int, figures: Sequence[GateFigures], earlier: Sequence[Mapping[str, float]]
) -> None:
    """Fast-fail: raises DistillError where the gates have collapsed. The layer with the widest gates counts.

    `figures` are those after `step` steps, `earlier` has the metrics that were inspected before.
    Gates have collapsed where their standard deviation is below `MIN_STD` after 100 steps; or where, after 500, their
    variance has not grown by half since then and few are polarised. Gates that polarised early cannot vary ever more:
    the variance of values between 0 and 1 is at most a quarter.
    """
    scale = min(1.0, total_steps / FULL_LENGTH)
    widest = max(figures, key=lambda figure: figure.std)
    advice = (
        "the memory is not used: set prior.architecture: frame, or prior.memory.fast_fail: false to continue training"
    )
    if step >= FIRST_CHECK * scale and widest.std < MIN_STD:
        raise DistillError(
            f"training stopped at step {step}: expected gates of the memory that differ, with a standard "
            f"deviation of at least {MIN_STD}, found {widest.std:.4f}; {advice}"
        )
    if step < SECOND_CHECK * scale:
        return
    first = next((variance_of(line) for line in earlier if has_gates_after(line, FIRST_CHECK * scale)), None)
    polarised = max(figure.polarised for figure in figures)
    if first is not None and widest.variance < MIN_GROWTH * first and polarised < MIN_POLARISED:
        raise DistillError(
            f"training stopped at step {step}: expected gates of the memory that open and close, found a variance of "
            f"{widest.variance:.4f} after {first:.4f} and {polarised:.0%} of them polarised; {advice}"
        )


def has_gates_after(line: Mapping[str, float], step: float) -> bool:
    """Whether these metrics have gate statistics, of `step` or later."""
    return line["step"] >= step and "gates/layer_0/std" in line


def variance_of(line: Mapping[str, float]) -> float:
    """Variance of the gates of the layer with the widest gates."""
    return max(float(value) ** 2 for name, value in line.items() if name.startswith("gates/") and name.endswith("/std"))
