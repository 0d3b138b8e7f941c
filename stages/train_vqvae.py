"""Stage `train_vqvae`: the corpus to a trained codec."""

from collections.abc import Mapping

from rich.console import Console

from distill.codec.report import print_codec
from distill.codec.run import CodecSettings, run_codec_training
from distill.execution import execution_from_environment
from distill.params import Params
from stages.running import CHECKPOINTS, CORPUS, STOP, VQVAE, run_stage, tracking_root, write_metrics


def main(params: Params) -> Mapping[str, float]:
    settings = CodecSettings(params.vqvae, params.split, params.tier, params.seed)
    run = run_codec_training(CORPUS, VQVAE, CHECKPOINTS, settings, execution_from_environment(), tracking_root(), STOP)
    print_codec(run.training, Console(stderr=True, highlight=False))
    write_metrics("train_vqvae", run.figures)
    run.store.clear()
    return {}


if __name__ == "__main__":
    run_stage("train_vqvae", main)
