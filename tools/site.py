"""The start page of the documentation's site: README.md, with links as they are from docs/ (a hook of mkdocs)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def on_files(files: Any, config: Any) -> Any:
    """Add the start page, and the pictures that pages show from beside docs/."""
    from mkdocs.structure.files import File

    start = re.sub(r"\]\(docs/", "](", (ROOT / "README.md").read_text(encoding="utf-8"))
    files.append(File.generated(config, "index.md", content=start))
    for picture in (ROOT / "results").rglob("*.png"):
        files.append(File.generated(config, picture.relative_to(ROOT).as_posix(), abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Pages in docs/ name what lies beside it with ../; on the site it lies within."""
    return re.sub(r"\]\(\.\./(results/[^)]*\.png)\)", r"](\1)", markdown)
