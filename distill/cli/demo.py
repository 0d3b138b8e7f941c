"""`distill demo`."""

from pathlib import Path
from typing import Annotated

import typer

from distill.cli.app import Json, app, limits, print_json
from distill.params import Seed


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="where the recordings go", show_default=False)],
    seed: Annotated[int, typer.Option(help="random seed of the sounds", **limits(Seed))] = 0,
    motifs: Annotated[
        bool, typer.Option("--motifs", help="instead long recordings with repeated motifs, for priors with a memory")
    ] = False,
    as_json: Json = False,
) -> None:
    """Synthesise the demo corpus: strings, bars, drums, bells, sweeps and chords as FLAC files."""
    from distill.cli.flags import make_folder
    from distill.demo.motifs import write_motifs
    from distill.demo.recordings import write_demo

    make_folder("DIR", folder)
    paths = write_motifs(folder, seed) if motifs else write_demo(folder, seed)
    if as_json:
        print_json({"folder": str(folder), "seed": seed, "files": [str(path) for path in paths]})
    else:
        print(f"{len(paths)} recordings in {folder}")
