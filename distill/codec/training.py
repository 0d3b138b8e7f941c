"""Training of the codec: initialise from the corpus, train, keep the epoch with the lowest held-out loss."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from lightning_fabric import Fabric

from distill.audio.corpus import MANIFEST, Corpus, load_corpus
from distill.codec.artifact import CodecArtifact
from distill.codec.build import build_vqvae
from distill.codec.constants import BETAS, RATE_DROPS, WARMUP_STEPS
from distill.codec.data import CodecData
from distill.codec.evaluation import CodecPreviews, held_out_fidelity
from distill.codec.initialise import initialise
from distill.codec.model import VQVAE
from distill.codec.report import CodecConsole
from distill.codec.task import CodecTask, health_from_metrics, utilization_warnings
from distill.execution import Execution
from distill.params import Params, VQVAEConfig
from distill.storage.files import sha256_file
from distill.storage.weights import weights_sha256
from distill.training.artifact import save_artifact
from distill.training.checkpoints import CheckpointStore
from distill.training.distributed import Stop
from distill.training.events import CodebookHealth, VQEvent
from distill.training.fabric import make_fabric
from distill.training.folders import RunFolders
from distill.training.interruption import Interruption
from distill.training.observers import ToCallback
from distill.training.patience import budget_seconds
from distill.training.run import Run, RunKey, TrackedRun, Trained, tracked_run
from distill.training.task import TrainerSettings
from distill.training.trainer import Trainer


@dataclass(frozen=True, eq=False, kw_only=True)
class CodecTraining(Trained):
    """A trained codec (on the CPU, best weights, eval mode), and the best epoch's codebook health."""

    model: VQVAE
    codebook_health: CodebookHealth

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of levels that use few of their codewords."""
        return utilization_warnings(self.codebook_health, self.model.architecture.gain_shape)


def train_vqvae(
    corpus: Corpus,
    config: VQVAEConfig,
    val_fraction: float,
    seed: int,
    fabric: Fabric,
    store: CheckpointStore | None = None,
    callback: Callable[[VQEvent], None] | None = None,
    *,
    interruption: Interruption | None = None,
    cancel_event: Stop | None = None,
) -> CodecTraining:
    """Train a codec on the training side of a corpus, without writing files but the checkpoints of `store`.

    `callback` gets the events. Setting `cancel_event` ends training within a step and keeps the best weights so far.
    Raises Interrupted after saving when `interruption` asks, DistillError when training diverges.
    """
    data = CodecData.split(corpus, val_fraction, seed)
    observers = () if callback is None else (ToCallback(callback),)
    run = Run(fabric, store, observers, interruption, cancel_event)
    return fit_codec(codec_to_train(data, config, seed), data, config, seed, run)


def train_codec(
    corpus_folder: Path, folder: Path, params: Params, execution: Execution, folders: RunFolders
) -> CodecTraining:
    """Train a codec on the corpus in `corpus_folder` and write the artefact `folder`, for stage and command.

    Resumes, and raises Interrupted after saving. The first process measures the fidelity of held-out recordings, and
    keeps previews of some before and after.
    """
    fabric = make_fabric(execution)
    corpus = load_corpus(corpus_folder)
    recordings, seed = len(corpus.entries), params.seed
    config, val_fraction = params.vqvae_config(recordings), params.split.resolve(recordings)
    tier = params.tier_name(recordings)
    settings = {**config.model_dump(), "val_fraction": val_fraction, "seed": seed, "tier": tier}
    key = RunKey("train_vqvae", {"corpus": sha256_file(corpus_folder / MANIFEST)}, settings)
    data = CodecData.split(corpus, val_fraction, seed)
    with tracked_run(key, "codec", recordings, fabric, folders) as run:
        codec, previews = codec_to_train(data, config, seed), CodecPreviews(data)
        if run.is_first:
            previews.start(codec)
            _track_previews(previews, run)
        trained = fit_codec(codec, data, config, seed, run.observed_by(CodecConsole(run.console)))
        if not run.is_first:
            return trained
        previews.finish(trained.model, trained.result.last_tensors)
        fidelity = held_out_fidelity(trained.model, data)
        run.tracker.metrics(fidelity, 0)
        result = trained.result
        artifact = CodecArtifact(
            architecture=trained.model.architecture,
            training=config,
            recordings=recordings,
            seed=seed,
            val_fraction=val_fraction,
            best_epoch=result.best_epoch,
            epochs_trained=len(result.history),
            codebook_health=trained.codebook_health,
            corpus_sha256=key.inputs["corpus"],
            codec_sha256=weights_sha256(trained.model),
            fingerprint=key.fingerprint,
            tier=tier,
        )
        save_artifact(folder, trained.model, artifact, result.history, lambda path: previews.write(path / "previews"))
        run.keep(folder)
    best = {
        name: value
        for name, value in result.best_metrics.items()
        if name.startswith(("val_", "train_loss", "codebook/"))
    }
    metrics = {**fidelity, **best, **result.counts}
    return replace(trained, metrics=metrics, recordings=recordings, tier=tier, store=run.store)


def codec_to_train(data: CodecData, config: VQVAEConfig, seed: int) -> VQVAE:
    """Build a codec and fit it to the training recordings, as training begins. Raises ParamsError."""
    model = build_vqvae(data.corpus.sample_rate, config, seed)
    initialise(model, data.corpus, data.train, seed)
    return model


def fit_codec(model: VQVAE, data: CodecData, config: VQVAEConfig, seed: int, run: Run) -> CodecTraining:
    """Train a codec that `codec_to_train` made.

    Raises Interrupted after saving when `run` asks, DistillError when training diverges.
    """
    task = CodecTask(model, data, config, seed, run.fabric)
    settings = TrainerSettings(
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=BETAS,
        gradient_clip=config.gradient_clip,
        warmup_steps=WARMUP_STEPS,
        patience=config.patience,
        seed=seed,
        rate_shares={"encoder.": config.encoder_rate, "to_latent.": config.encoder_rate},
        validate_initial=True,
        drops=RATE_DROPS,
        budget_seconds=budget_seconds(config.budget_minutes, config.epochs * task.steps_per_epoch),
    )
    result = Trainer(task, settings, run).run()
    health = health_from_metrics(result.best_metrics)
    return CodecTraining(result=result, model=model.cpu().eval(), codebook_health=health)


def _track_previews(previews: CodecPreviews, run: TrackedRun) -> None:
    """Send the previews that there are so far to MLflow."""
    if not run.tracker.off:
        with TemporaryDirectory() as folder:
            previews.write(Path(folder))
            run.tracker.artifact(Path(folder), "previews")
