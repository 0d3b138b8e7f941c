"""Stage `bundle`: write codec and prior to a model file."""

import sys

from distill.params import Params
from stages.running import (
    FOLDERS,
    bundle_path,
    replaced_by_experiment,
    run_stage,
    tracking_root,
    write_metrics,
)


def main(params: Params) -> None:
    from distill.model_file.build import bundle_artifacts, source_dates
    from distill.model_file.format import VERSION
    from distill.training.tracking import track_model

    path, folders = bundle_path(params), (FOLDERS.vqvae, FOLDERS.prior)
    dates = source_dates(tracking_root(), params)
    metadata = bundle_artifacts(path, *folders, params.bundle.reference, dates)
    track_model(tracking_root(), metadata.provenance.prior_fingerprint, path)
    write_metrics("bundle", {"bytes": path.stat().st_size, "format_version": VERSION})
    if remark := replaced_by_experiment(path):
        print(remark, file=sys.stderr)


if __name__ == "__main__":
    run_stage("bundle", main)
