"""Plain HTTP for programs: `POST /api/generate` and the like, with fields named as flags and files, answers JSON.

A request runs the command of that name, as the page does: the same checks, sentences and sounds.
"""

import re
import secrets
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from distill.codes.file import printable_stem
from distill.errors import ParamsError, for_the_user
from distill.generate.requests import (
    ExtendSettings,
    FillSettings,
    GenerateSettings,
    MorphSettings,
    VarySettings,
    fields_of,
    flag_of,
)
from distill.params.settings import Settings
from distill.storage.files import remove_folder
from distill.text import one_line
from distill.ui import view
from distill.ui.forms import flags
from distill.ui.generate_tab import rows_of
from distill.ui.jobs import Job
from distill.ui.worker import STDOUT
from distill.ui.workspace import Workspace

MOST_FILES, MOST_FIELDS = 4, 40
FILES = {"recording", "first", "last", "below"}  # of an answer; programs know files by the names that they sent


class Command(NamedTuple):
    """A command for programs: its settings, and the files that follow the model, of which the first `needed` are needed.

    With `untrained` it needs no model: its first file is in the model's place.
    """

    settings: type[Settings]
    files: tuple[str, ...] = ()
    needed: int = 0
    untrained: bool = False


COMMANDS: Mapping[str, Command] = {
    "generate": Command(GenerateSettings),
    "vary": Command(VarySettings, ("audio",), 1, untrained=True),
    "morph": Command(MorphSettings, ("first", "last", "third", "fourth"), 2),
    "extend": Command(ExtendSettings, ("audio",), 1),
    "fill": Command(FillSettings, ("audio",), 1),
}


class Programs:
    """The endpoints of a working folder."""

    def __init__(self, workspace: Workspace) -> None:
        self._work = workspace

    async def answer(self, request: Request) -> Response:
        """Run a command and answer when it has ended: 200 with what `--json` prints, else a sentence.

        Its status is 422 for a wrong request, and 500 where the system or the command fails.
        """
        name = request.path_params["command"]
        folder = self._work.uploads / secrets.token_hex(16)
        try:
            if name not in COMMANDS:
                known = ", ".join(COMMANDS)
                raise ParamsError(f"{one_line(name, 60)}: expected one of {known}, found another; choose one of them")
            async with request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS) as form:
                arguments = await self._arguments(name, form, folder)
                model = str(form.get("model") or "")
            job = self._work.jobs.start(name, f"{name} for a program", arguments, {"model": model})
            await job.ended()
        except ParamsError as error:
            return refused(str(error))
        except HTTPException as error:
            return refused(f"form: expected fields and files, found {error.detail}")
        except OSError as error:
            return refused(str(for_the_user(error) or error), 500)
        finally:
            remove_folder(folder)
        return self._made(job)

    def _made(self, job: Job) -> Response:
        if job.state != "done":
            return refused(job.message.removeprefix("--"), 422 if job.state == "refused" else 500)
        made = {**job.read(STDOUT)}
        for key in made.keys() & FILES:
            made[key] = [Path(path).name for path in made[key]] if key == "below" else Path(made[key]).name
        for row in rows_of(made):
            row["file"] = view.address(self._work.root / row["file"])
        return JSONResponse(made)

    async def _arguments(self, name: str, form: FormData, folder: Path) -> list[str]:
        """The arguments of a command of these fields; files are kept in a folder. Raises ParamsError."""
        command, values = COMMANDS[name], dict[str, Any]()
        known = [flag_of(field, about) for field, about in fields_of(command.settings).items()]
        types = {flag.name.removeprefix("--"): flag.type for flag in known}
        names = {
            field: flag.name.removeprefix("--") for field, flag in zip(fields_of(command.settings), known, strict=True)
        }
        types |= {"model": str, **dict.fromkeys(command.files, Path)}
        for key, value in form.multi_items():
            flag = names.get(key, key.replace("_", "-"))
            if flag not in types:
                raise ParamsError(
                    f"{one_line(key, 60)}: expected one of {', '.join(types)}, found another; leave it out"
                )
            wanted = "a file" if types[flag] is Path else "text"
            if isinstance(value, UploadFile) != (types[flag] is Path):
                raise ParamsError(f"{key}: expected {wanted}, found none; send {wanted}")
            values[flag] = await _kept(value, folder) if isinstance(value, UploadFile) else value
            if types[flag] is bool:
                values[flag] = value == "true"
        for needed in command.files[: command.needed]:
            if needed not in values:
                raise ParamsError(f"{needed}: expected a file, found none; send one")
        named = str(values.pop("model", ""))
        models = [] if command.untrained and not named else [self._work.argument(self._work.model(named))]
        files = [values.pop(file) for file in command.files if file in values]
        return [name, *models, *files, *flags(**values)]


def refused(sentence: str, status: int = 422) -> Response:
    """An answer that says why there is no other."""
    return JSONResponse({"error": sentence}, status)


async def _kept(file: UploadFile, folder: Path) -> str:
    """The path of an uploaded file, kept in a folder under its name, which sounds made from it begin with."""
    given = PurePosixPath(file.filename or "")
    suffix = given.suffix if re.fullmatch(r"[.][A-Za-z0-9]{1,8}", given.suffix) else ""
    path = folder / f"{printable_stem(given).strip('.') or 'upload'}{suffix}"
    while path.exists():
        path = path.with_stem(f"{path.stem}_2")
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        while piece := await file.read(1 << 20):
            out.write(piece)
    return str(path)
