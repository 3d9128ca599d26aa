"""A hook of mkdocs: results, log and changes stand in the repository and on the site, and links lead to either.

On the site the repository's root is the folder of the pages: `../benchmarks/far.md` and `docs/store.md` are
`benchmarks/far.md` and `store.md` there.
"""

import re
import runpy
from pathlib import Path

import nbformat
from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
NOTEBOOKS = runpy.run_path(str(Path(__file__).with_name("notebooks.py")), run_name="notebooks")


def on_files(files, config):
    """Add what is beside the pages."""
    for path in [*ROOT.glob("benchmarks/*.md"), *ROOT.glob("benchmarks/*.png"), ROOT / "LOG.md", ROOT / "CHANGELOG.md"]:
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    for page in NOTEBOOKS["PAGES"]:
        made = nbformat.writes(NOTEBOOKS["notebook"](page))
        files.append(File.generated(config, f"tutorials/{page.stem}.ipynb", content=made))
    return files


def on_page_markdown(markdown, page, **_):
    """Let links out of docs/, and those into it, lead to where things are on the site."""
    if page.file.src_uri.startswith("tutorials/"):
        name = f"{Path(page.file.src_uri).stem}.ipynb"
        title, _, rest = markdown.partition("\n")
        return f'{title}\n\n[Take it away as a notebook]({name}){{ .md-button download="{name}" }}\n{rest}'
    here = page.file.src_uri.startswith("benchmarks/")
    markdown = markdown.replace("](../benchmarks/)", "](benchmarks/demo.md)").replace("](../docs/", "](../")
    return re.sub(r"\]\((\.\./|docs/)", "](../" if here else "](", markdown)
