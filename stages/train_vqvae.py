"""Stage `train_vqvae`: train the codec on the corpus."""

from distill.params import Params
from stages.ops.processes import over_processes
from stages.running import FOLDERS, conclude, run_folders, run_stage


def main(params: Params) -> None:
    from rich.console import Console

    from distill.codec.training import print_codec, train_codec
    from distill.execution import execution_from_environment

    execution = execution_from_environment()
    trained = train_codec(FOLDERS.corpus, FOLDERS.vqvae, params, execution, run_folders())
    if trained.metrics:
        print_codec(trained, Console(stderr=True, highlight=False))
        conclude("train_vqvae", trained)


if __name__ == "__main__":
    run_stage("train_vqvae", over_processes("train_vqvae", main))
