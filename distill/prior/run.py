"""Training of a prior from codes on disk to an artefact on disk, for stage and command alike."""

import math
from pathlib import Path

from distill.execution import Execution
from distill.params import Params
from distill.prior.counting_baseline import counting_bits_per_second
from distill.prior.data import read_prior_data
from distill.prior.folds import measure_folds, planned_folds
from distill.prior.report import save_prior, show_prior_progress
from distill.prior.training import Calibrate, PriorTraining, fit_prior, why_not_pretrained
from distill.storage.files import sha256_file, sha256_files
from distill.training.folders import RunFolders
from distill.training.run import FinishedRun, Job, RunContext, run_training


class PriorJob(Job[PriorTraining]):
    """`Job` of `run_training`: train a prior on a folder of codes, with held-out recordings from a split."""

    stage, label = "train_prior", "prior"

    def __init__(self, codes: Path, split: Path, params: Params, calibrate: Calibrate) -> None:
        self.data, self.seed = read_prior_data(codes, split), params.seed
        self.calibrate = calibrate
        self.recordings = self.data.recordings
        self.config = params.prior_config(self.recordings)
        self.folds = planned_folds(self.data, self.config, self.seed)
        self.inputs = {"codes": sha256_files(codes.iterdir(), codes), "split": sha256_file(split)}
        memory = self.config.model_dump()["memory"] or {}
        self.settings = {
            **self.config.model_dump(exclude={"memory"}),
            **{f"memory.{key}": value for key, value in memory.items()},
            "seed": self.seed,
            "tier": params.tier_name(self.recordings),
        }

    def train(self, run: RunContext) -> PriorTraining:
        """See `Job`."""
        remark = why_not_pretrained(self.config, self.data.codes)
        if remark:
            run.progress.say(remark)
        return fit_prior(
            self.data,
            self.config,
            self.seed,
            run.fabric,
            run.store,
            show_prior_progress(run.progress, run.tracker),
            run.record,
            run.interruption,
            run.stop,
            calibrate=self.calibrate,
            progress=run.progress,
        )

    def measure(self, trained: PriorTraining, run: RunContext) -> dict[str, float]:
        """Predict from counts alone, to compare, and run cross-validation where the settings ask for it; see `Job`."""
        counting = counting_bits_per_second(self.data) if run.is_first else math.nan
        found = trained.result.best_metrics["val_bits_per_second"]
        run.progress.say(f"{found:.0f} bits per second of held-out audio; counting alone {counting:.0f}")
        calibration = {}
        if trained.calibration:
            start, best = trained.calibration[0], min(trained.calibration)
            run.progress.say(
                f"sounds of the prior go on unlike the recordings by {start:.2f}, calibrated by {best:.2f}"
            )
            calibration = {"calibration_distance_start": start, "calibration_distance": best}
        folds = measure_folds(self.folds, self.config, self.seed, run.fabric, run.store, run.progress, run.interruption)
        return {"val_bits_per_second_counting": counting, **calibration, **folds}

    def save(self, trained: PriorTraining, folder: Path, fingerprint: str) -> dict[str, float]:
        """See `Job`."""
        return save_prior(folder, trained, self.config, self.data, fingerprint)


def train_prior_of_codes(
    codes: Path,
    split: Path,
    folder: Path,
    params: Params,
    execution: Execution,
    folders: RunFolders,
    calibrate: Calibrate,
) -> FinishedRun[PriorTraining]:
    """Train on the codes in `codes`, validate on the held-out ones of `split`, and write the artefact `folder`."""
    return run_training(lambda: PriorJob(codes, split, params, calibrate), folder, execution, folders)
