"""Stage `audition`: generate sounds with the model file and compare them with the nearest training recordings."""

from collections.abc import Mapping

from distill.params import Params
from distill.training.folders import STATE
from stages.running import AUDITION, FOLDERS, bundle_path, run_stage, tracking_root, write_metrics


def main(params: Params) -> Mapping[str, float]:
    from distill.audio.corpus import load_corpus
    from distill.cluster import shared_cluster
    from distill.execution import execution_from_environment
    from distill.generate.audition import audition
    from distill.model_file.format import load_bundle
    from distill.novelty.reference import reference_of_codes
    from distill.novelty.scoring import with_scores
    from distill.storage.files import atomic_folder
    from distill.training.tracking import track_audition

    bundle, cluster = load_bundle(bundle_path(params)), shared_cluster(execution_from_environment(), STATE)
    # A model may be made without its reference; its audition still compares.
    reference = bundle.reference or with_scores(reference_of_codes(FOLDERS.codes, FOLDERS.split), bundle.codec, cluster)
    corpus = load_corpus(FOLDERS.corpus)
    with atomic_folder(AUDITION) as folder:
        networks = (bundle.codec, bundle.prior, bundle.labels)
        done = audition(*networks, reference, corpus, params.audition, params.seed, folder, cluster)
    write_metrics("audition", done.metrics())
    figures = {**done.metrics(), "times_real_time": done.times_real_time}
    track_audition(tracking_root(), bundle.metadata.provenance.prior_fingerprint, figures, AUDITION)
    return {"times_real_time": done.times_real_time}


if __name__ == "__main__":
    run_stage("audition", main)
