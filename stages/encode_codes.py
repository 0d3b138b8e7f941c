"""Stage `encode_codes`: every recording to codes."""

import time
from collections.abc import Mapping

from distill.audio.corpus import load_corpus
from distill.codes.store import CodesConfig, CodesWriter
from distill.console import ProgressReport
from distill.encoding import encode_corpus, usage
from distill.execution import execution_from_environment
from distill.files import atomic_folder
from distill.params import Params
from distill.training.codec_artifact import load_codec
from distill.training.fabric import make_fabric
from stages.running import CODES, CORPUS, VQVAE, run_stage, write_metrics


def main(_: Params) -> Mapping[str, float]:
    corpus = load_corpus(CORPUS)
    codec, config = load_codec(VQVAE)
    make_fabric(execution_from_environment()).to_device(codec)
    geometry = CodesConfig(
        codebook_size=config.architecture.codebook_size,
        num_quantizers=config.architecture.num_quantizers,
        frame_rate=config.architecture.spectrogram.frame_rate,
        codec_sha256=config.codec_sha256,
    )
    seconds = sum(entry.samples for entry in corpus.entries) / corpus.sample_rate
    began = time.monotonic()
    with atomic_folder(CODES) as folder, ProgressReport("encode") as progress:
        counts = encode_corpus(codec, corpus, CodesWriter(folder, geometry), progress)
        speed = seconds / (time.monotonic() - began)
        progress.say(f"{int(counts[0].sum())} frames, {speed:.0f} x real time")
    write_metrics("encode_codes", {"frames": int(counts[0].sum()), "tokens": int(counts.sum()), **usage(counts)})
    return {"times_real_time": speed}


if __name__ == "__main__":
    run_stage("encode_codes", main)
