"""Training run of the codec, from a corpus on disk to an artefact on disk, for stage and command."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from distill.audio.corpus import MANIFEST, CorpusEntry, load_corpus
from distill.codec.evaluation import held_out_fidelity
from distill.codec.model import VQVAE
from distill.codec.previews import CodecPreviews
from distill.codec.report import save_codec, show_codec_progress
from distill.codec.training import CodecTraining, train_vqvae
from distill.execution import Execution
from distill.params import Params
from distill.storage.files import sha256_file
from distill.training.folders import RunFolders
from distill.training.run import FinishedRun, Job, RunContext, run_training


class CodecJob(Job[CodecTraining]):
    """Job of `run_training`: train a codec on the corpus in a folder."""

    stage, label = "train_vqvae", "codec"

    def __init__(self, corpus_folder: Path, params: Params) -> None:
        self.corpus = load_corpus(corpus_folder)
        self.recordings, self.seed = len(self.corpus.entries), params.seed
        self.config = params.vqvae_config(self.recordings)
        self.val_fraction = params.split.resolve(self.recordings)
        self.corpus_sha256 = sha256_file(corpus_folder / MANIFEST)
        self.inputs = {"corpus": self.corpus_sha256}
        self.settings = {
            **self.config.model_dump(),
            "val_fraction": self.val_fraction,
            "seed": self.seed,
            "tier": params.tier_name(self.recordings),
        }
        self.previews = CodecPreviews(self.corpus)

    def train(self, run: RunContext) -> CodecTraining:
        """Train the codec; the first process keeps previews of held-out recordings before and after."""

        def start(codec: VQVAE, held_out: Sequence[CorpusEntry]) -> None:
            if run.is_first:
                self.previews.start(codec, held_out)
                self._track_previews(run)

        trained = train_vqvae(
            self.corpus,
            self.config,
            self.val_fraction,
            self.seed,
            run.fabric,
            run.store,
            show_codec_progress(run.progress, run.tracker),
            run.record,
            run.interruption,
            run.stop,
            on_start=start,
        )
        if run.is_first:
            self.previews.finish(trained)
        return trained

    def measure(self, trained: CodecTraining, run: RunContext) -> dict[str, float]:
        """Measure the fidelity of held-out recordings, with the best weights; on the first process alone."""
        return held_out_fidelity(trained.model, self.corpus, trained.held_out) if run.is_first else {}

    def save(self, trained: CodecTraining, folder: Path, fingerprint: str) -> dict[str, float]:
        """Write the artefact and return the metrics."""
        split = (self.seed, self.val_fraction)
        return save_codec(
            folder,
            trained,
            self.config,
            self.previews,
            self.recordings,
            split,
            self.corpus_sha256,
            fingerprint,
            str(self.settings["tier"]),
        )

    def _track_previews(self, run: RunContext) -> None:
        """Send the previews that there are so far to MLflow."""
        if not run.tracker.off:
            with TemporaryDirectory() as folder:
                self.previews.write(Path(folder))
                run.tracker.artifact(Path(folder), "previews")


def train_codec(
    corpus_folder: Path, folder: Path, params: Params, execution: Execution, folders: RunFolders
) -> FinishedRun[CodecTraining]:
    """Train a codec on the corpus in `corpus_folder` and write the artefact `folder`. Raises as `run_training` does."""
    return run_training(lambda: CodecJob(corpus_folder, params), folder, execution, folders)
