"""Charts: marks stand where their values are, and nothing leaves the drawing."""

import re
from xml.etree import ElementTree

import pytest

from recsys.report.charts import Caption, Curve, Series, dot_chart, line_chart, unit_chart
from recsys.report.drawing import LETTER, scale_of, wrapped


def drawing(chart):
    return ElementTree.fromstring(re.search(r"<svg.*</svg>", chart, flags=re.DOTALL).group())


def marks(chart, tag, *names):
    return [
        tuple(float(mark.attrib[name]) for name in names)
        for mark in drawing(chart).iter(tag)
        if names[0] in mark.attrib
    ]


def cells(chart):
    table = re.search(r"<tbody>(.*)</tbody>", chart, flags=re.DOTALL).group(1)
    return [re.findall(r"<t[hd][^>]*>([^<]*)<", row) for row in table.split("</tr>")[:-1]]


def test_every_chart_of_a_report_is_well_formed_and_inside_its_drawing(evaluated):
    for one in evaluated.values():
        charts = re.findall(r"<svg.*?</svg>", one.page, flags=re.DOTALL)
        assert len(charts) >= 5
        for chart in charts:
            root = ElementTree.fromstring(chart)
            _, _, width, height = (float(number) for number in root.attrib["viewBox"].split())
            limits = dict.fromkeys(("x", "x1", "x2", "cx"), width)
            limits |= dict.fromkeys(("y", "y1", "y2", "cy"), height)
            for mark in root.iter():
                for axis, limit in limits.items():
                    assert 0 <= float(mark.attrib.get(axis, 0)) <= limit


def test_dots_stand_at_their_values():
    chart = dot_chart("t", [Series("a", 0, [0.5], [[0.25, 1.0]]), Series("b", 4, [1.0])], from_zero=True)
    (left, _), (right, _) = marks(chart, "circle", "cx", "cy")
    whisker = next(mark for mark in marks(chart, "line", "x1", "x2", "y1", "y2") if mark[2] == mark[3])
    unit = (right - left) / 0.5
    assert whisker[0] == pytest.approx(left - 0.25 * unit, abs=0.2)
    assert whisker[1] == pytest.approx(right, abs=0.2)


def test_line_of_reference_is_part_of_the_scale():
    chart = dot_chart("t", [Series("a", 0, [2.0])], from_zero=False, reference=1.0)
    ((across, _),) = marks(chart, "circle", "cx", "cy")
    dashed = next(line for line in drawing(chart).iter("line") if line.attrib["class"] == "even")
    assert 150 <= float(dashed.attrib["x1"]) < across


def test_line_has_a_gap_where_there_is_no_value():
    series = [Series("s", 0, [1.0, 2.0, None, 1.0]), Series("other", 1, [1.0] * 4)]
    chart = line_chart("t", ["a", "b", "c", "d"], series, axis="x", from_zero=True)
    runs = re.findall(r'<polyline class="series0" points="([^"]*)"', chart)
    assert [len(run.split()) for run in runs] == [2]
    assert len(marks(chart, "circle", "cx", "cy")) == 3 + 1  # and the legend's


def test_lone_line_needs_no_legend():
    chart = line_chart("t", ["a", "b"], [Series("alone", 0, [1.0, 2.0])], axis="x", from_zero=True)
    assert len(marks(chart, "circle", "cx", "cy")) == 2


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


def test_many_places_are_not_all_named():
    places = [f"epoch {number}" for number in range(100)]
    chart = line_chart("t", places, [Series("s", 0, [1.0] * 100)], axis="x", from_zero=True)
    texts = [text.text for text in drawing(chart).iter("text")]
    assert 8 <= len([text for text in texts if text.startswith("epoch")]) <= 12
    assert len(marks(chart, "circle", "cx")) == 1  # only where the line begins


@pytest.mark.parametrize("places", [["1997-12-22", "1998-02-01", "1998-03-13"], ["1998-03-13"] * 8])
def test_dates_of_few_and_of_many_periods_stay_inside_the_drawing(places):
    series = [Series("model", 0, [0.1] * len(places))]
    page = line_chart("over time", places, series, axis="period", from_zero=True)
    ends = re.findall(
        r'<text x="([\d.]+)" y="[\d.]+" text-anchor="(\w+)"( transform="rotate[^"]+")?>199', page
    )
    assert ends
    for x, anchor, turned in ends:
        # A date is some 80 wide; turned by 60 degrees, half of that, and its height.
        wide = 50 if turned else 80
        left = float(x) - {"middle": wide / 2, "end": wide}[anchor]
        assert 0 <= left <= 400 - (0 if turned else wide)


def test_focus_stands_at_its_place():
    series = [Series("s", 0, [1.0, 3.0, 2.0])]
    chart = line_chart("t", ["1", "2", "3"], series, axis="x", from_zero=True, focus=1)
    (line,) = [line for line in drawing(chart).iter("line") if line.attrib["class"] == "even"]
    second = marks(chart, "circle", "cx")[1][0]
    assert float(line.attrib["x1"]) == float(line.attrib["x2"]) == second


def test_calibrated_bins_lie_on_the_diagonal():
    curve = Curve("model", 0, [(0.25, 0.25), (0.75, 0.75)], [[0.2, 0.3], None])
    chart = unit_chart(Caption("t", vertical="up"), [curve], axis="x")
    (x0, y0), (x1, y1) = marks(chart, "circle", "cx", "cy")
    assert x1 - x0 == pytest.approx(y0 - y1, abs=0.2)
    (left, bottom, right, top), *others = marks(chart, "line", "x1", "y1", "x2", "y2")
    assert (x0 - left) / (right - left) == pytest.approx((bottom - y0) / (bottom - top), abs=0.01)
    whisker = others[-1]
    assert whisker[3] - whisker[1] == pytest.approx(0.1 * (top - bottom), abs=0.2)


def test_numbers_of_a_chart_can_be_read_without_seeing_it():
    chart = line_chart(
        Caption("NDCG <by> k", "It rises."),
        ["1", "5"],
        [Series("model", 0, [0.12345, None], [[0.1, 0.2], None]), Series("EASE", 4, [2.0, 3.25])],
        axis="k",
        from_zero=True,
    )
    assert drawing(chart).attrib["aria-label"] == "NDCG <by> k. It rises."
    assert "<by>" not in re.sub("<svg.*</svg>", "", chart, flags=re.DOTALL)
    assert cells(chart) == [["1", "0.1235 (0.1000 to 0.2000)", "2.00"], ["5", "-", "3.25"]]
    assert re.findall(r'<th scope="col">([^<]*)', chart) == ["k", "model", "EASE"]


def test_every_style_has_a_shape_or_a_filling_of_its_own():
    rows = [Series("s", style, [1.0]) for style in range(6)]
    shapes = [
        (mark.tag, mark.attrib.get("points", "").count(","), "hollow" in mark.attrib["class"])
        for mark in drawing(dot_chart("t", rows, from_zero=True)).iter()
        if mark.tag in ("circle", "rect", "polygon")
    ]
    assert len(shapes) == len(set(shapes)) == 6


@pytest.mark.parametrize(
    ("values", "from_zero", "ticks"),
    [
        ([0.03, 0.11], True, [0.0, 0.05, 0.1, 0.15]),
        ([0.7, 0.8], False, [0.7, 0.725, 0.75, 0.775, 0.8]),
        ([], True, [0.0, 0.25, 0.5, 0.75, 1.0]),
        ([-0.2, 0.2], True, [-0.2, -0.1, 0.0, 0.1, 0.2]),
    ],
)
def test_ticks_are_round_and_reach_around_the_values(values, from_zero, ticks):
    assert scale_of(values, from_zero=from_zero).ticks() == pytest.approx(ticks)


@pytest.mark.parametrize("value", [0.0, 0.5, 1e-12, 1e9])
def test_values_that_are_all_alike_still_have_a_scale(value):
    scale = scale_of([value, value], from_zero=False)
    assert scale.bottom <= value <= scale.top
    assert scale.bottom < scale.top


@pytest.mark.parametrize(
    "name",
    [
        "a short one",
        "popularity of the last thirty days",
        "20261123-173607-two_tower-movielens_100k",
        "ein_sehr_langes_wort_ohne_leerzeichen_" * 3,
        "x" * 100,
    ],
)
def test_names_are_wrapped_and_no_letter_of_them_is_lost(name):
    lines = wrapped(name, 150)
    assert all(len(line) * LETTER <= 150 for line in lines)
    assert "".join(lines).replace(" ", "") == name.replace(" ", "")


def test_line_goes_through_its_values():
    chart = line_chart("t", ["a", "b", "c"], [Series("s", 0, [0.0, 1.0, 4.0])], axis="x", from_zero=True)
    grid = {
        float(text.text): float(line.attrib["y1"])
        for line, text in zip(
            [one for one in drawing(chart).iter("line") if one.attrib["class"] == "grid"],
            [one for one in drawing(chart).iter("text") if one.attrib.get("text-anchor") == "end"],
            strict=True,
        )
    }
    heights = [y for _, y in marks(chart, "circle", "cx", "cy")]
    assert heights == pytest.approx([grid[0.0], grid[1.0], grid[4.0]], abs=0.11)
