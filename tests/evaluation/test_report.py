"""The report: whole, self-contained, escaped, and showing what the results hold."""

import copy
import json
import re
from html import unescape
from html.parser import HTMLParser

import pytest

from recsys.report.evaluation_page import headline_keys, render_report
from recsys.report.slices import gain, lag
from recsys.report.systems import name_of

# Elements without an end.
VOID = {"meta", "br"}


class Outline(HTMLParser):
    """Checks that tags nest, and collects text and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag not in VOID:
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
def one(request, evaluated):
    return evaluated[request.param]


@pytest.fixture
def results(one):
    return copy.deepcopy(one.results)


def section(page, name):
    return re.search(rf'<section id="{name}">.*?</section>', page, flags=re.DOTALL).group()


def test_page_needs_nothing_from_elsewhere(one):
    outline = read(one.page)
    assert {name for name, _ in outline.attributes} & {"src", "srcset"} == set()
    links = {value for name, value in outline.attributes if name == "href"}
    assert all(link.startswith("#") for link in links)
    assert not re.search(r"https?:|url\(|@import|<script", one.page)
    assert len(one.page) < 5_000_000
    assert ("name", "viewport") in outline.attributes
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in outline.attributes


def test_every_link_leads_somewhere(one):
    outline = read(one.page)
    links = {value.removeprefix("#") for name, value in outline.attributes if name == "href"}
    parts = {value for name, value in outline.attributes if name == "id"}
    assert links == parts == {"findings", "charts", "slices", "examples", "metrics", "protocol"}


def test_page_escapes_what_comes_from_the_data(one):
    assert "Film <" not in one.page
    text = "".join(read(one.page).text)
    assert "Film <" in text
    assert "& co" in text
    assert "run <1>" in text
    assert "<1>" not in one.page
    assert "$" not in text


def test_page_shows_verdict_baselines_slices_examples_and_protocol(one):
    text = " ".join(read(one.page).text)
    assert re.search("Better than every baseline|Worse than|Not told apart from the best baseline", text)
    assert re.search("EASE|item's rate", text)
    for expected in ("warm", "hot", "head", "Some users, drawn at random", "protocol hash", "95 % interval"):
        assert expected in text
    assert one.page.count('<div class="person">') >= 4


def test_first_screen_comes_before_everything_else(one):
    header = re.search("<header>.*?</header>", one.page, flags=re.DOTALL).group()
    assert one.page.index("<header>") < one.page.index("<section")
    assert 'class="verdict' in header
    assert 3 <= header.count('<th scope="row">') <= 5
    best = one.results["verdict"]["against"]
    assert re.findall('<th scope="col">([^<]*)', unescape(header))[1:3] == ["this model", name_of(best)]


def test_five_numbers_are_those_at_the_cut_off_of_the_verdict(evaluated):
    results = copy.deepcopy(evaluated["retrieval"].results)
    old = ("ndcg@5", "hit_rate@5", "coverage@5", "mrr@5", "novelty@5", "ndcg@3")
    results["metrics"] = dict.fromkeys(old, 0.1)
    assert headline_keys(results) == ["ndcg@5", "hit_rate@5", "coverage@5", "mrr@5", "novelty@5"]
    results["metrics"] |= {"popularity_lift@5": 0.1, "personalisation@5": 0.5}
    assert headline_keys(results) == [
        "ndcg@5",
        "hit_rate@5",
        "coverage@5",
        "popularity_lift@5",
        "personalisation@5",
    ]


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
def test_difference_is_marked_where_it_is_sure(evaluated, metric, interval, style):
    results = copy.deepcopy(evaluated["ranking"].results)
    results["slices"] = results["slices"][:1]
    for compared in results["slices"][0]["comparisons"]:
        compared |= {"metric": metric, "difference": 0.12345, "interval": interval}
    marked = f'<td><span class="{style}">+0.1235</span>' if style else "<td>+0.1235<"
    assert marked in render_report(results, [])


def names_of(shown):
    return re.findall(r'<th scope="row"><span title="[^"]*">([^<]*)</span>', shown)


def test_slices_come_the_furthest_behind_first_and_small_ones_last(one, results):
    best = results["verdict"]["against"]
    lists = section(one.page, "slices").split("<h3>")[1:]
    by_name = {}
    for piece in results["slices"]:
        by_name.setdefault(piece["name"], piece)
    behind = [gain(by_name[name], best) for name in names_of(lists[0])]
    assert len(behind) >= 4
    assert behind == sorted(behind)
    below = [lag(results, by_name[name]) for name in names_of(lists[1].split("<details>")[0])]
    assert below == sorted(below)
    assert not any(by_name[name]["small"] for name in names_of(lists[0]))


def test_small_slices_are_marked_and_come_last_in_their_group(results):
    pieces = [piece for piece in results["slices"] if piece["group"] == "history_length"]
    for number, piece in enumerate(pieces):
        piece["small"] = number == 0
    results["slices"] = pieces
    shown = section(render_report(results, []), "slices")
    everything = shown.split("<details>")[1]
    assert names_of(everything)[-1] == pieces[0]["name"]
    assert everything.count('<tr class="small-slice">') == 1
    assert f">{pieces[0]['name']}</span> *" in everything


def test_order_within_impressions_is_on_the_first_screen_where_it_was_measured(evaluated):
    results = copy.deepcopy(evaluated["ranking"].results)
    assert "impression_auc" not in headline_keys(results)
    results["metrics"]["impression_auc"] = 0.6
    assert headline_keys(results)[:3] == ["auc", "gauc", "impression_auc"]


def test_lag_is_a_share_of_what_the_metric_is_worth(evaluated):
    ranking, retrieval = (copy.deepcopy(evaluated[task].results) for task in ("ranking", "retrieval"))
    ranking["metrics"]["auc"], retrieval["metrics"]["ndcg@5"] = 0.7, 0.2
    assert lag(ranking, {"metrics": {"auc": 0.6}}) == pytest.approx(-0.5)  # 0.1 of 0.2 above chance
    assert lag(retrieval, {"metrics": {"ndcg@5": 0.15}}) == pytest.approx(-0.25)
    ranking["main_metric"] = "log_loss"
    ranking["metrics"]["log_loss"] = 0.5
    assert lag(ranking, {"metrics": {"log_loss": 0.6}}) == pytest.approx(-0.2)


def test_page_without_baselines_intervals_and_curves_is_whole(results):
    for block in (results, *results["slices"]):
        block |= {"baselines": {}, "comparisons": [], "intervals": dict.fromkeys(block["intervals"])}
    results["verdict"] |= {"outcome": "alone", "against": None}
    results["options"]["resamples"] = 0
    for key in ("training", "latency", "diagnosis", "reliability"):
        results.pop(key, None)
    outline = read(render_report(results, []))
    text = " ".join(outline.text)
    assert "baseline, by" not in text
    assert "resamples" not in text
    assert "#findings" not in dict(outline.attributes).values()


def test_new_results_are_drawn_where_they_are_there(results):
    for key in ("exposure", "calibration"):
        results.pop(key, None)
    before = render_report(results, []).count("<svg")
    results["exposure"] = {
        "model": {"lorenz": [[0, 0], [0.9, 0.25], [1, 1]]},
        results["verdict"]["against"]: {"lorenz": [[0, 0], [0.9, 0.5], [1, 1]]},
    }
    results["calibration"] = [
        {
            "group": "profile.job",
            "name": f"worker <{number}>",
            "description": "",
            "rows": 100,
            "users": 60,
            "small": False,
            "predicted": 0.1 * number,
            "observed": 0.2,
            "ratio": 0.5 * number,
            "interval": [0.5 * number - 0.1, 0.5 * number + 0.1],
        }
        for number in (1, 2, 5)
    ]
    results["calibration"].append({**results["calibration"][0], "group": "user", "name": "the same again"})
    results["slice_groups"] = [{"group": "user", "heading": "People <of all sorts>", "axis": None}]
    page = render_report(results, [])
    assert page.count("<svg") == before + 2
    text = " ".join(read(page).text)
    assert "A tenth of the items gets 75% of the places" in text
    assert "2 of 3 segments are off beyond chance; worker <5> is promised too much" in text
    assert "job: worker <1>" in text
    assert "the same again" not in text
    assert "People <of all sorts>" in text


def test_findings_are_shown_with_severity_evidence_and_command(results):
    results["diagnosis"] = [
        {
            "rule": "too_slow",
            "severity": "high",
            "finding": "Slow & <heavy>.",
            "evidence": {"p99_ms": 123.456, "of": None},
            "command": "python evaluate.py 'run=/a b'",
        }
    ]
    shown = section(render_report(results, []), "findings")
    assert '<div class="finding high">' in shown
    assert "Slow &amp; &lt;heavy&gt;." in shown
    assert "<dt>p99 ms</dt><dd>123.456</dd><dt>of</dt><dd>-</dd>" in shown
    assert "python evaluate.py 'run=/a b'" in unescape(shown)
    results["diagnosis"] = []
    assert "found anything amiss" in section(render_report(results, []), "findings")


HOSTILE = "\"><script>document.title='owned'</script><img src=x onerror=alert(1)>"


def poisoned(value):
    """The same content with every text in it hostile; keys stay, since the page looks things up by them."""
    if isinstance(value, dict):
        return {key: poisoned(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [poisoned(each) for each in value]
    return f"{HOSTILE}{value}" if isinstance(value, str) else value


def poisoned_page(one):
    """The report where every text of the results and examples that can be a person's is hostile."""
    results = copy.deepcopy(one.results)
    results["diagnosis"] = [
        {"rule": "r", "severity": "high", "finding": "f", "evidence": {"a": "b"}, "command": "c"}
    ]
    kept = {key: results[key] for key in ("main_metric", "task", "options")}
    against, groups = results["verdict"]["against"], [piece["group"] for piece in results["slices"]]
    results = poisoned(results) | kept
    results["verdict"]["against"] = against
    if "k" in results["protocol"]:
        results["protocol"]["k"] = [3, 5]
    for block in (results, *results["slices"]):
        for compared in block["comparisons"]:
            compared["baseline"] = compared["baseline"].removeprefix(HOSTILE)
            compared["metric"] = compared["metric"].removeprefix(HOSTILE)
    for group, piece in zip(groups, results["slices"], strict=True):
        piece["group"] = group
    if "training" in results:
        results["training"]["monitor"] = results["training"]["monitor"].removeprefix(HOSTILE)
    examples = json.loads((one.path / "examples.json").read_text())
    return render_report(results, [{**poisoned(each), "kind": each["kind"]} for each in examples])


def test_no_text_of_the_results_becomes_markup(one):
    """Verdict's outcome and a finding's severity are classes: escaped as well."""
    outline = read(poisoned_page(one))
    assert {name for name, _ in outline.attributes} & {"onerror", "src"} == set()
    classes = [value for name, value in outline.attributes if name == "class"]
    assert f"verdict {HOSTILE}{one.results['verdict']['outcome']}" in classes
    assert f"finding {HOSTILE}high" in classes


def test_latency_stands_with_the_machine(one):
    shown = section(one.page, "protocol")
    assert re.search(r"half within [\d.]+ ms, 99 % within [\d.]+ ms, 20 requests", shown)


def test_exposure_of_nothing_is_not_drawn(results):
    results.pop("exposure", None)
    before = render_report(results, []).count("<svg")
    results["exposure"] = {"model": {"lorenz": []}}
    assert render_report(results, []).count("<svg") == before
