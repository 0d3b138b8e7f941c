"""Stage `train_vqvae`: train the codec on the corpus."""

from distill.execution import STATE
from distill.params import Params
from stages.ops.processes import over_processes
from stages.running import FOLDERS, conclude, run_stage, tracking_root


def main(params: Params) -> None:
    from distill.codec.training import print_codec, train_codec
    from distill.execution import execution_from_environment
    from distill.progress import LastingConsole

    execution = execution_from_environment()
    trained = train_codec(FOLDERS.corpus, FOLDERS.vqvae, params, execution, STATE, tracking_root())
    if trained.metrics:
        print_codec(trained, LastingConsole(stderr=True, highlight=False))
        conclude("train_vqvae", trained)


if __name__ == "__main__":
    run_stage("train_vqvae", over_processes("train_vqvae", main))
