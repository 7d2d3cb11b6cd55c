"""The report: whole, self-contained, escaped, and showing what the results hold."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
import torch

from recsys.evaluation.charts import Series, dot_chart, line_chart, reliability_chart
from recsys.evaluation.evaluate import evaluate_ranking, evaluate_retrieval
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.report import render_report
from recsys.evaluation.station import EvaluatedRun
from recsys.models.two_tower import TwoTower
from recsys.models.wide_deep import WideDeep

OPTIONS = EvaluationOptions(k=(3, 5), resamples=50, num_examples=4, hot_history=10)


class Outline(HTMLParser):
    """Checks that tags nest, and collects text and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    return outline


@pytest.fixture(params=["retrieval", "ranking"])
def page(request, rated, tmp_path):
    torch.manual_seed(0)
    run = EvaluatedRun(tmp_path / "run <1>")
    run.folder.mkdir()
    if request.param == "retrieval":
        model, evaluate = TwoTower(rated.schema, embedding_dim=8, hidden=[8]), evaluate_retrieval
    else:
        model, evaluate = WideDeep(rated.schema, embedding_dim=4, hidden=[8]), evaluate_ranking
    path = evaluate(model, rated, OPTIONS, run=run, history_length=10)
    return (path / "report.html").read_text(encoding="utf-8")


def test_page_needs_nothing_from_elsewhere(page):
    outline = read(page)
    assert {name for name, _ in outline.attributes} & {"src", "href", "srcset"} == set()
    assert not re.search(r"https?:|url\(|@import|<script", page)
    assert len(page) < 5_000_000
    assert ("name", "viewport") in outline.attributes


def test_page_escapes_what_comes_from_the_data(page):
    assert "Film <" not in page
    text = "".join(read(page).text)
    assert "Film <" in text
    assert "& co" in text
    assert "run <1>" in text
    assert "<1>" not in page
    assert "$" not in text


def test_page_shows_verdict_baselines_slices_examples_and_protocol(page):
    text = " ".join(read(page).text)
    assert re.search("(Better than every|Worse than a|Not told apart from the best) baseline", text)
    assert re.search("EASE|item's rate", text)
    for expected in ("warm", "hot", "head", "Some users, drawn at random", "protocol hash", "95 % interval"):
        assert expected in text
    assert len(re.findall(r'class="person"', page)) == 4


@pytest.mark.parametrize(
    ("metric", "interval", "style"),
    [
        ("auc", [0.1, 0.2], "lead"),
        ("auc", [-0.2, -0.1], "lag"),
        ("auc", [-0.1, 0.1], ""),
        ("log_loss", [0.1, 0.2], "lag"),
        ("log_loss", [-0.2, -0.1], "lead"),
    ],
)
def test_difference_is_coloured_where_it_is_sure(rated, tmp_path, metric, interval, style):
    model = WideDeep(rated.schema, embedding_dim=4, hidden=[8])
    path = evaluate_ranking(model, rated, OPTIONS, run=EvaluatedRun(tmp_path), history_length=10)
    results = json.loads((path / "metrics.json").read_text())
    results["slices"] = results["slices"][:1]
    for compared in results["slices"][0]["comparisons"]:
        compared |= {"metric": metric, "difference": 0.12345, "interval": interval}
    assert f'<span class="{style}">+0.1235</span>' in render_report(results, [])


def test_every_chart_is_well_formed_and_inside_its_drawing(page):
    charts = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(charts) >= 4
    for chart in charts:
        root = ElementTree.fromstring(chart)
        _, _, width, height = (float(number) for number in root.attrib["viewBox"].split())
        for mark in root.iter():
            for axis, limit in (
                ("x1", width),
                ("x2", width),
                ("cx", width),
                ("y1", height),
                ("y2", height),
                ("cy", height),
            ):
                assert 0 <= float(mark.attrib.get(axis, 0)) <= limit


def marks(chart, tag, *names):
    root = ElementTree.fromstring(re.search(r"<svg.*</svg>", chart, flags=re.DOTALL).group())
    return [
        tuple(float(mark.attrib[name]) for name in names)
        for mark in root.iter(tag)
        if names[0] in mark.attrib
    ]


def test_dots_stand_at_their_values():
    chart = dot_chart("t", [Series("a", 0, [0.5], [[0.25, 1.0]]), Series("b", 1, [1.0])], from_zero=True)
    (left, _), (right, _) = marks(chart, "circle", "cx", "cy")
    whisker = next(mark for mark in marks(chart, "line", "x1", "x2", "y1", "y2") if mark[2] == mark[3])
    unit = (right - left) / 0.5
    assert whisker[0] == pytest.approx(left - 0.25 * unit, abs=0.2)
    assert whisker[1] == pytest.approx(right, abs=0.2)


def test_line_has_a_gap_where_there_is_no_value():
    chart = line_chart(
        "t", ["a", "b", "c", "d"], [Series("s", 0, [1.0, 2.0, None, 1.0])], axis="x", from_zero=True
    )
    points = re.findall(r'<polyline[^>]*points="([^"]*)"', chart)
    assert [len(run.split()) for run in points] == [2]
    assert len(marks(chart, "circle", "cx", "cy")) == 3 + 1  # and the legend's


def test_axis_that_need_not_start_at_zero_is_closer():
    near, far = (
        marks(
            line_chart("t", ["a", "b"], [Series("s", 0, [0.7, 0.8])], axis="x", from_zero=zero),
            "circle",
            "cy",
        )
        for zero in (False, True)
    )
    assert near[0][0] - near[1][0] > 2 * (far[0][0] - far[1][0])


def test_reliability_chart_puts_calibrated_bins_on_the_diagonal():
    chart = reliability_chart("t", [(0.25, 0.25), (0.75, 0.75)])
    (x0, y0), (x1, y1) = marks(chart, "circle", "cx", "cy")
    assert x1 - x0 == pytest.approx(y0 - y1, abs=0.2)
    (left, bottom, right, top) = marks(chart, "line", "x1", "y1", "x2", "y2")[0]
    assert (x0 - left) / (right - left) == pytest.approx((bottom - y0) / (bottom - top), abs=0.01)
