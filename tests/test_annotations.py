"""Every public function of the package has annotations on its parameters and its return."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted(
    file.relative_to(ROOT).as_posix() for place in ("dtr1_jax", "configs") for file in (ROOT / place).rglob("*.py")
)


def missing_annotations(source: str) -> list[str]:
    """`LINE NAME: parameters without an annotation` for each public function of a module and of its public classes."""
    tree = ast.parse(source)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    faults = []
    for owner in [tree, *classes]:
        for node in owner.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
                continue
            a = node.args
            static = any(getattr(decorator, "id", "") == "staticmethod" for decorator in node.decorator_list)
            parameters = [*a.posonlyargs, *a.args][int(owner is not tree and not static) :]
            parameters += [p for p in (*a.kwonlyargs, a.vararg, a.kwarg) if p]
            names = [p.arg for p in parameters if p.annotation is None] + ["return"] * (node.returns is None)
            if names:
                faults.append(f"{node.lineno} {node.name}: {', '.join(names)}")
    return faults


@pytest.mark.parametrize("path", FILES)
def test_public_functions_are_annotated(path):
    faults = missing_annotations((ROOT / path).read_text("utf-8"))
    assert not faults, f"{path}: annotate these\n" + "\n".join(faults)


def test_missing_annotations_are_found():
    source = (
        "def f(a, b: int, *c, d=0, **e) -> int: ...\n"
        "def _g(a): ...\n"
        "class A:\n"
        "  def h(self, a: int): ...\n"
        "  @staticmethod\n"
        "  def i(a) -> int: ...\n"
        "  def j(self) -> int: ...\n"
        "class _B:\n"
        "  def k(self, a): ...\n"
    )
    assert missing_annotations(source) == ["1 f: a, d, c, e", "4 h: return", "6 i: a"]
