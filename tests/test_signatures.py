"""Signatures that help: what is public has its types written down, and options go by name."""
import ast
from pathlib import Path

import pytest

import mxelm

HOUSE = Path(mxelm.__file__).parent
# operators of ONNX are called by a table, in the standard's order; some functions' first options come in pairs with the
# subject, or as scikit-learn has them
BY_PLACE = ("backbones/onnx",)
IN_PAIRS = ("require_whole", "ELMClassifier.partial_fit", "select")
MODULES = [path.relative_to(HOUSE) for path in sorted(HOUSE.rglob("*.py"))]
BY_NAME = [path for path in MODULES if not str(path).startswith(BY_PLACE)]
POSITIONAL = 5  # arguments of a call that can still be told apart by their places


def public_functions(path):
    """(qualified name, its node) of the public functions of a module, and of the methods of its public classes."""
    def within(body, prefix=""):
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from within(node.body, f"{node.name}.")
            elif isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name.startswith("__")):
                yield prefix + node.name, node
    return list(within(ast.parse((HOUSE / path).read_text(encoding="utf-8")).body))


def positional(node):
    """Arguments that may be given by their place, without `self` and `cls`, and without a network's `F`."""
    found = [argument.arg for argument in node.args.posonlyargs + node.args.args]
    return [name for name in found if name not in ("self", "cls")] if "F" not in found else []


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_types_are_written_down(path):
    untold = []
    for name, node in public_functions(path):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        untold += [f"{name}({argument.arg})" for argument in arguments
                   if argument and argument.annotation is None and argument.arg not in ("self", "cls", "_")]
        untold += [f"{name} ->"] * (node.returns is None)
    assert not untold


@pytest.mark.parametrize("path", BY_NAME, ids=str)
def test_options_go_by_name(path):
    """A function of more than three arguments takes those with a default by keyword alone."""
    for name, node in public_functions(path):
        by_place = positional(node)
        assert len(by_place) <= POSITIONAL, name
        if len(by_place) + len(node.args.kwonlyargs) > 3 and name not in IN_PAIRS:
            assert not node.args.defaults, name


def test_annotations_are_text():
    """Python 3.9 cannot compute `int | None`: where types are written down they are not computed."""
    for path in MODULES:
        source = (HOUSE / path).read_text(encoding="utf-8")
        if any(node.returns is not None for _, node in public_functions(path)):
            assert "from __future__ import annotations\n" in source, path
