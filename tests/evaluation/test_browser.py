"""Every kind of page in a real browser: on a phone, on a desk, in the dark and on paper.

Pictures of them are left in `runs/screenshots/`, which a CI keeps as artefacts.
"""

import dataclasses
import re

import pytest

from recsys.evaluation.backtest import backtest_results
from recsys.evaluation.comparing.compare import compare
from recsys.evaluation.comparing.options import ComparisonOptions
from recsys.experiments import interleaving, pilot_plan, pilot_results
from recsys.experiments.off_policy import OffPolicyConfig, judge_policy
from recsys.experiments.position_bias import PositionBiasConfig, estimate_curve
from recsys.report.backtest_page import render_backtest
from recsys.runs.environment import PROJECT
from tests.evaluation.ageing_world import OPTIONS, decay_of, folds
from tests.evaluation.chromium import DESKTOP, PAPER, PHONE, started
from tests.experiments.logs import drinks_log, lists_of, pilot_log, positions_log, traffic_log

SCREENSHOTS = PROJECT / "runs" / "screenshots"
WIDTHS = {"phone": PHONE, "desk": DESKTOP, "paper": PAPER}
# How many pictures a page has at least.
PAGES = {
    "retrieval": 5,
    "ranking": 5,
    "comparison-of-two": 2,
    "comparison-of-eight": 2,
    "comparison-of-a-sweep": 2,
    "backtest": 2,
    "off-policy": 1,
    "position-bias": 1,
    "pilot-plan": 1,
    "pilot-read": 1,
    "interleaving-made": 0,
    "interleaving-read": 1,
}


@pytest.fixture(scope="module")
def browser():
    """One browser for all pages."""
    with started() as one:
        yield one


@pytest.fixture(scope="module")
def pages(browser, evaluated, retrieved, ranked, tmp_path_factory):
    """A file of each kind."""
    reports = {task: one.path / "report.html" for task, one in evaluated.items()}
    online = online_pages(tmp_path_factory.mktemp("online"))
    compared = comparisons(retrieved, ranked, tmp_path_factory.mktemp("compared"))
    backtest = tmp_path_factory.mktemp("backtest") / "backtest.html"
    backtest.write_text(render_backtest(backtested()), encoding="utf-8")
    found = {**reports, **compared, "backtest": backtest, **online}
    assert set(found) == set(PAGES)
    return found


def comparisons(retrieved, ranked, folder):
    """Of two runs, of eight systems, and of the trials of a sweep."""
    first, other = retrieved
    long = "20261123-173607-two_tower-movielens_100k"
    systems = [first.model(long), other.model("20261124-093000-sequence_two_tower", like=first)]
    baselines = [name for name, reason in first.baselines.items() if reason is None]
    eight = [*systems, *map(first.baseline, baselines)]
    eight += [dataclasses.replace(systems[1], name=f"theirs {number}") for number in range(8 - len(eight))]
    trials = [ranked[0].model("trial 7 (winner)"), ranked[1].model("trial 12", like=ranked[0])]
    trials.append(dataclasses.replace(trials[1], name="trial 3"))
    found = {}
    for name, asked, chosen in (
        ("two", first, systems),
        ("eight", first, eight),
        ("a-sweep", ranked[0], trials),
    ):
        options = ComparisonOptions(permutations=200)
        path = compare(asked, chosen, folder=folder / name, options=options, config={})
        found[f"comparison-of-{name}"] = path / "comparison.html"
    return found


def backtested():
    """Content of a `backtest.json`, a fold of which failed."""
    decay = decay_of(per_day=0.004, baseline=0.41, noise=0.05)
    return {
        "name": "20261123-173607-two_tower-movielens_100k",
        "run": "runs/20261123-173607-two_tower-movielens_100k",
        "task": "retrieval",
        "dataset": {"name": "a world that ages", "fingerprint": "0" * 16},
        "options": dataclasses.asdict(OPTIONS),
        "failed": [{"fold": 2, "seed": 1, "error": "RuntimeError: expected finite weights, found NaN"}],
        "trained": [],
        **backtest_results(decay, folds(), main_metric="ndcg@10"),
    }


def online_pages(folder):
    """What logs say: policies, positions, pilots, interleaved lists."""
    drinks, positions, pilots, lists = (folder / name for name in ("drinks", "places", "pilots", "lists"))
    for one in (drinks, positions, pilots, lists):
        one.mkdir()
    (drinks / "new.csv").write_text("item_id,probability\ntea,0.1\ncoffee,0.8\nwater,0.1\n")
    judge_policy(OffPolicyConfig(drinks_log(drinks), str(drinks / "new.csv")), {})
    estimate_curve(PositionBiasConfig(positions_log(positions), "harvested"), {})
    pilot_plan.plan(pilot_plan.PlanConfig(traffic_log(pilots), lift=0.1, folder=pilots / "plan"), {})
    rails = {"speed": pilot_results.Guardrail("latency_ms", "lower", 0.02)}
    log = pilot_log(pilots, harm=0.1, lift=0.9, wearing=0.15)
    pilot_results.read(pilot_results.ReadConfig(log, "old", guardrails=rails, folder=pilots / "read"), {})
    sides = [lists_of(lists / f"{side}.parquet", [f"{side}1", "both", f"{side}2"]) for side in "ab"]
    made = interleaving.make(interleaving.MakeConfig(*sides, k=3, folder=lists / "made"), {})
    clicks = lists / "clicks.csv"
    rows = [f"{n},a,1\n{n},b,{n % 3 // 2}" for n in range(90)]
    clicks.write_text("\n".join(["request_id,team,reward", *rows]))
    read = interleaving.read(interleaving.ReadConfig(clicks, folder=lists / "read"), {})
    return {
        "off-policy": drinks / "off_policy" / "off_policy.html",
        "position-bias": positions / "position_bias" / "position_bias.html",
        "pilot-plan": pilots / "plan" / "pilot.html",
        "pilot-read": pilots / "read" / "pilot.html",
        "interleaving-made": made / "interleaving.html",
        "interleaving-read": read / "interleaving.html",
    }


@dataclasses.dataclass(frozen=True)
class Seen:
    """What the browser made of a page: of each width and colours, and altogether."""

    looks: dict
    console: list
    requests: list


@pytest.fixture(scope="module")
def seen(browser, pages):
    """Each page looked at in every way; pictures are kept before anything is unfolded."""
    found = {}
    for name, page in pages.items():
        browser.open(page)
        for place, is_dark in (("desk", False), ("phone", True)):
            browser.show(WIDTHS[place], dark=is_dark)
            browser.keep(SCREENSHOTS / f"{name}-{place}{'-dark' * is_dark}.png")
        looks = {}
        for place, width in WIDTHS.items():
            for is_dark in (False, True):
                browser.show(width, dark=is_dark, paper=place == "paper")
                looks[place, is_dark] = browser.measured()
        found[name] = Seen(looks, browser.console, browser.requests[1:])
    return found


@pytest.fixture(scope="module", params=list(PAGES))
def one(request, seen):
    """What was seen of one page."""
    return seen[request.param]


def test_console_is_silent_and_nothing_is_asked_of_anywhere(one):
    assert one.console == []
    assert one.requests == []


def test_nothing_is_wider_than_the_phone_the_desk_or_the_paper(one):
    for (place, _), look in one.looks.items():
        assert look["width"] == WIDTHS[place]
        assert look["wide"] == [], place
        assert look["page"] <= look["width"], place


@pytest.mark.parametrize("name", list(PAGES))
def test_every_picture_is_there_with_size_marks_and_all_of_its_letters(seen, pages, name):
    written = pages[name].read_text(encoding="utf-8").count("<svg")
    assert "…</text>" not in pages[name].read_text(encoding="utf-8")
    for look in seen[name].looks.values():
        assert len(look["pictures"]) == look["captions"] == written >= PAGES[name]
        for picture in look["pictures"]:
            assert picture["width"] >= 280, picture
            assert picture["height"] >= 50, picture
            assert picture["marks"] >= 1, picture
            assert picture["cut"] == [], picture
            assert picture["touching"] == [], picture


def brightness(colour):
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 3


def test_colours_follow_the_reader_but_paper_stays_white(one):
    for (place, is_dark), look in one.looks.items():
        assert look["dark"] == is_dark
        assert (brightness(look["paper"]) < 60) == (is_dark and place != "paper")
        assert abs(brightness(look["paper"]) - brightness(look["ink"])) > 150


@pytest.mark.parametrize("name", ["retrieval", "comparison-of-eight", "backtest"])
def test_page_prints_on_a_few_sheets(browser, pages, name):
    browser.open(pages[name])
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", browser.printed())) <= 25


def test_what_is_wrong_with_a_page_is_seen(browser, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><body><script>console.error('broken'); nothing.there()</script>"
        '<div style="width:500px">wide</div><img src="missing.png">'
        '<svg viewBox="0 0 10 10" width="5"><text x="9">cut off</text></svg></body>'
    )
    browser.open(bad)
    browser.show(PHONE)
    look, said = browser.measured(), " ".join(browser.console)
    assert "broken" in said
    assert "nothing is not defined" in said
    assert look["page"] > look["width"] == PHONE
    assert any("wide" in element for element in look["wide"])
    assert [address.rpartition("/")[2] for address in browser.requests] == ["bad.html", "missing.png"]
    assert look["pictures"][0]["width"] < 10
    assert look["pictures"][0]["cut"] == ["cut off"]
