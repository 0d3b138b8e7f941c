"""Stage `train_prior`: train the prior on codes."""

from distill.execution import STATE
from distill.params import Params
from stages.ops.processes import over_processes
from stages.running import FOLDERS, conclude, run_stage, tracking_root


def main(params: Params) -> None:
    from distill.execution import execution_from_environment
    from distill.prior.training import print_prior, train_prior_of_codes
    from distill.progress import LastingConsole

    execution = execution_from_environment()
    trained = train_prior_of_codes(
        FOLDERS.codes, FOLDERS.split, FOLDERS.prior, params, execution, STATE, tracking_root()
    )
    if trained.metrics:
        print_prior(trained, LastingConsole(stderr=True, highlight=False))
        conclude("train_prior", trained)


if __name__ == "__main__":
    run_stage("train_prior", over_processes("train_prior", main))
