"""The changes: one comparison, number, operator or statement of a file at a time, found in its syntax tree.

A change that every test notices which notices another one of the same place is left out (`_is_implied`): it would say
nothing more, and take as long.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Node = TypeVar("Node", bound=ast.AST)
Replacement = tuple[ast.expr | ast.stmt, str, str]  # the node, the text that takes its place, what is said of it

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "argmin": "argmax", "argmax": "argmin"}
MOST = 90  # characters of code in what is said of a change
DROPPED = (ast.Expr, ast.AugAssign, ast.Raise, ast.Delete, ast.Continue, ast.Break)
NEGATED = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)  # whose change is the opposite, not a limit moved


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        file: Path from the root of the repository.
        line: Where the change is.
        lines: First and last line that run with it: from the beginning of its statement to the end of the change.
        text: The line as it stands, without indentation; with `change`, what an accepted survivor is known by.
        change: What was changed, in one line.
        is_local: Whether it is in the body of a function, so that only what calls it can notice.
        source: The changed file.
    """

    file: str
    line: int
    lines: tuple[int, int]
    text: str
    change: str
    is_local: bool
    source: str


def mutants(root: Path, file: str) -> list[Mutant]:
    """All changes of a file, in the order of its lines."""
    source = (root / file).read_text()
    encoded = [line.encode() for line in source.splitlines(keepends=True)]  # columns of ast count bytes
    starts = [0]
    for line in encoded:
        starts.append(starts[-1] + len(line))
    whole = b"".join(encoded)
    found: list[Mutant] = []
    seen: Counter[tuple[int, str]] = Counter()
    for statement, is_local in _statements(ast.parse(source).body, False):
        for node, text, change in _replacements(statement):
            assert node.end_lineno is not None and node.end_col_offset is not None
            begin = starts[node.lineno - 1] + node.col_offset
            end = starts[node.end_lineno - 1] + node.end_col_offset
            changed = (whole[:begin] + text.encode() + whole[end:]).decode()
            seen[node.lineno, change] += 1
            if (times := seen[node.lineno, change]) > 1:
                change += f" (the {times}. on its line)"
            lines = statement.lineno, _end_of_header(statement, node)
            line_text = encoded[node.lineno - 1].decode().strip()
            found.append(Mutant(file, node.lineno, lines, line_text, change, is_local, changed))
    return sorted(found, key=lambda mutant: (mutant.line, mutant.change))


def _statements(body: list[ast.stmt], is_local: bool) -> Iterator[tuple[ast.stmt, bool]]:
    """Every statement, and whether it is in a function; without docstrings, assertions and what type checkers need."""
    for statement in body:
        match statement:
            case ast.Expr(ast.Constant()) | ast.Import() | ast.ImportFrom() | ast.Assert():
                continue
            case ast.Assign(targets=[ast.Name("__all__")]):
                continue
            case ast.If(ast.Name("TYPE_CHECKING")):
                continue
        yield statement, is_local
        inner = is_local or isinstance(statement, ast.FunctionDef)
        for field in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(statement, field, []), inner)
        for block in (*getattr(statement, "handlers", []), *getattr(statement, "cases", [])):
            yield from _statements(block.body, inner)


def _replacements(statement: ast.stmt) -> Iterator[Replacement]:
    """What can be changed in a statement, and not in those inside it."""
    expressions = list(_expressions(statement))
    match statement:
        case ast.If(body=[only], orelse=[]) if _is_dropped(only):
            pass
        case ast.If(orelse=[]):
            yield statement, "pass", f"dropped: if {ast.unparse(statement.test)}: ..."
        case ast.Return(value) if value is not None and not _is_nothing(value):
            if _is_condition(value) or not any(True for node in expressions for _ in _changed(node)):
                yield statement, "return None", f"{_short(statement)} -> return None"
        case _ if _is_dropped(statement):
            yield statement, "pass", f"dropped: {_short(statement)}"
    negations = _negations(statement.test) if isinstance(statement, ast.If) and not statement.orelse else []
    for node in expressions:
        for changed in _changed(node):
            if node not in negations:
                yield node, f"({ast.unparse(changed)})", _difference(node, changed)


def _is_dropped(statement: ast.stmt) -> bool:
    """Whether nothing can stand in its place: it is there for its effect."""
    if isinstance(statement, ast.Assign):
        return len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Attribute | ast.Subscript)
    return isinstance(statement, DROPPED)


def _negations(test: ast.expr) -> list[ast.expr]:
    """What of a condition, turned round, leaves out the body of an `if` where it ran: so does the dropped `if`."""
    match test:
        case ast.BoolOp(op=ast.And(), values=values):
            return [node for value in values for node in _negations(value)]
        case ast.Compare(ops=[op]) if isinstance(op, NEGATED):
            return [test]
        case ast.UnaryOp(op=ast.Not()):
            return [test]
    return []


def _expressions(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions of a statement that run with it: no statement inside it, annotation, decorator or format."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "format_spec", "type_comment"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.JoinedStr) or (field == "keywords" and _is_zip(node)):
                continue  # a message; a check of lengths
            if isinstance(child, ast.expr):
                yield child
            if _number(child) is not None:
                continue  # 2 * 1024 is changed as a whole
            if isinstance(child, ast.AST) and not isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
                yield from _expressions(child)


def _changed(node: ast.expr) -> Iterator[ast.expr]:
    """What takes the place of an expression, without what another change implies."""
    number = _number(node)
    match node:
        case _ if number is not None:
            yield ast.Constant(number + 1)
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            sides = [left, *comparators]
            for place, op in enumerate(ops):
                if not _moves_with_number(op, sides[place], sides[place + 1]):
                    yield _with(node, ops=[*ops[:place], COMPARISONS[type(op)](), *ops[place + 1 :]])
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            if _number(left) is None and _number(right) is None:
                yield _with(node, op=OPERATORS[type(op)]())
        case ast.BoolOp(op=ast.And()):
            yield _with(node, op=ast.Or())
        case ast.BoolOp(op=ast.Or()):
            yield _with(node, op=ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.IfExp(test=test) if not _is_condition(test):
            yield _with(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.Call(func=ast.Name(name)) if name in NAMES:
            yield _with(node, func=ast.Name(NAMES[name]))
        case ast.Call(func=ast.Attribute(attr=name) as function) if name in NAMES:
            yield _with(node, func=_with(function, attr=NAMES[name]))


def _moves_with_number(op: ast.cmpop, left: ast.expr, right: ast.expr) -> bool:
    """Whether the number of a comparison, plus one, does what the changed comparison would, or less of it."""
    if isinstance(op, NEGATED):
        return any(map(_has_number, (left, right)))
    if isinstance(op, ast.Lt | ast.GtE):
        return isinstance(_number(right), int)
    return isinstance(_number(left), int)


def _has_number(node: ast.expr) -> bool:
    """A number, or several to look among."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(map(_has_number, node.elts))
    return _number(node) is not None


def _number(node: ast.AST | None) -> int | float | None:
    """The value of an expression of numbers alone."""
    match node:
        case ast.Constant(bool()):
            return None
        case ast.Constant(int() | float() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand) if _number(operand) is not None:
            pass
        case ast.BinOp(left=left, right=right) if _number(left) is not None and _number(right) is not None:
            pass
        case _:
            return None
    value = eval(compile(ast.Expression(copy.deepcopy(node)), "", "eval"))  # numbers and operators, nothing else
    return value if isinstance(value, int | float) else None


def _is_condition(node: ast.expr) -> bool:
    """Whether it is true or false, and one of its own changes is noticed by whoever notices its opposite."""
    return isinstance(node, ast.Compare | ast.BoolOp) or (
        isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    )


def _with(node: Node, **fields: object) -> Node:
    """A copy with other fields."""
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _end_of_header(statement: ast.stmt, node: ast.expr | ast.stmt) -> int:
    """The last line that runs with a change: of a whole `if`, the end of its condition."""
    if node is not statement:
        return node.end_lineno or node.lineno
    last = statement.test if isinstance(statement, ast.If) else statement
    return last.end_lineno or last.lineno


def _is_zip(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "zip"


def _is_nothing(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value in (None, False)


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= MOST else f"{text[: MOST - 3]}..."


def _difference(node: ast.AST, changed: ast.AST) -> str:
    """`a < b -> a <= b`; of long code, only what is around the difference."""
    old, new = (" ".join(ast.unparse(one).split()) for one in (node, changed))
    if len(old) > MOST:
        same = next(place for place, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
        start, end = max(same - MOST // 3, 0), same + MOST // 3
        old, new = (f"...{text[start:end]}..." for text in (old, new))
    return f"{old} -> {new}"
