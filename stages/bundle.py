"""Stage `bundle`: codec and prior to one model file."""

from collections.abc import Mapping

from distill.model_file.build import bundle_artifacts
from distill.params import Params
from stages.running import PRIOR, VQVAE, bundle_path, run_stage, write_metrics


def main(params: Params) -> Mapping[str, float]:
    path = bundle_path(params)
    metadata = bundle_artifacts(path, VQVAE, PRIOR, params.bundle.reference)
    write_metrics(
        "bundle",
        {
            "bytes": path.stat().st_size,
            "format_version": metadata.version_text,
            "payload_sha256": metadata.payload_sha256,
        },
    )
    return {}


if __name__ == "__main__":
    run_stage("bundle", main)
