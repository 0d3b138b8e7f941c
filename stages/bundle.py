"""Stage `bundle`: write codec and prior to one model file."""

from collections.abc import Mapping

from distill.params import Params
from distill.training.folders import STATE
from stages.running import FOLDERS, bundle_path, run_stage, write_metrics


def main(params: Params) -> Mapping[str, float]:
    from distill.cluster import shared_cluster
    from distill.execution import execution_from_environment
    from distill.model_file.build import bundle_artifacts

    path, cluster = bundle_path(params), shared_cluster(execution_from_environment(), STATE)
    metadata = bundle_artifacts(path, FOLDERS.vqvae, FOLDERS.prior, params.bundle.reference, cluster=cluster)
    size = path.stat().st_size
    hashed = {"format_version": metadata.version_text, "payload_sha256": metadata.payload_sha256}
    write_metrics("bundle", {"bytes": size, **hashed})
    return {}


if __name__ == "__main__":
    run_stage("bundle", main)
