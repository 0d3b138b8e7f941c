"""Stage `audition`: what the bundle sounds like, beside the nearest training recordings."""

import time
from collections.abc import Mapping

from distill.audio.corpus import load_corpus
from distill.bundle import load_bundle
from distill.codes.store import CodesReader, codes_by_side
from distill.files import atomic_folder
from distill.generate.audition import audition
from distill.params import Params
from distill.training.tracking import Tracker
from stages.running import AUDITION, CODES, CORPUS, SPLIT, bundle_path, run_stage, tracking_root, write_metrics


def main(params: Params) -> Mapping[str, float]:
    bundle = load_bundle(bundle_path(params))
    sides = codes_by_side(CodesReader(CODES), SPLIT)
    training = {name: views[0] for name, views in sides.train.items()}
    with atomic_folder(AUDITION) as folder:
        report = audition(
            bundle, load_corpus(CORPUS), training, sides.held_out, params.audition, params.seed, folder, time.monotonic
        )
    write_metrics("audition", report.metrics())
    speed = report.seconds / report.generation_seconds
    tracker = Tracker(tracking_root(), "train_prior", bundle.metadata.provenance.prior_fingerprint)
    tracker.resume_latest()
    figures = {**report.metrics(), "times_real_time": speed}
    tracker.metrics({f"audition/{name}": value for name, value in figures.items()}, 0)
    tracker.flush()
    tracker.artifact(AUDITION, "audition")
    return {"times_real_time": speed}


if __name__ == "__main__":
    run_stage("audition", main)
