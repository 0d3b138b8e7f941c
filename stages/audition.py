"""Stage `audition`: what the bundle sounds like, beside the nearest training recordings."""

import time
from collections.abc import Mapping

from distill.audio.corpus import load_corpus
from distill.codes.store import CodesReader, codes_by_side
from distill.generate.audition import audition
from distill.model_file.format import load_bundle
from distill.novelty.reference import make_reference
from distill.novelty.scoring import with_scores
from distill.params import Params
from distill.storage.files import atomic_folder
from distill.training.tracking import Tracker
from stages.running import AUDITION, CODES, CORPUS, SPLIT, bundle_path, run_stage, tracking_root, write_metrics


def main(params: Params) -> Mapping[str, float]:
    bundle, corpus = load_bundle(bundle_path(params)), load_corpus(CORPUS)
    reference = bundle.reference
    if reference is None:  # the model goes without it, its audition does not
        reader = CodesReader(CODES)
        sides, names = codes_by_side(reader, SPLIT), reader.recordings()
        training = [views[0] for views in sides.train.values()]
        known = make_reference([names[one].path for one in sides.train], training, list(sides.held_out.values()))
        reference = with_scores(known, bundle.codec)
    with atomic_folder(AUDITION) as folder:
        done = audition(
            bundle.codec,
            bundle.prior,
            bundle.labels,
            reference,
            corpus,
            params.audition,
            params.seed,
            folder,
            time.monotonic,
        )
    write_metrics("audition", done.report.metrics())
    speed = done.report.seconds / done.generation_seconds
    tracker = Tracker(tracking_root(), "train_prior", bundle.metadata.provenance.prior_fingerprint)
    tracker.resume_latest()
    figures = {**done.report.metrics(), "times_real_time": speed}
    tracker.metrics({f"audition/{name}": value for name, value in figures.items()}, 0)
    tracker.flush()
    tracker.artifact(AUDITION, "audition")
    return {"times_real_time": speed}


if __name__ == "__main__":
    run_stage("audition", main)
