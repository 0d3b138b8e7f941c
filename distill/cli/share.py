"""`distill push` and `distill pull`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from distill.cli.flags import Json, ModelPath, make_folder, print_json

Repository = Annotated[
    str, Argument(metavar="REPO_ID", help="a model repository of the hub: OWNER/NAME", show_default=False)
]


def push(
    model: ModelPath,
    repository: Repository,
    private: Annotated[
        bool, Option("--private", help="make the repository private; refuses one that everybody can read")
    ] = False,
    with_reference: Annotated[
        bool,
        Option(
            "--with-reference",
            help="also send names and codes of the training recordings, by which novelty is judged; whoever has the "
            "file can decode them",
        ),
    ] = False,
    message: Annotated[str | None, Option(help="message of the commit")] = None,
    license: Annotated[
        str | None, Option(help="license in the model card, as the hub names it, such as cc-by-4.0")
    ] = None,
    as_json: Json = False,
) -> None:
    """Share a model on the Hugging Face hub, by default without names and codes of its training recordings.

    Token and address are those of the hub's own client: HF_TOKEN, `hf auth login`, HF_ENDPOINT.
    """
    from distill.sharing.transfer import push as pushed

    done = pushed(model, repository, private, with_reference, message, license)
    if as_json:
        print_json({"model": str(model), "repository": repository, **asdict(done)})
        return
    print(f"{done.url}  {model.name}, {done.bytes / 1e6:.1f} MB, commit {done.commit[:12]}")
    what = "names and codes of {} training recordings"
    if done.reference_recordings:
        print(
            f"sent with its reference: {what}, which whoever has the file can decode".format(done.reference_recordings)
        )
    elif done.reference_left_out:
        stays = f"sent without its reference: {what} stay here, and the copy cannot say how new its sounds are"
        print(stays.format(done.reference_left_out))
    else:
        print("the file has no reference: no names and codes of training recordings were in it")
    if done.labels:
        print(f"sent with its labels, which can be names of your folders: {', '.join(done.labels)}")
    if done.replaces:
        print("what earlier pushes sent, with their references if they had any, stays in the history of the repository")


def pull(
    repository: Repository,
    revision: Annotated[
        str | None, Option(help="a branch, a tag or a commit", show_default="the newest commit")
    ] = None,
    out: Annotated[Path, Option("--out", "-o", metavar="DIR", help="where the model file goes")] = Path("models"),
    replace: Annotated[bool, Option("--replace", help="replace another file of its name")] = False,
    as_json: Json = False,
) -> None:
    """Get a model from the Hugging Face hub. It is checked as distill verify does before it is put in its place."""
    from distill.sharing.transfer import pull as pulled

    make_folder("--out", out)
    done = pulled(repository, out, revision, replace)
    size = done.model.stat().st_size
    if as_json:
        about = {"repository": repository, "commit": done.commit, "bytes": size}
        print_json({"model": str(done.model), **about, "checks": dict(done.checks)})
    else:
        print(f"{done.model}  {size / 1e6:.1f} MB, verified, commit {done.commit[:12]}")
