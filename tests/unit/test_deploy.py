"""Files of clusters: manifests that Kubernetes takes, and a job of SLURM that runs."""

import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
MANIFESTS = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_kubernetes_takes_the_manifests(manifest: dict[str, object]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_manifests_name_each_other() -> None:
    by_name = {(one["kind"], one["metadata"]["name"]): one for one in MANIFESTS}
    assert len(by_name) == len(MANIFESTS) == 5
    for kind in ("Deployment", "Job"):
        for manifest in (one for one in MANIFESTS if one["kind"] == kind):
            pod = manifest["spec"]["template"]["spec"]
            for volume in pod.get("volumes", ()):
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in by_name
            for container in pod["containers"]:
                assert container["image"] == "distill"
    text = (DEPLOY / "kubernetes.yaml").read_text()
    assert text.count("tcp://distill-scheduler:8786") == 2


def test_a_manifest_that_is_wrong_is_refused() -> None:
    wrong = {**MANIFESTS[1], "spec": {**MANIFESTS[1]["spec"], "prots": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_the_job_of_slurm_is_a_script() -> None:
    subprocess.run(["bash", "-n", DEPLOY / "slurm.sh"], check=True)
