r"""LaTeX: each table as a tabular for \input (it needs array and booktabs), and report.tex, which shows them all.

In report.tex each is a float with caption and label (`\ref{tab:table3}`); each file says in its first line where its
numbers come from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd

from bench.report.cells import is_numeric, is_prose, split_number
from bench.report.formats import Report, Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "{''}",
    "-": "{-}",  # no ligature of two or three
    "'": "{'}",
    "`": "{`}",
    "[": "{[}",  # no optional argument of the \\ before it
    "]": "{]}",
    "*": "{*}",
    **{character: f"\\{character}" for character in "#$%&_{}"},
    "ᵀ": r"\textsuperscript{T}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "−": "$-$",
    "→": r"$\rightarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "µ": r"$\mu$",
    "²": r"\textsuperscript{2}",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
}
_ACCENTED = re.compile("[À-ÏÑ-ÖØ-Ýß-ïñ-öø-ýÿ]")  # letters that LaTeX has in every font encoding
_DOCUMENT = r"""\documentclass{article}
\usepackage[a4paper,landscape,margin=15mm]{geometry}
\usepackage{array,booktabs,graphicx}
\setlength{\parindent}{0pt}
\newcommand{\fitted}[1]{\sbox0{\input{#1}}\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi}
\begin{document}
%s
\end{document}
"""


def files(report: Report) -> dict[str, bytes]:
    r"""NAME.tex for \input, and report.tex, a document of them all."""
    origin = f"% {report.provenance.credit}\n"
    floats = [
        f"\\begin{{table}}[p]\n\\caption{{\\textbf{{{escape(table.title)}.}} {escape(table.caption)}}}\n"
        f"\\label{{tab:{table.name}}}\n\\centering\\fitted{{{table.name}}}\n\\end{{table}}\n\\clearpage"
        for table in report.tables
    ]
    shown = [*floats, f"\\noindent {escape(report.provenance.credit)}"]
    contents = {f"{table.name}.tex": origin + _tabular(table) for table in report.tables}
    contents["report.tex"] = origin + _DOCUMENT.replace("%s", "\n\n".join(shown))
    return {name: text.encode() for name, text in contents.items()}


def _tabular(table: Table) -> str:
    """A group of rows per entry of the first column, set apart by a little space."""
    arranged = table.arranged
    columns = "".join(_alignment(arranged[column]) for column in arranged)
    lines = ["% \\usepackage{array,booktabs}", f"\\begin{{tabular}}{{{columns}}}", "\\toprule"]
    lines += [_line(escape(str(column)) for column in arranged), "\\midrule"]
    rows = zip(arranged.itertuples(index=False), table.best.itertuples(index=False), strict=True)
    for place, (cells, best) in enumerate(rows):
        if place and cells[0]:
            lines.append("\\addlinespace")
        lines.append(_line(_bold(cell, is_best) for cell, is_best in zip(cells, best, strict=True)))
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _alignment(column: pd.Series[str]) -> str:
    if is_prose(column):
        return r">{\raggedright\arraybackslash}p{32mm}"
    return "r" if is_numeric(column) else "l"


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _bold(cell: str, is_best: bool) -> str:
    number, rest = split_number(cell) if is_best else ("", cell)
    return (f"\\textbf{{{escape(number)}}}" if number else "") + escape(rest)


def escape(text: str) -> str:
    """Text as LaTeX shows it, whatever is in it; a character that pdflatex has no letter for by its code point."""
    return "".join(_SPECIAL.get(character) or _letter(character) for character in text)


def _letter(character: str) -> str:
    if character.isascii() or _ACCENTED.match(character):
        return character
    return f"{{[}}U+{ord(character):04X}{{]}}"
