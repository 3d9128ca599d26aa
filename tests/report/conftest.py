import pytest


@pytest.fixture
def undrawn(monkeypatch):
    """Figures stand in pages as empty ones: for tests of a page's words and of how many figures it has."""
    from memlm.report import page

    monkeypatch.setattr(page, "inline_svg", lambda chart: "<svg></svg>")
    monkeypatch.setattr(page, "png", lambda chart: b"\x89PNG")
