"""Jobs whose files are written by hand."""

import json
from pathlib import Path

from distill.ui.jobs import Job

ID = "20260101-000000-abcdef0"


def write_job(
    folder: Path, kind: str = "train", title: str = "t", arguments: tuple[str, ...] = (), **files: object
) -> Job:
    """A job in a folder: values of `exit_json` and the like are written as JSON, text as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    described = {"kind": kind, "title": title, "arguments": list(arguments), "values": {}}
    for name, content in {"job_json": described, **files}.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("_", ".")).write_text(text)
    return Job(folder, **described)
