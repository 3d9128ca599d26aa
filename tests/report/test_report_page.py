import json
import re
import subprocess
import sys
import warnings
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import ENVIRONMENT, ROWS, result, write_demo, write_measurement, write_run

from memlm.errors import UsageError
from memlm.measure.scores import ChunkScores, retention_figures, storage_figures
from memlm.report.page import make_report, render, write_report
from memlm.results.reading import read_runs

OUTSIDE = re.compile(
    r"""(?:src|href|action|data)\s*=\s*["']?(?!#|["']?#)|url\(\s*["']?(?!#)|@import|<script|<link|<iframe"""
)
VOID = {"meta", "input", "br", "path", "use", "rect"}


class Outline(HTMLParser):
    """Elements opened and closed in order, ids, and words."""

    def __init__(self, page):
        super().__init__()
        self.open, self.ids, self.words = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def page_of(*folders) -> str:
    return render(make_report(read_runs(folders)))


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    return write_demo(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="module")
def page(demo) -> str:
    return page_of(demo)


def test_the_page_refers_to_nothing_outside_itself(page):
    assert not OUTSIDE.search(page)
    assert "http:" not in page
    assert "https:" not in page
    assert "default-src 'none'" in page


def test_the_page_is_well_formed_and_ids_are_unique(page):
    outline = Outline(page)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    targets = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", page))
    assert targets <= set(outline.ids)


def test_every_result_row_appears_with_its_controls_under_their_model(page):
    table = page[page.index('<table class="retention">') :]
    table = table[: table.index("</table>")]
    assert table.count("<tr class=") - 1 == len(ROWS)
    bodies = re.findall(r"<tbody>(.*?)</tbody>", table, re.DOTALL)
    assert len(bodies) == 6  # five models and the floor
    assert bodies[0].count('class="control"') == 5
    assert "no memory" in bodies[-1]
    for *_, accuracy, _, _ in ROWS:
        assert f">{100 * accuracy:.2f}<small>" in table


def test_the_headline_is_the_best_recall_beside_a_causal_encoder(page):
    start = page.index('<section class="headline">')
    words = " ".join(Outline(page[start : page.index("</section>", start) + 10]).words)
    assert "161 characters" in words
    assert "256 numbers" in words
    for figure in ("99.96\u202f%", "98.4\u202f%", "9.41\u202f%", "5.12\u202f%", "99.87\u202f%"):
        assert figure in words


def test_recalled_passages_mark_wrong_tokens_and_name_the_right_ones(page):
    passages = page[page.index("<h2>See for yourself") : page.index("</section>", page.index("<h2>See for yourself"))]
    panels = passages.split('<div class="panel">')[1:]
    assert len(panels) == 7  # each trained model, no memory and one untrained twin
    assert panels[0].count("<mark") < panels[1].count("<mark")
    assert "the text has “" in panels[0]
    assert page.count(" checked>") == 1  # the first panel


def test_text_from_books_and_names_is_escaped(tmp_path):
    name = '<img src="x">&'
    rows = [(name if row[0] == "slots" else row[0], *row[1:]) for row in ROWS[:2]]
    page = page_of(write_measurement(tmp_path / "m", rows), write_run(tmp_path / "<b>'run'"))
    assert "<img" not in page
    assert "<b>'run'" not in page
    assert "best of &lt; times &amp; it was the &#34;worst&#34;" in page
    assert name in unescape(page)
    assert Outline(page).open == []


def test_colours_follow_the_page_and_stay_with_a_model(page):
    svgs = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(svgs) == 4
    for svg in svgs:
        assert "var(--series-0)" in svg
        assert "var(--figure-ink)" in svg
        assert "#0072b2" not in svg
        assert "<style" not in svg


def test_writes_the_page_and_its_figures(demo, tmp_path):
    out = tmp_path / "deep" / "story.html"
    done = write_report([demo], out)
    assert out.read_text().startswith("<!doctype html>")
    names = ["accuracy-by-position.png", "training-seconds.png", "training-steps.png", "usable-bits.png"]
    assert sorted(path.name for path in (tmp_path / "deep" / "story-figures").iterdir()) == names
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in done["figures"])
    assert done["headline"]["best"]["token_accuracy"] == 0.99964
    assert done["headline"]["causal"]["model"] == "causal-mixer"
    json.dumps(done, allow_nan=False)


def test_the_same_runs_give_the_same_page(tmp_path):
    folder = write_measurement(tmp_path / "m", ROWS[:3])
    assert page_of(folder) == page_of(folder)


@pytest.mark.usefixtures("undrawn")
def test_training_runs_alone_give_a_smaller_page(tmp_path):
    write_run(tmp_path / "one")
    page = page_of(write_run(tmp_path / "two", finished=False), tmp_path / "one", tmp_path / "one")
    assert page.count("<svg") == 2
    assert "Retention" not in page
    assert "not finished" in page
    assert page.count("training run</small>") == 2


def test_a_run_before_its_first_evaluation_is_only_listed(tmp_path):
    (write_run(tmp_path / "young", finished=False) / "metrics.jsonl").write_text("")
    page = page_of(tmp_path / "young")
    assert "<svg" not in page
    assert "young" in page


@pytest.mark.usefixtures("undrawn")
def test_a_measurement_without_samples_has_no_passages(tmp_path):
    page = page_of(write_measurement(tmp_path / "m", samples=False))
    assert "See for yourself" not in page
    assert "Training</h2>" not in page
    assert "Retention</h2>" in page


def test_rows_without_figures_and_no_numbers_are_dashes(tmp_path):
    write_measurement(tmp_path / "m", ROWS[:3])
    bare = {"model": "a", "training": "autoencoder", "decoder": "own", "token_accuracy": 0.5, "entropy_ratio": None}
    report = {"results": [bare, bare | {"training": "causal", "token_accuracy": float("nan")}]}
    (tmp_path / "m" / "results.json").write_text(json.dumps(report))
    page = page_of(tmp_path / "m")
    assert "nan" not in page.lower().replace("provenance", "").replace("not", "")
    assert "50.00" in page
    assert "<svg" not in page
    (tmp_path / "p.html").write_text("an older page")
    json.dumps(write_report([tmp_path / "m"], tmp_path / "p.html"), allow_nan=False)
    assert (tmp_path / "p.html").read_text() == page


@pytest.mark.usefixtures("undrawn")
def test_several_measurements_stand_under_their_names(tmp_path):
    short, long = (
        write_measurement(tmp_path / "a/m", ROWS[:9]),
        write_measurement(tmp_path / "b/m", ROWS[:3], tokens=128),
    )
    page = page_of(short, long)
    assert "<h3>a/m</h3>" in page
    assert "<h3>b/m</h3>" in page
    assert page.count('<table class="retention">') == 2
    assert page.count("<svg") == 4


def test_provenance_names_commit_data_seed_machine_versions_and_budget(page):
    words = " ".join(
        Outline(
            page[page.index('<div class="provenance">') : page.index("</div></details>\n</section>\n</main>")]
        ).words
    )
    for fact in (
        ENVIRONMENT["commit"],
        ENVIRONMENT["machine"],
        "5ca1ab1e5ca1",
        "torch 2.13.0",
        "steps 1,000",
        "32,768",
    ):
        assert fact in words
    assert "/" not in re.sub(r"\bcpu/\w+", "", words)


def test_what_is_no_run_is_refused_in_one_sentence(tmp_path, demo):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "results.json").write_text('{"results": [{"speed": 3}]}')
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "results.json").write_text('{"results": [')
    (write_run(tmp_path / "listed") / "config.json").write_text("[]")
    for wrong in ("file", "empty", "bench", "absent", "broken", "listed"):
        with pytest.raises(UsageError, match=wrong):
            read_runs([tmp_path / wrong])
    with pytest.raises(UsageError, match="at least one"):
        read_runs([])
    for wrong in ("page", "results.json"):
        with pytest.raises(UsageError, match=r"\.html"):
            write_report([demo], tmp_path / wrong)
    with pytest.raises(UsageError, match="is a file"):
        write_report([demo], tmp_path / "p.html", tmp_path / "file")
    assert not (tmp_path / "p.html").exists()


def test_the_command_loads_no_torch_and_prints_one_object(tmp_path):
    run = write_run(tmp_path / "run")
    code = (
        "import sys; from memlm.cli import main; code = main(sys.argv[1:]);"
        "sys.exit(code or 9 * ('torch' in sys.modules or 'matplotlib.pyplot' in sys.modules))"
    )
    call = [sys.executable, "-c", code, "report", str(run), "--out", str(tmp_path / "p.html"), "--json"]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["page"] == str(tmp_path / "p.html")


def test_rows_of_the_fixture_have_the_keys_of_a_real_measurement():
    scores = ChunkScores(np.ones(4), np.ones((4, 3), bool), np.zeros((4, 3), int))
    keys = (
        retention_figures([scores], [scores], 9, np.ones(4), 2, np.arange(4), 0).keys()
        | storage_figures([b"a"], 3, 9, 2).keys()
    )
    assert keys <= result(*ROWS[1]).keys()


def test_names_in_any_script_draw_no_warnings(tmp_path):
    names = {"slots": "日本語の実行", "mixer": "запуск", "causal-mixer": "تشغيل 🦊"}
    rows = [(names.get(row[0], row[0]), *row[1:]) for row in ROWS]
    write_measurement(tmp_path / "runs" / "m", rows)
    for name in names.values():
        write_run(tmp_path / "runs" / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = write_report([tmp_path / "runs"], tmp_path / "ページ.html")
    assert len(done["figures"]) == 4
    assert all(name in (tmp_path / "ページ.html").read_text(encoding="utf-8") for name in names.values())
