"""Folders as labels, and a model without codes of its recordings, through DVC."""

import json
import sys

from pipeline.project import Project, write_sounds


def test_folders_become_labels_and_a_model_can_go_without_its_recordings(project: Project) -> None:
    write_sounds(project.folder / "sounds", between="/")
    project.set(corpus={"labels": "folder"}, bundle={"reference": False})
    done = project.dvc("repro")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((project.folder / "artifacts/audition/report.json").read_text())
    labels = [row["label"] for row in report["generated"]]
    assert len(set(labels)) == len(labels) == 2
    assert all(row["verdict"] in ("new", "close", "copy") for row in report["generated"])
    page = (project.folder / "artifacts/audition/index.html").read_text()
    assert all(label in page for label in labels)
    model = "models/tiny.distill"
    asked = ("generate", model, "--seconds", "0.2", "--label", labels[1], "--json")
    made = project.run(sys.executable, "-m", "distill", *asked)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["sounds"][0]["novelty"] is None
    refused = project.run(sys.executable, "-m", "distill", *asked, "--min-novelty", "new")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "expected a model with the codes of its training recordings" in refused.stderr
