"""Stage `train_prior`: codes to a trained prior."""

from collections.abc import Mapping

from distill.codes.store import CodesReader, codes_by_side
from distill.console import ProgressReport
from distill.execution import execution_from_environment
from distill.files import sha256_file, sha256_files
from distill.params import Params, tier_for
from distill.training.artifacts import checkpoint_key, fingerprint
from distill.training.checkpoints import CheckpointStore
from distill.training.fabric import make_fabric
from distill.training.interruption import catch_interruption
from distill.training.prior import fit_prior
from distill.training.prior_report import save_prior, show_prior_progress
from distill.training.tracking import tracked
from stages.running import CHECKPOINTS, CODES, PRIOR, SPLIT, run_stage, tracking_root, write_metrics


def main(params: Params) -> Mapping[str, float]:
    fabric = make_fabric(execution_from_environment())
    reader = CodesReader(CODES)
    train, held_out = codes_by_side(reader, SPLIT)
    recordings = len(train) + len(held_out)
    config = params.prior.resolve(recordings, params.tier, params.split)
    settings = {**config.model_dump(), "seed": params.seed, "tier": tier_for(recordings, params.tier).name}
    inputs = {"codes": sha256_files(CODES.iterdir(), CODES), "split": sha256_file(SPLIT)}
    mark = fingerprint("train_prior", inputs, settings)
    store = CheckpointStore(CHECKPOINTS / checkpoint_key(mark))
    with (
        catch_interruption() as interruption,
        tracked(tracking_root(), "train_prior", mark, {**settings, "recordings": recordings}) as tracker,
        ProgressReport("prior") as progress,
    ):
        training = fit_prior(
            list(train.values()),
            list(held_out.values()),
            reader.config,
            config,
            params.seed,
            fabric,
            store,
            show_prior_progress(progress, tracker),
            tracker.metrics,
            interruption,
        )
        metrics = save_prior(PRIOR, training, config, reader.config, recordings, mark)
        tracker.artifact(PRIOR / "model.safetensors", "checkpoint")
        tracker.artifact(PRIOR / "config.json", "checkpoint")
    write_metrics("train_prior", metrics)
    store.clear()
    return {}


if __name__ == "__main__":
    run_stage("train_prior", main)
