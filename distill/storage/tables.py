"""Tables on disk: dataclass instances to parquet with a fixed schema, and back."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distill.errors import ArtifactError
from distill.storage.files import atomic_path

ROWS_AT_ONCE = 1024  # as dictionaries: a large table's would take more memory than all else


def write_table(path: Path, rows: Iterable[object], schema: pa.Schema) -> None:
    """Write dataclass instances as a parquet file with the columns of `schema`, atomically; equal rows give equal bytes."""
    listed = list(rows)
    table = pa.table({name: [getattr(row, name) for row in listed] for name in schema.names}, schema=schema)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def read_table(path: Path, schema: pa.Schema, what: str) -> Iterator[dict[str, Any]]:
    """Rows of a parquet file with exactly the columns of `schema`. `what` names it in the ArtifactError for any other file."""
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: expected {what}, found no such file; run `dvc repro` to make it") from error
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(
            f"{path}: expected {what}, found a damaged file ({error}); run `dvc repro` again"
        ) from error
    if not table.schema.equals(schema):
        raise ArtifactError(
            f"{path}: expected {what} with the columns {', '.join(schema.names)}, found {', '.join(table.schema.names)}; run `dvc repro` again"
        )
    for batch in table.to_batches(ROWS_AT_ONCE):
        yield from batch.to_pylist()
