"""Docstrings of Python's own library and of packages beside it, module by module, for `memlm bench far` on another kind
of text than books: every sixth module into one long document `test`, every sixteenth into `tune`, the others by twenty.

    python benchmarks/trials/far/docstrings.py data/docstrings-text numpy torch
    memlm prepare data/docstrings-text --out data/docstrings --vocab-size 1024 --tune tune --test test
    memlm bench far --data data/docstrings --out docstrings
"""

import ast
import sys
import sysconfig
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "_vendor", "idlelib", "lib2to3", "ensurepip"}
KINDS = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def told(path: Path) -> str:
    """All docstrings of a module; none of one that is not of this Python."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return ""
    docs = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, KINDS))
    return "\n\n".join(filter(None, docs))


if len(sys.argv) < 2:
    raise SystemExit("docstrings: name a folder to write to, and packages whose docstrings go in too.")
out, *packages = sys.argv[1:]
found = {name: find_spec(name) for name in packages}
if missing := [name for name, spec in found.items() if spec is None or spec.origin is None]:
    raise SystemExit(f"docstrings: there is no package {missing[0]} in this Python: install it, or leave it out.")
folders = [Path(sysconfig.get_paths()["stdlib"]), *(Path(spec.origin).parent for spec in found.values())]
paths = [path for folder in folders for path in sorted(folder.rglob("*.py")) if not LEFT_OUT & {*path.relative_to(folder).parts}]
modules = [text for path in paths if len(text := told(path)) > 500]
parts = defaultdict(list)
for number, text in enumerate(modules):
    parts["test" if number % 6 == 5 else "tune" if number % 16 == 0 else f"train-{number // 20:03d}"].append(text + "\n\n")
Path(out).mkdir(parents=True, exist_ok=True)
for name, texts in parts.items():
    (Path(out) / f"{name}.txt").write_text("".join(texts), encoding="utf-8")
