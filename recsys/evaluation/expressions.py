"""Expressions that say which queries or rows are meant: `history_length >= 20 and gender == 'F'`.

Read with Python's own grammar and evaluated by Arrow, never by Python. There are columns, numbers, text,
lists of these, `and`, `or`, `not`, comparisons, `in` (a list, or a column of lists: `'Drama' in item.genres`)
and `+ - * /`. What compares with an unknown value is not in the slice.

Legend: N queries or rows.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys.schema.errors import InputError, InputTypeError

_MAX_DEPTH = 100
_SHOWN_CHARACTERS = 200

Mask = npt.NDArray[np.bool_]

_COMPARISONS: Mapping[type[ast.cmpop], Any] = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}
_ARITHMETIC: Mapping[type[ast.operator], Any] = {
    ast.Add: pc.add_checked,
    ast.Sub: pc.subtract_checked,
    ast.Mult: pc.multiply_checked,
    ast.Div: lambda left, right: pc.divide(pc.cast(left, pa.float64()), right),
}


def parse(text: str, *, key: str) -> ast.expr:
    """The expression as a tree that holds nothing but what is allowed.

    Args:
        text: the expression.
        key: where it stands in the configuration.

    Raises:
        ValueError: it is not an expression, or holds something else, such as a call.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        too_deep = _depth(tree) > _MAX_DEPTH
    except SyntaxError as error:
        raise _refusal(key, text, error.msg) from error
    except (RecursionError, MemoryError):
        too_deep = True
    if too_deep:
        raise _refusal(key, text, f"it is nested more than {_MAX_DEPTH} deep")
    _check(tree, key, text)
    return tree


def select(text: str, table: pa.Table, *, key: str) -> Mask:
    """Which rows of the table the expression is true for.

    Args:
        text: the expression.
        table: N rows; its columns are the names that may be used.
        key: where the expression stands in the configuration.

    Returns:
        [N] bool.

    Raises:
        ValueError: it cannot be read, names a column that is not there, compares what cannot be compared, or
            is neither true nor false.
    """
    tree = parse(text, key=key)
    named = {_name(node) for node in _columns(tree)}
    if not named:
        raise _refusal(key, text, "it names no column")
    unknown = sorted(named - set(table.column_names))
    if unknown:
        raise InputError(
            f"`{key}` must use columns that there are, got {', '.join(f'`{one}`' for one in unknown)} in "
            f"`{text}`; there are: {', '.join(table.column_names)}"
        )
    try:
        found = _value(tree, table)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise _refusal(key, text, str(error).splitlines()[0]) from error
    if not pa.types.is_boolean(found.type):
        raise _refusal(key, text, f"it is neither true nor false but of type {found.type}")
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), dtype=np.bool_)


def _refusal(key: str, text: str, reason: str) -> InputError:
    shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} ..."
    return InputError(
        f"`{key}` must be an expression such as `history_length >= 20 and gender == 'F'`, got `{shown}`: "
        f"{reason}"
    )


def _depth(tree: ast.expr) -> int:
    """Measures how deep an expression is nested; without recursion, for it may exceed Python's stack."""
    deepest, open_nodes = 0, [(tree, 1)]
    while open_nodes:
        node, depth = open_nodes.pop()
        deepest = max(deepest, depth)
        open_nodes += [
            (child, depth + 1) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)
        ]
    return deepest


def _check(node: ast.expr, key: str, text: str) -> None:
    allowed = (ast.BoolOp, ast.UnaryOp, ast.Compare, ast.BinOp, ast.Name, ast.Constant, ast.List, ast.Tuple)
    fits = isinstance(node, allowed) or (isinstance(node, ast.Attribute) and bool(_name(node)))
    if isinstance(node, ast.BinOp):
        fits = type(node.op) in _ARITHMETIC
    if isinstance(node, ast.UnaryOp):
        fits = isinstance(node.op, ast.Not | ast.USub)
    if isinstance(node, ast.Constant):
        fits = isinstance(node.value, str | int | float)
    if isinstance(node, ast.Compare):
        fits = not any(isinstance(part, ast.Is | ast.IsNot) for part in node.ops)
    if isinstance(node, ast.List | ast.Tuple):
        fits = all(isinstance(part, ast.Constant) for part in node.elts)
    if not fits:
        raise _refusal(key, text, f"`{ast.unparse(node)}` is not allowed in it")
    if not isinstance(node, ast.Attribute):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                _check(child, key, text)


def _name(node: ast.expr) -> str:
    """`item.genres` of the nodes that stand for it; empty where they stand for something else."""
    if isinstance(node, ast.Attribute):
        before = _name(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def _columns(node: ast.expr) -> list[ast.expr]:
    if _name(node):
        return [node]
    children = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
    return [column for child in children for column in _columns(child)]


def _value(node: ast.expr, table: pa.Table) -> Any:
    """A column, or a plain value where the node names no column."""
    if _name(node):
        return table[_name(node)]
    if not _columns(node):
        return ast.literal_eval(node)
    if isinstance(node, ast.BoolOp):
        combine = pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene
        joined = _value(node.values[0], table)
        for other in node.values[1:]:
            joined = combine(joined, _value(other, table))
        return joined
    if isinstance(node, ast.UnaryOp):
        apply = pc.invert if isinstance(node.op, ast.Not) else pc.negate_checked
        return apply(_value(node.operand, table))
    if isinstance(node, ast.BinOp):
        return _ARITHMETIC[type(node.op)](_value(node.left, table), _value(node.right, table))
    assert isinstance(node, ast.Compare), ast.dump(node)
    return _compared(node, table)


def _compared(node: ast.Compare, table: pa.Table) -> Any:
    """A chain of comparisons: all of them hold."""
    places = [node.left, *node.comparators]
    chain = None
    for left, operator, right in zip(places, node.ops, node.comparators, strict=False):
        if isinstance(operator, ast.In | ast.NotIn):
            holds = _contained(_value(left, table), _value(right, table))
            holds = pc.invert(holds) if isinstance(operator, ast.NotIn) else holds
        else:
            holds = _COMPARISONS[type(operator)](_value(left, table), _value(right, table))
        chain = holds if chain is None else pc.and_kleene(chain, holds)
    return chain


def _contained(left: Any, right: Any) -> Any:
    """A column in a list of constants, or a constant in a column of lists."""
    if isinstance(right, list | tuple):
        isin = pc.is_in(left, value_set=pa.array(list(right), type=left.type))
        return pc.if_else(pc.is_valid(left), isin, pa.scalar(None, pa.bool_()))
    if not isinstance(right, pa.ChunkedArray) or not pa.types.is_list(right.type):
        raise InputTypeError("`in` needs a list, or a column of lists, on its right")
    lists = right.combine_chunks()
    holds = np.zeros(len(lists), dtype=np.bool_)
    parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    equal = pc.fill_null(pc.equal(pc.list_flatten(lists), left), False).to_numpy(zero_copy_only=False)
    holds[parents[equal]] = True
    return pa.array(holds)
