"""Stage `train_prior`: codes to a trained prior."""

from collections.abc import Mapping

from distill.execution import execution_from_environment
from distill.params import Params
from distill.prior.run import PriorSettings, run_prior_training
from stages.running import CHECKPOINTS, CODES, PRIOR, SPLIT, STOP, run_stage, tracking_root, write_metrics


def main(params: Params) -> Mapping[str, float]:
    settings = PriorSettings(params.prior, params.split, params.tier, params.seed)
    run = run_prior_training(
        CODES, SPLIT, PRIOR, CHECKPOINTS, settings, execution_from_environment(), tracking_root(), STOP
    )
    if run.is_first:
        write_metrics("train_prior", run.figures)
        run.store.clear()
    return {}


if __name__ == "__main__":
    run_stage("train_prior", main)
