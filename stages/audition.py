"""Stage `audition`: generate sounds with the model file and compare them with the nearest training recordings."""

from distill.params import Params
from stages.running import AUDITION, FOLDERS, bundle_path, run_stage, tracking_root, write_metrics


def main(params: Params) -> None:
    from distill.audio.corpus import load_corpus
    from distill.generate.context import GenerationContext
    from distill.generate.presentation.audition import audition
    from distill.model_file.build import measured
    from distill.model_file.format import load_bundle
    from distill.prior.data import read_prior_data
    from distill.storage.files import atomic_folder
    from distill.training.tracking import track_audition

    bundle, corpus = load_bundle(bundle_path(params)), load_corpus(FOLDERS.corpus)
    with atomic_folder(AUDITION) as folder:
        reference = bundle.reference or measured(  # a model file can lack it, but audition needs it
            read_prior_data(FOLDERS.codes, FOLDERS.split, params.seed).reference(), bundle.codec
        )
        assert bundle.prior is not None  # written by the previous stage
        context = GenerationContext(
            bundle.codec, bundle.prior, reference, bundle.labels, critic=bundle.metadata.critic
        )
        metrics, times_real_time = audition(context, corpus, params.audition, params.seed, folder)
    write_metrics("audition", metrics)
    figures = {**metrics, "times_real_time": times_real_time}
    settings = {**params.audition.model_dump(), "seed": params.seed}
    track_audition(
        tracking_root(), bundle.metadata.provenance.prior_fingerprint, figures, settings, AUDITION
    )


if __name__ == "__main__":
    run_stage("audition", main)
