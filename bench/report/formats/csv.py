"""CSV: of each table one file as it is arranged, and one with a row per observation."""

from __future__ import annotations

from bench.report.formats import Report


def files(report: Report) -> dict[str, bytes]:
    """NAME.csv is tidy, NAME-arranged.csv for people."""
    contents = {}
    for table in report.tables:
        contents[f"{table.name}.csv"] = table.tidy.to_csv(index=False).encode()
        contents[f"{table.name}-arranged.csv"] = table.arranged.to_csv(index=False).encode()
    return contents
