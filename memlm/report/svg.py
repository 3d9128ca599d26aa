"""A figure inside a page: SVG whose colours are the page's and whose text is in the page's font; or a PNG file."""

import io
import re

from matplotlib import rc_context
from matplotlib.figure import Figure

from memlm.report.figures import INK, MUTED, RULE, SERIES, STYLE
from memlm.report.text import escape

# What page.css calls the colours that figures are drawn in.
VARIABLES = {INK: "--figure-ink", MUTED: "--figure-muted", RULE: "--figure-rule"}
VARIABLES |= {colour: f"--series-{i}" for i, colour in enumerate(SERIES)}


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """A figure as an `<svg>` element without any reference to the outside.

    Args:
        figure: what is drawn.
        name: put before every id, because several figures share one page.
        label: what a screen reader says.
    """
    buffer = io.StringIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1).strip()


def png(figure: Figure) -> bytes:
    """A figure as a PNG on white, for slides and papers."""
    buffer = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=200, facecolor="white")
    return buffer.getvalue()
