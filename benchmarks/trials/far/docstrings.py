"""Docstrings of Python's own library, one file a package, for `memlm prepare data/docstrings-text --out data/docstrings`."""

import ast
import sys
import sysconfig
from collections import defaultdict
from pathlib import Path

out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
root, text = Path(sysconfig.get_paths()["stdlib"]), defaultdict(list)
for path in sorted(root.rglob("*.py")):
    part = path.relative_to(root).parts
    if part[0] in ("site-packages", "test", "idlelib", "lib2to3") or "test" in part or "tests" in part:
        continue
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        continue
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (doc := ast.get_docstring(node)):
            text[part[0].removesuffix(".py")].append(doc)
for name, docs in text.items():
    if sum(map(len, docs)) > 2000:
        (out / f"{name}.txt").write_text("\n\n".join(docs), encoding="utf-8")
