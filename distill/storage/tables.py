"""Tables on disk: parquet files with fixed columns, as pandas data frames and as rows of a dataclass."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from distill.storage.files import atomic_path, damaged, write_bytes

if TYPE_CHECKING:
    import pandas as pd

R = TypeVar("R")


def schema_of(kind: type, **columns: pa.DataType) -> pa.Schema:
    """Columns of a dataclass of numbers and text, in the order of its fields; `columns` have other types."""
    types: dict[Any, pa.DataType] = {int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    return pa.schema(
        [
            (field.name, columns.get(field.name) or types.get(field.type, pa.string()))
            for field in fields(kind)
        ]
    )


def write_rows(path: Path, rows: Iterable[object], schema: pa.Schema) -> None:
    """Write dataclass instances as a parquet file with the columns of `schema`, atomically; equal rows, equal bytes."""
    import pandas as pd

    listed = list(rows)
    _write(
        path,
        pd.DataFrame({name: [getattr(row, name) for row in listed] for name in schema.names}),
        schema,
    )


def write_history(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write a row an epoch as `history.parquet` and, for `dvc plots`, as `history.csv`."""
    import pandas as pd

    frame = pd.DataFrame([dict(row) for row in history])
    _write(folder / "history.parquet", frame)
    write_bytes(folder / "history.csv", frame.to_csv(index=False, lineterminator="\n").encode())


def _write(path: Path, frame: "pd.DataFrame", schema: pa.Schema | None = None) -> None:
    """Without pandas' own metadata, which names its version: equal tables are to give equal bytes."""
    table = pa.Table.from_pandas(
        frame, schema, preserve_index=False, nthreads=1
    ).replace_schema_metadata(None)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def read_frame(path: Path, what: str) -> "pd.DataFrame":
    """A parquet file as a data frame. `what` names it in the ArtifactError for any other file."""
    frame: pd.DataFrame = _read(path, what).to_pandas(use_threads=False)
    return frame


def read_rows(path: Path, kind: type[R], what: str, schema: pa.Schema) -> list[R]:
    """Rows of a parquet file as instances of the dataclass `kind`, whose fields are the columns. Raises ArtifactError."""
    table = _read(path, what)
    if not table.schema.equals(schema):
        raise damaged(
            path,
            f"{what} with the columns {', '.join(schema.names)}",
            ", ".join(table.schema.names),
        )
    columns: list[list[Any]] = [column.to_pylist() for column in table.columns]
    return [kind(*row) for row in zip(*columns, strict=True)]


def _read(path: Path, what: str) -> pa.Table:
    try:
        with pq.ParquetFile(
            path
        ) as file:  # without threads: where none can start, Arrow waits for ever
            return file.read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, what, error) from error
