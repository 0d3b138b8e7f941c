"""Files of clusters, images and CI: manifests that Kubernetes takes, a job of SLURM, a workflow and its report."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from programs import loaded

DEPLOY = Path(__file__).parents[2] / "deploy"
GITHUB = DEPLOY.parent / ".github"
PROGRAMS, WORKFLOW = Path(sys.executable).parent, GITHUB / "workflows" / "ci.yaml"
MANIFESTS = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_kubernetes_takes_the_manifests(manifest: dict[str, object]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_manifests_name_each_other() -> None:
    named = {(one["kind"], one["metadata"]["name"]) for one in MANIFESTS}
    assert len(named) == len(MANIFESTS) == 5
    pods = [one["spec"]["template"]["spec"] for one in MANIFESTS if one["kind"] in ("Deployment", "Job")]
    claims = {one["persistentVolumeClaim"]["claimName"] for pod in pods for one in pod.get("volumes", ())}
    assert {("PersistentVolumeClaim", claim) for claim in claims} <= named
    assert {container["image"] for pod in pods for container in pod["containers"]} == {"distill"}
    assert (DEPLOY / "kubernetes.yaml").read_text().count("tcp://distill-scheduler:8786") == 2


@pytest.mark.parametrize(
    "command",
    [
        ("bash", "-n", DEPLOY / "slurm.sh"),
        ("sh", "-n", DEPLOY.parent / "start" / "page.command"),
        (PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", WORKFLOW),
        (PROGRAMS / "zizmor", "--offline", "--quiet", WORKFLOW),
    ],
    ids=("slurm", "start", "schema", "zizmor"),
)
def test_the_job_of_slurm_and_the_workflow_are_well_formed(command: tuple[str | Path, ...]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Pipeline:
    """A repository with a pipeline of one stage, of which `make repro` is `dvc repro`; two commits.

    Its committed results are of another computer: the stage gives others here.
    """

    def __init__(self, folder: Path) -> None:
        who = {f"GIT_{one}_{what}": "t@example.org" for one in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        self.folder, self.environment = folder, {**os.environ, **who, "DVC": str(PROGRAMS / "dvc")}
        stage = {
            "cmd": "echo ran >> ran.txt; sed s/loss/epoch,val_loss\\\\n0/ in.txt > h.csv; "
            "echo '{\"val_bits_per_second\": '$(cut -d, -f2 in.txt)'}' > m.json",
            "deps": ["in.txt"],
            "metrics": [{"m.json": {"cache": False}}],
            "plots": [{"h.csv": {"x": "epoch", "y": "val_loss"}}],
        }
        (folder / ".dvc").mkdir()  # as dvc init makes it
        files = {
            "dvc.yaml": yaml.safe_dump({"stages": {"s": stage}}),
            ".dvc/config": "[core]\nanalytics = false\ncheck_update = false\n",
            ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
            "Makefile": "repro:\n\t@$(DVC) repro -q\n",
            ".gitignore": "h.csv\nran.txt\nplots\n",
            "dvc.lock": "schema: '2.0'\n",
        }
        for name, text in files.items():
            (folder / name).write_text(text)
        self.run("git", "init", "-q")
        for loss in (1400, 1300):
            (folder / "in.txt").write_text(f"loss,{loss}\n")
            (folder / "m.json").write_text(f'{{"val_bits_per_second": {loss + 7}}}')
            self.run("git", "add", "-A")
            self.run("git", "commit", "-qm", str(loss))

    def run(self, *command: str, status: int = 0) -> str:
        """Stdout of a command that ends well, stderr of one that is refused."""
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False, env=self.environment
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stderr if status else done.stdout

    def report(self, base: str, status: int = 0) -> str:
        """The report, with single spaces."""
        return re.sub(" +", " ", self.run(str(GITHUB / "report.sh"), base, "plots", status=status))

    def results_of(self, revision: str, status: int = 0) -> str:
        return self.run(str(GITHUB / "results_of.sh"), revision, status=status).strip()


def test_the_report_on_a_pull_request(tmp_path: Path) -> None:
    """As the workflow does: the base is run here, then the change, and DVC compares both."""
    pipeline = Pipeline(tmp_path)
    base = pipeline.results_of("HEAD^")
    assert pipeline.run("git", "log", "-1", "--format=%s", base) == "Results of HEAD^ here\n"
    assert pipeline.run("git", "branch", "--show-current")  # not the commit alone
    assert pipeline.run("git", "status", "-s") == ""
    assert (tmp_path / "in.txt").read_text() == "loss,1300\n"
    pipeline.run("make", "repro")
    report = pipeline.report(base)
    assert "| m.json | val_bits_per_second | 1400 | 1300 | -100 |" in report
    assert "<summary>All 1 metrics that changed</summary>" in report
    assert "The curves of both are in the artefact `report`" in report
    page = (tmp_path / "plots" / "index.html").read_text()
    assert all(f'"rev": "{one}"' in page for one in ("workspace", base[:7]))
    assert (tmp_path / "ran.txt").read_text() == "ran\n" * 2  # once a revision


def test_what_cannot_be_compared_is_said_and_leaves_the_clone_as_it_was(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    assert "No metric changed." in pipeline.report("HEAD")
    report = pipeline.report("HEAD^")  # whose results are not here
    assert "| m.json | val_bits_per_second | 1407 | 1307 | -100 |" in report
    assert re.search("without those of `[0-9a-f]+`: they are not here", report)
    no_commit = "expected a commit in this clone, found no nothing; fetch it"
    assert pipeline.report("nothing", status=2) == f"report.sh: {no_commit}\n"
    assert pipeline.results_of("nothing", status=2) == f"results_of.sh: {no_commit}"
    (tmp_path / "Makefile").write_text("repro:\n\tfalse\n")
    assert pipeline.results_of("HEAD^", status=2) == (
        "results_of.sh: expected no changes that are not committed, found some; commit or stash them"
    )
    pipeline.run("git", "commit", "-qam", "Wrong")
    before = pipeline.run("git", "rev-parse", "HEAD")
    pipeline.results_of("HEAD", status=2)  # which cannot be run
    assert pipeline.run("git", "rev-parse", "HEAD") == before
    assert pipeline.run("git", "branch", "--show-current")
    assert pipeline.run("git", "status", "-s") == ""


def test_what_an_image_needs_is_kept_and_the_rest_is_not() -> None:
    prune = loaded(DEPLOY / "prune.py")
    gone = prune.unneeded("distill-audio", frozenset({"ui", "cluster", "s3", "hub"}))
    assert {"pytest", "mypy", "ruff", "sphinx", "moto", "playwright", "uv"} <= set(gone)
    of_extras = {"gradio", "dvc-s3", "s3fs", "distributed", "huggingface-hub"}
    kept = {"torch", "dvc", "pip", "setuptools", "packaging", *of_extras}
    assert not kept & set(gone)
    assert {"gradio", "s3fs"} <= set(prune.unneeded("distill-audio", frozenset()))
    with pytest.raises(SystemExit, match="expected it in this environment, found no such package"):
        prune.needed("no-such-package", frozenset())


def test_the_container_file_names_what_is_there() -> None:
    root = DEPLOY.parent
    text = (root / "Containerfile").read_text()
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    copied = [name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for name in line.split()]
    assert sorted(copied) == sorted(re.findall(r"^!(\S+)$", (root / ".dockerignore").read_text(), re.MULTILINE))
    assert all((root / name).exists() for name in copied)
    for_developers = {"test", "docs", "bench", "judge"}
    extras = " ".join(name for name in project["optional-dependencies"] if name not in for_developers)
    assert f"deploy/prune.py {project['name']} {extras} " in text
    assert re.findall(r'^ENTRYPOINT \["(.+)"\]$', text, re.MULTILINE) == list(project["scripts"])
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["1000"]  # a number: Kubernetes knows it is not root
