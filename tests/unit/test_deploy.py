"""Files of clusters and of CI: manifests that Kubernetes takes, a job of SLURM, a workflow and its report."""

import os
import re
import subprocess
import sys
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


def test_the_workflow_is_one() -> None:
    workflow = DEPLOY.parent / ".github" / "workflows" / "ci.yaml"
    programs = Path(sys.executable).parent
    for command in (
        (programs / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", workflow),
        (programs / "zizmor", "--offline", "--quiet", workflow),
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_report_on_a_pull_request(tmp_path: Path) -> None:
    """Metrics of two commits beside each other, by DVC itself."""

    def run(*command: str) -> str:
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment).stdout

    who = {f"GIT_{one}_{what}": "t@example.org" for one in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    dvc = str(Path(sys.executable).parent / "dvc")
    environment = {**os.environ, **who, "DVC": dvc}
    stage = {"cmd": "true", "metrics": [{"m.json": {"cache": False}}], "plots": [{"h.csv": {"cache": False}}]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"s": stage}}))
    run("git", "init", "-q")
    run(dvc, "init", "-q")
    for bits in (1400, 1300):
        (tmp_path / "m.json").write_text(f'{{"val_bits_per_second": {bits}}}')
        (tmp_path / "h.csv").write_text(f"epoch,val_loss\n0,2\n1,{bits / 1000}\n")
        run("git", "add", "-A")
        run("git", "commit", "-qm", str(bits))
    report = run(str(DEPLOY.parent / ".github" / "report.sh"), "HEAD^", "plots")
    assert "| m.json | val_bits_per_second | 1400 | 1300 | -100 |" in re.sub(" +", " ", report)
    assert "open `index.html`" in report
    assert (tmp_path / "plots" / "index.html").exists()
