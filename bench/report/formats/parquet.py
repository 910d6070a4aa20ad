"""Parquet: of each table one file as it is arranged, and one with a row per observation, types included."""

from __future__ import annotations

import io

import pandas as pd
import pyarrow
import pyarrow.parquet

from bench.report.formats import Report


def files(report: Report) -> dict[str, bytes]:
    """NAME.parquet is tidy, NAME-arranged.parquet for people."""
    contents = {}
    for table in report.tables:
        contents[f"{table.name}.parquet"] = _bytes(table.tidy)
        contents[f"{table.name}-arranged.parquet"] = _bytes(table.arranged)
    return contents


def _bytes(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pandas(frame, preserve_index=False), buffer)
    return buffer.getvalue()
