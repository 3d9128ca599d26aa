"""transformers is met in one module alone."""

import re
from pathlib import Path

import memlm

PACKAGE = Path(memlm.__file__).parent


def test_no_other_module_imports_transformers():
    meets = re.compile(r"^\s*(from|import) transformers\b", re.MULTILINE)
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if meets.search(path.read_text())}
    assert found == {"huggingface.py"}
