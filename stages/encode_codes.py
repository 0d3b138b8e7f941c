"""Stage `encode_codes`: every recording to codes, those to learn from in several views."""

import time
from collections.abc import Mapping

from distill.audio.corpus import load_corpus
from distill.codec.artifact import load_codec
from distill.codes.encode import encode_for_prior, usage
from distill.execution import execution_from_environment
from distill.params import Params
from distill.progress import ProgressReport
from distill.training.fabric import make_fabric
from stages.running import CODES, CORPUS, VQVAE, run_stage, write_metrics


def main(params: Params) -> Mapping[str, float]:
    corpus = load_corpus(CORPUS)
    codec, config = load_codec(VQVAE)
    make_fabric(execution_from_environment()).to_device(codec)
    seconds = sum(entry.samples for entry in corpus.entries) / corpus.sample_rate
    views, fraction = params.codes.resolve(seconds), params.split.resolve(len(corpus.entries))
    began = time.monotonic()
    with ProgressReport("encode") as progress:
        counts = encode_for_prior(
            codec, config.codec_sha256, corpus, CODES, views, fraction, params.seed, progress, params.corpus.labels
        )
        took = time.monotonic() - began
        frames = int(counts[0].sum())
        progress.say(f"{frames} frames, {views} views of each recording to learn from, {took:.1f} s")
    write_metrics("encode_codes", {"frames": frames, "tokens": int(counts.sum()), "views": views, **usage(counts)})
    return {}


if __name__ == "__main__":
    run_stage("encode_codes", main)
