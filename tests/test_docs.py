"""Every tutorial runs as it is written, in the order of its blocks, on a small corpus and a sliver of its budgets.

`make docs` runs the notebooks that it has made in the same way: MEMLM_NOTEBOOKS names their folder.
"""

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from memlm import MeasureConfig, ProbeConfig
from memlm.cli import main
from memlm.measure import public
from memlm.presets import CURRICULA

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted((DOCS / "tutorials").glob("*.md"))
_FEW = {"steps": 4, "batch": 2, "eval-every": 4, "eval-chunks": 2, "checkpoint-every": 4}
_STAGES = CURRICULA["memory"]().stages
BRIEF = {  # what is added to a call
    "prepare": {"vocab-size": 300},
    "train slots": _FEW,
    "train memory": {
        f"stages.{stage}.{name}": value
        for stage, config in _STAGES.items()
        for name, value in (_FEW | {"steps": 2, "context": min(2, config.context)}).items()
    },
    "measure": {"chunks": 16, "probe.train-chunks": 40, "probe.families": "linear", "probe.seeds": 1},
    "generate": {"max-new-tokens": 2},
}


def blocks(page: Path) -> list[tuple[str, str]]:
    """A page's fenced blocks, or the cells of the notebook made of it, with their languages."""
    if folder := os.environ.get("MEMLM_NOTEBOOKS"):
        cells = json.loads((Path(folder) / f"{page.stem}.ipynb").read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        return [("bash" if cell.startswith("%%bash") else "python", cell.removeprefix("%%bash\n")) for cell in code]
    return re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_runs(page, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(data.parent / "source", tmp_path / "source")
    (tmp_path / "book.txt").write_text(" ".join(f"word{n * n % 91}" for n in range(120)))
    probe = ProbeConfig(families=("linear",), seeds=1, train_chunks=(40,))
    asked = MeasureConfig(chunks=16, probe=probe, access_examples=4, free_running=0, attribution=0)
    monkeypatch.setattr(public, "MeasureConfig", lambda: asked)
    place = ModuleType("tutorial")  # a module, since what it defines is found by name
    monkeypatch.setitem(sys.modules, "tutorial", place)
    for language, code in blocks(page):
        if language == "python":
            exec(compile(code, str(page), "exec"), place.__dict__)
            continue
        assert language == "bash", f"{page.name}: what is {language}?"
        code = code.replace("gutenberg:carroll-alice", "book.txt").replace("gutenberg", "source")
        for line in code.strip().splitlines():
            program, *argv = shlex.split(line)
            assert program == "memlm"
            brief = next((flags for call, flags in BRIEF.items() if " ".join(argv).startswith(call)), {})
            more = [word for name, value in brief.items() for word in (f"--{name}", str(value))]
            assert main([*argv, *more]) == 0, (line, capsys.readouterr().err)
    assert capsys.readouterr().out


def test_every_page_is_in_the_navigation():
    pages = set(re.findall(r"[\w/]+\.md", (DOCS.parent / "mkdocs.yml").read_text())) - {"LOG.md", "CHANGELOG.md"}
    assert pages == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}


def test_the_interface_page_tells_all_that_is_public():
    import memlm

    told = {name.rpartition(".")[2] for name in re.findall(r"^::: (\S+)", (DOCS / "interface.md").read_text(), re.M)}
    assert {*memlm.__all__} - {"__version__"} <= told


def test_every_command_in_the_pages_is_one():
    from memlm.cli import COMMANDS

    for page in DOCS.rglob("*.md"):
        calls = re.findall(r"^(?:    |\$ )?memlm ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert {*calls} <= {*COMMANDS}, page


def test_every_link_of_a_page_leads_somewhere():
    for page in DOCS.rglob("*.md"):
        links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
        gone = [link for link in links if "://" not in link and not (page.parent / link).exists()]
        assert not gone, page
