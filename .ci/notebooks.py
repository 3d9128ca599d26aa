"""The tutorials as notebooks: made out of docs/tutorials/*.md, whose code the tests run, when the site is built.

    build/docs/bin/python .ci/notebooks.py FOLDER PYTHON [NAME ...]

runs each (or those named) as a reader does, with its own budgets, in a folder of its own: kernels are started by
PYTHON, an environment that has memlm, and see ipykernel of this one behind its own packages. The notebooks stay there
with their outputs.
"""

import json
import os
import posixpath
import re
import sys
import sysconfig
import tempfile
from pathlib import Path

import jupytext
import nbformat

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
VERSION = re.search(r'^__version__ = "(.+)"', (ROOT / "memlm" / "__init__.py").read_text(), re.MULTILINE)[1]
INTRO = """*Made from `docs/tutorials/{name}.md` of memlm {version}. It runs from top to bottom where memlm is installed
with `pip install 'memlm[train,report]'` and Jupyter was started in that environment; files are written beside it.*"""
HEAD = """---
jupyter:
  kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""
KERNEL = "import sys; sys.path.append({site!r}); from ipykernel.kernelapp import launch_new_instance as go; go()"


def notebook(page: Path) -> nbformat.NotebookNode:
    """A page as a notebook: its Python as cells, its command lines as cells of bash, links as what they lead to."""
    markdown = page.read_text(encoding="utf-8")

    def told(link: re.Match[str]) -> str:
        return f"{link[1]} ({posixpath.normpath(f'docs/tutorials/{link[2]}')})"

    title, _, rest = re.sub(r"\[([^\]]+)\]\((?!\w+:)([^)]+)\)", told, markdown).partition("\n")
    intro = INTRO.format(name=page.stem, version=VERSION)
    made = jupytext.reads(f"{HEAD}{title}\n\n{intro}\n{rest}", fmt="md")
    for number, cell in enumerate(made.cells):
        cell.id = f"{page.stem}-{number}"  # the same whenever it is made
    cells = [cell.source.removeprefix("%%bash\n").strip() for cell in made.cells if cell.cell_type == "code"]
    blocks = re.findall(r"^```\w*\n(.*?)^```", markdown, re.DOTALL | re.MULTILINE)
    if cells != [block.strip() for block in blocks]:
        raise ValueError(f"{page.name}: the cells of the notebook are not the blocks that the tests run.")
    nbformat.validate(made)
    return made


def run(made: nbformat.NotebookNode, folder: Path, python: str) -> None:
    """Execute every cell in a folder; CellExecutionError where one fails."""
    from nbclient import NotebookClient

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as specs:
        spec = Path(specs) / "kernels" / "reader" / "kernel.json"
        spec.parent.mkdir(parents=True)
        start = KERNEL.format(site=sysconfig.get_path("purelib"))
        env = {"PATH": f"{Path(python).absolute().parent}{os.pathsep}{os.environ['PATH']}"}
        argv = [str(Path(python).absolute()), "-c", start, "-f", "{connection_file}"]
        spec.write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python", "env": env}))
        os.environ["JUPYTER_PATH"] = specs
        where = {"metadata": {"path": str(folder)}}
        NotebookClient(made, kernel_name="reader", timeout=None, resources=where).execute()


if __name__ == "__main__":
    place, python, *names = Path(sys.argv[1]), *sys.argv[2:]
    for page in [page for page in PAGES if not names or page.stem in names]:
        made = notebook(page)
        try:
            run(made, place / page.stem, python)
        finally:
            nbformat.write(made, place / page.stem / f"{page.stem}.ipynb")
        print(f"{page.stem}: {sum(cell.cell_type == 'code' for cell in made.cells)} cells ran", flush=True)
