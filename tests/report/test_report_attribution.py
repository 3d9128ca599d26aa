import json
import re
from html import unescape

import pytest
from made_up_access import C, T, attribution_row, rows_of, write_access, write_attribution
from test_report_memory import section
from test_report_page import OUTSIDE, Outline, page_of

from memlm.errors import UsageError
from memlm.measure.attribution import _TOLD
from memlm.report.page import write_report
from memlm.report.views import FULL
from memlm.results.reading import read_runs

TITLE = "What memories told, token by token"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    return page_of(write_attribution(tmp_path_factory.mktemp("attribution") / "m", "one", "no single"))


def texts(page: str) -> list[str]:
    return re.findall(r'<p class="heat">(.*?)</p>', page, re.DOTALL)


def test_made_up_rows_have_the_keys_of_real_ones():
    stated = {"model", "kind", "reader", "chunk_tokens", "text", "seed", "data", "vocab_size", "device", "machine"}
    assert attribution_row("m", "copy", "copied", "mean", "l1", 1.0).keys() == stated | {"commit"} | set(_TOLD)


def test_texts_of_books_are_escaped_and_the_page_is_whole(page):
    outline = Outline(page)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    assert not OUTSIDE.search(page)
    first = texts(page)[0]
    assert first.count("<b") == C * T  # tokens, none of them made of a text's own markup
    assert "&lt;b&gt;" in first
    assert '“"x"”' in unescape(first)


def test_colours_say_how_much_and_which_way(page):
    none, mislead, save, hardly = re.findall(r"<b.*?</b>", texts(page)[0], re.DOTALL)[:4]
    assert "--loss" not in none
    assert f'class="less" style="--loss:{round(300 / FULL)}%' in mislead
    assert "--loss:100%;--l1:100%" in save  # beyond the scale is its end
    assert "style" not in hardly
    assert "without memories 8.50 nats more loss, logits move by 850.0 (1 − cosine 0.125)" in unescape(save)
    assert "entropy 0.50 with, 2.50 without" in save


def test_the_memory_that_told_a_token_is_told_where_it_matters(page):
    first, *_, last = texts(page)
    tokens = re.findall(r"<b.*?</b>", first, re.DOTALL)
    assert all("told by" not in token for token in tokens[:T])
    assert "--by:var(--series-0)" in tokens[T + 2]
    assert "told by chunk 1" in tokens[T + 2]
    assert "told by" not in tokens[T]  # without a change nobody told it
    assert first.count('class="number"') == C
    assert "told by chunk" not in last  # of a model whose memories cannot be hidden one by one


def test_what_a_token_looked_up_stands_with_its_passage(page):
    first, *_, last = texts(page)
    tokens = [unescape(token) for token in re.findall(r"<b.*?</b>", first, re.DOTALL)]
    told = 'looked up chunk 1, 62%: “<b> &↵"x"'
    assert [n for n, token in enumerate(tokens) if told in token] == [T + 2]
    tables = [unescape(one) for one in re.findall(r"<details><summary>the same as.*?</details>", page, re.DOTALL)]
    assert tables[0].count(told.removeprefix("looked up ")) == 1
    assert "looked up" not in tables[-1]  # of a reader that does not choose
    assert "looked up" not in unescape(last)


def test_every_text_is_a_table_too_and_the_scale_is_told(page):
    tables = re.findall(r"<details><summary>the same as.*?</details>", page, re.DOTALL)
    assert len(tables) == len(texts(page)) == 4
    assert tables[0].count("<tr>") == C * T + 1
    words = section(page, TITLE)
    assert "mislead by 8 nats" in words
    assert "the logits move by 850" in words


def test_the_table_and_the_figure_show_the_rows(page, tmp_path):
    words = section(page, TITLE)
    for figure in ("9.250", "9.240–9.260", "−2.125", "0.983", "0.502", "93.75", "chance 42"):
        assert figure in words
    done = write_report([write_attribution(tmp_path / "m", "one")], tmp_path / "p.html")
    assert [path.rpartition("/")[2] for path in done["figures"]] == ["loss-saved.png"]


@pytest.mark.usefixtures("undrawn")
def test_seeds_are_one_model_and_equal_names_are_told_apart(tmp_path):
    write_attribution(tmp_path / "a", "it-seed0", "it-seed1")
    words = section(page_of(tmp_path / "a"), TITLE)
    assert "mean and range of 2 seeds" in words
    assert len(texts(page_of(tmp_path / "a"))) == 2
    for folder in ("b", "c"):
        write_attribution(tmp_path / folder, "it")
    words = section(page_of(tmp_path / "b", tmp_path / "c"), TITLE)
    assert "b/it" in words
    assert "c/it" in words


@pytest.mark.usefixtures("undrawn")
def test_it_stands_beside_access_and_says_nothing_without_figures(tmp_path):
    write_access(tmp_path / "m", rows_of("one"))
    page = page_of(write_attribution(tmp_path / "m", "one"))
    assert page.index("Access to memory</h2>") < page.index(TITLE)
    note = attribution_row("one", "plain", None, None, "", 0.0, note="one chunk") | {"value": None, "value_ci": None}
    (tmp_path / "m" / "attribution.json").write_text(json.dumps({"results": [note], "samples": []}))
    assert TITLE not in page_of(tmp_path / "m")


@pytest.mark.parametrize("change", [{"results": None}, {"results": [{"model": "x"}]}, {"samples": [{}]}])
def test_a_damaged_file_is_refused(tmp_path, change):
    file = write_attribution(tmp_path / "m", "one") / "attribution.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UsageError, match=r"attribution\.json"):
        read_runs([tmp_path / "m"])
