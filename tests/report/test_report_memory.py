import json
import re
from html import unescape

import pytest
from made_up_access import (
    row,
    rows_of,
    write_access,
    write_benchmark,
    write_curriculum,
    write_experiments,
    write_memory_run,
)
from made_up_runs import ROWS, result, write_measurement, write_run
from test_report_page import OUTSIDE, Outline, page_of

from memlm.errors import UsageError
from memlm.measure.access import _TOLD
from memlm.report.figures import draw
from memlm.report.page import make_report, render, write_report
from memlm.results.compared import settings_of
from memlm.results.lineage import decoder_steps, unseeded
from memlm.results.reading import read_runs

SEEDS = 2


def section(page: str, title: str) -> str:
    """The words of a section, by its heading; empty if it is not there."""
    start = page.find(f"<h2>{title}</h2>")
    words = " ".join(Outline(page[start : page.index("</section>", start)]).words) if start >= 0 else ""
    return re.sub(r"[ \n]+", " ", words)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = write_experiments(tmp_path_factory.mktemp("memory") / "runs", SEEDS)
    return make_report(read_runs([folder]))


@pytest.fixture(scope="module")
def page(report) -> str:
    return render(report)


def test_made_up_rows_have_the_keys_of_real_ones():
    stated = {"model", "kind", "reader", "task", "chunk_tokens", "seed", "data", "vocab_size", "device", "machine"}
    assert row("m", "copy", "exact_match", "own", 1.0).keys() == stated | {"commit"} | set(_TOLD)


def test_the_page_is_whole_and_alone(page):
    outline = Outline(page)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    assert not OUTSIDE.search(page)
    assert "something &lt;new&gt;" in page


@pytest.mark.usefixtures("undrawn")
def test_the_table_shows_the_numbers_of_the_rows_and_names_chance(tmp_path):
    page = page_of(
        write_access(tmp_path / "m", rows_of("one", loss=3.456, gain=0.0789, copy=0.91, blank=0.8, alone=0.2))
    )
    words = section(page, "Access to memory")
    for figure in ("3.456", "3.535", "3.575", "0.079", "91.00", "20.00", "82.81", "80.00", "97.00", "90.00"):
        assert figure in words
    assert "3.446–3.466" in words  # the interval of the loss
    assert "1.56" in words[words.index("chance") :]
    assert "4.17 of those told" in words
    assert "0–3, mean 1.50" in words
    assert "512 held-out examples, 4 chunks each, 16 tokens a chunk" in words
    assert page.count("<svg") == 3


@pytest.mark.parametrize("told", [{"symbols": "trained"}, {}])
@pytest.mark.usefixtures("undrawn")
def test_look_ups_of_trained_symbols_stand_beside_and_decide_nothing(told, tmp_path):
    """What rows of an earlier version leave untold are symbols that were trained."""

    def trained(row):
        drawn = row["task"] in ("recall", "needle")
        return {k: v for k, v in row.items() if k != "symbols"} | told if drawn else row

    unseen, learnt = rows_of("one", recall=0.41, needle=0.31), map(trained, rows_of("one", recall=0.83, needle=0.73))
    both = [*(row for row in learnt if row.get("symbols", "trained") == "trained"), *unseen]
    write_access(tmp_path / "m", both)
    (model,) = settings_of(read_runs([tmp_path / "m"]))[0]
    for task, share in (("recall", 0.41), ("needle", 0.31)):
        assert model.access(task, "own").value == share  # pyright: ignore[reportOptionalMemberAccess]
        assert model.access(f"{task}, trained symbols", "own").value == share + 0.42  # pyright: ignore[reportOptionalMemberAccess]
    words = section(page_of(tmp_path / "m"), "Access to memory")
    assert "recall, trained sym" in words
    assert all(figure in words for figure in ("41.00", "83.00", "31.00", "73.00"))


def test_seeds_are_one_row_with_their_mean_and_range(page):
    table = re.search(r'<table class="access">.*?</table>', page, re.DOTALL)
    assert table
    assert table[0].count("<tr>") == 6  # the titles, four models, the baseline
    assert f"mean and range of {SEEDS} seeds" in table[0]
    assert "3.478<small>3.476–3.480</small>" in table[0]  # causal loss 3.48 + 0.004 * (seed - 1)


def test_the_same_seed_twice_is_no_second_seed(tmp_path):
    for name in ("a", "b"):
        write_memory_run(tmp_path / name, seed=3)
    write_access(tmp_path / "m", rows_of("a"), rows_of("b"))
    models = settings_of(read_runs([tmp_path]))[0]
    assert [model.name for model in models] == ["a", "b"]


@pytest.mark.usefixtures("undrawn")
def test_chunks_of_another_length_are_another_table(tmp_path):
    short, long = rows_of("short"), [one | {"chunk_tokens": 64} for one in rows_of("long")]
    page = page_of(write_access(tmp_path / "m", short, long))
    assert page.count('<table class="access">') == 2
    assert page.count("<svg") == 6


@pytest.mark.usefixtures("undrawn")
def test_a_model_at_several_lengths_is_told_of_at_the_longest_and_drawn_along_them(tmp_path):
    right = {4: 1.0, 64: 0.97, 1024: 0.91}
    told = {"symbols": "unseen", "trained_chunks": 264}
    rows = []
    for chunks, share in right.items():
        of = told | {"example_chunks": chunks, "chunks": chunks}
        rows += [row("finds", "facts", "token_accuracy", m, v, **of) for m, v in (("own", share), ("none", 0.004))]
        rows += [row("finds", "facts", "token_accuracy", "other", 0.007, **of), *rows_of("finds", **of)]
    report = make_report(read_runs([write_access(tmp_path / "m", rows)]))
    (chart,) = report["charts"]["far"]
    (facts,), loss = chart.panels[0].lines, chart.panels[1].lines
    assert (list(facts.x), list(facts.y)) == (list(right), list(right.values()))
    assert [list(line.x) for line in loss] == [list(right)] * 2
    page = render(report)
    words = section(page, "A long text, read as memories")
    assert "1,024 chunks" in words
    assert "at most 264" in words
    assert [figure in words for figure in ("91.00", "0.40", "0.70", "97.00")] == [True, True, True, False]
    assert page.count('<table class="access">') == len(right)
    short = [one | {"example_chunks": 4, "chunks": 4} for one in rows]
    assert make_report(read_runs([write_access(tmp_path / "n", short)]))["far"] is None


@pytest.mark.usefixtures("undrawn")
def test_what_was_not_asked_has_no_column_and_says_why(tmp_path):
    rows = [one for one in rows_of("odd") if one["task"] in ("causal", "copy")]
    empty = dict.fromkeys(("mode", "metric", "memory", "value", "value_ci", "examples", "chunks"))
    rows.append(row("odd", "recall", "x", "own", 0.0) | empty | {"note": "an odd <number> of tokens."})
    page = page_of(write_access(tmp_path / "m", rows))
    words = section(page, "Access to memory")
    assert "odd: no recall: an odd <number> of tokens." in words
    assert "needle" not in words
    assert "chance" not in words
    assert "<number>" not in page
    assert "blank copy" not in words


def test_a_curriculum_is_known_by_its_name_its_stages_and_what_they_started_from(tmp_path):
    for name in ("a-seed0", "a-seed1"):
        write_curriculum(tmp_path / name)
    runs = read_runs([tmp_path])
    names = [run.name for run in runs.training]
    assert names == [f"a-seed{i}/{stage}" for i in (0, 1) for stage in ("autoencoder", "blank", "combined")]
    last = runs.of("a-seed1", tmp_path / "m")
    assert last
    assert last.name == "a-seed1/combined"
    assert [run.name for run in last.chain] == [f"a-seed1/{s}" for s in ("combined", "blank", "autoencoder")]
    assert decoder_steps(last) == 1000
    assert runs.of("combined", tmp_path / "m") is None  # of which of the two?
    assert runs.of("combined", tmp_path / "a-seed0" / "m") == runs.training[2]
    assert [run.name for run in read_runs([tmp_path / "a-seed0"]).training] == names[:3]
    assert [unseeded(name) for name in ("a-seed1/x", "seed3/x", "x_seed12", "seed")] == ["a/x", "x", "x", "seed"]


@pytest.mark.usefixtures("undrawn")
def test_curves_of_combined_objectives_and_stages_are_all_there(tmp_path):
    write_curriculum(tmp_path / "curriculum")
    page = page_of(tmp_path / "curriculum")
    words = section(page, "Training")
    for word in ("curriculum/autoencoder", "curriculum/blank", "curriculum/combined", "next token", "blank copy"):
        assert word in words
    chart = make_report(read_runs([tmp_path / "curriculum"]))["charts"]["training"][-1]
    curves = [line.x for line in chart.panels[0].lines if len(line.x) == 10]
    assert [(curve[0], curve[-1]) for curve in curves] == [(100, 1000), (1050, 1500), (1550, 2000), (1550, 2000)]
    assert page.count('class="part"') == 1


@pytest.mark.usefixtures("undrawn")
def test_a_benchmark_is_a_table_figures_and_ratios(tmp_path):
    write_benchmark(tmp_path / "bench")
    for path in (tmp_path, tmp_path / "bench", tmp_path / "bench" / "memory.json"):
        page = page_of(path)
        words = section(page, "Efficiency")
        assert "32.0" in words
        assert f"{(64 * 64 + 64) * 8192:,}" in words
        assert "0.0640" in words
        assert page.count("<svg") == 4
        assert "Training</h2>" not in page
    found = json.loads((tmp_path / "bench" / "memory.json").read_text()) | {"results": [{"a": 1.5}, {"b": None}]}
    (tmp_path / "bench" / "memory.json").write_text(json.dumps(found))
    assert "1.50" in section(page_of(tmp_path), "Efficiency")  # columns it does not know are shown as they are


@pytest.mark.usefixtures("undrawn")
def test_missing_pieces_leave_no_empty_sections(tmp_path):
    page = page_of(write_access(tmp_path / "m", [row("a", "copy", "chunk_match", "own", 0.5)]))
    assert "Access to memory" not in page
    assert "What the paper claims" not in page
    assert "Efficiency" not in page
    assert "<svg" not in page
    page = page_of(write_measurement(tmp_path / "r", ROWS[:3]), write_run(tmp_path / "t"))
    for title in ("Access to memory", "Efficiency"):
        assert title not in page


def test_names_are_escaped_everywhere(tmp_path):
    name = '<img src="x">&'
    write_memory_run(tmp_path / name.replace("/", ""))
    write_access(tmp_path / "m", rows_of(name, copy=0.334), rows_of("<i>"))
    page = page_of(tmp_path)
    assert "<img" not in page
    assert "<i>" not in page.replace("<i></i>", "")
    assert name in unescape(page)
    assert Outline(page).open == []


@pytest.mark.parametrize("damage", ["[{", "{}", "[]", "[1]", '[{"model": "a"}]'])
def test_damaged_access_is_refused_in_one_sentence(tmp_path, damage):
    write_access(tmp_path / "m", rows_of("a"))
    (tmp_path / "m" / "access.json").write_text(damage)
    with pytest.raises(UsageError, match=r"access\.json") as refusal:
        read_runs([tmp_path])
    assert "\n" not in str(refusal.value)


def test_another_benchmark_is_no_run(tmp_path):
    (tmp_path / "slots.json").write_text('{"benchmark": "slots", "results": []}')
    with pytest.raises(UsageError, match="slots"):
        read_runs([tmp_path / "slots.json"])


def test_numbers_that_are_none_leave_dashes(tmp_path):
    rows = [one | ({"value": None, "value_ci": None} if one["task"] == "blank" else {}) for one in rows_of("a")]
    done = write_report([write_access(tmp_path / "m", rows, rows_of("b"))], tmp_path / "p.html")
    json.dumps(done, allow_nan=False)
    assert "–</span>" in (tmp_path / "p.html").read_text()


def test_seeds_share_a_colour_and_a_curriculum_has_its_last_stages(report):
    series = report["series"]
    assert series["causal-seed0"] == series["causal-seed1"] == series["causal"]
    assert series["curriculum"] == series["curriculum-seed1"] == series["curriculum-seed1/blank"]
    assert len({series[name] for name in ("causal", "together", "direct", "curriculum", "no-memory")}) == 5


@pytest.mark.usefixtures("undrawn")
def test_an_untrained_twin_belongs_to_the_model_that_it_was_measured_after(tmp_path):
    rows = [result(*ROWS[0]), result("mine", "slots", "memory-model", "fresh", 0.2, 0.0, 4.0), result(*ROWS[7])]
    write_measurement(tmp_path / "m", ROWS[:1])
    (tmp_path / "m" / "results.json").write_text(json.dumps({"results": rows}))
    assert read_runs([tmp_path]).models == ["mine"]
    table = page_of(tmp_path).partition('<table class="retention">')[2].partition("</table>")[0]
    assert table.count("<tbody>") == 2  # mine with its twin, and no memory


def test_models_of_one_colour_have_different_marks(tmp_path):
    names = [f"model-{i}" for i in range(10)]
    report = make_report(read_runs([write_access(tmp_path / "m", *(rows_of(name) for name in names))]))
    chart = next(chart for chart in report["charts"]["access"] if chart.kind == "accuracy-by-place")
    handles = [line for line in draw(chart).legends[0].get_lines() if line.get_label() in names]
    assert len({(line.get_color(), line.get_marker()) for line in handles}) == 10


@pytest.mark.filterwarnings("error")
def test_names_with_dollars_and_of_any_script_are_drawn_as_they_are(tmp_path):
    names = ["a$\\foo$", "日本語", "_hidden", "<&>"]
    write_access(tmp_path / "m", *(rows_of(name) for name in names))
    done = write_report([tmp_path], tmp_path / "p.html")
    assert len(done["figures"]) == 3
    for chart in make_report(read_runs([tmp_path]))["charts"]["access"][1:]:
        assert [text.get_text() for text in draw(chart).legends[0].get_texts()][:4] == names
    assert unescape((tmp_path / "p.html").read_text()).count("a$\\foo$") >= 4
