"""Every kind of page in a real browser, with names, titles and messages that try to run."""

import dataclasses

import pandas as pd
import pytest

from recsys.evaluation.comparing.compare import compare
from recsys.evaluation.comparing.options import ComparisonOptions
from recsys.experiments import interleaving, pilot_plan, pilot_results
from recsys.experiments.off_policy import OffPolicyConfig, judge_policy
from recsys.experiments.position_bias import PositionBiasConfig, estimate_curve
from recsys.report.backtest_page import render_backtest
from tests.evaluation.chromium import DESKTOP, started
from tests.evaluation.test_browser import backtested
from tests.evaluation.test_report import poisoned_page
from tests.experiments.logs import drinks_log, pilot_log, positions_log, traffic_log

# What ends an attribute, a script, a picture or a comment, and then runs.
HOSTILE = (
    "\"'`></title></script></style></svg>--><script>window.owned=1</script><img src=x onerror=owned=1>"
    "<svg onload=owned=1></svg><a href=javascript:owned=1>x</a>{{7*7}}${7*7}\u202e\u0000"
)
# NUL bytes can be in no file's name and in no CSV.
WRITTEN = HOSTILE.replace("\u0000", "")
# Whether anything of it ran, or became an element that could.
OWNED = """
(() => {
  const running = 'img[src="x"], a[href^="javascript"], [onerror], [onload]';
  const text = document.body.innerText;
  const owned = window.owned || (document.title === 'owned' ? 1 : undefined);
  return [owned, document.querySelectorAll(running).length, text.includes('owned')];
})()
"""


def renamed(path, **columns):
    """A log whose columns hold other names."""
    table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    for name, change in columns.items():
        table[name] = table[name].map(change)
    table.to_parquet(path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def evaluation_pages(evaluated, folder):
    pages = {}
    for task, one in evaluated.items():
        (folder / f"{task}.html").write_text(poisoned_page(one), encoding="utf-8")
        pages[task] = folder / f"{task}.html"
    return pages


def comparison_page(retrieved, folder):
    first, other = retrieved
    systems = [first.model(WRITTEN), other.model(f"{WRITTEN}2", like=first)]
    systems.append(dataclasses.replace(systems[1], name=f"trial 1 {WRITTEN}"))
    path = compare(first, systems, folder=folder, options=ComparisonOptions(permutations=200), config={})
    return path / "comparison.html"


def backtest_page(folder):
    results = backtested()
    results |= {"name": HOSTILE, "run": HOSTILE, "failed": [{"fold": 2, "seed": 1, "error": HOSTILE}]}
    results["dataset"] = {"name": HOSTILE, "fingerprint": HOSTILE}
    (folder / "backtest.html").write_text(render_backtest(results), encoding="utf-8")
    return folder / "backtest.html"


def policy_page(folder):
    log = renamed(drinks_log(folder), item_id=lambda item: f"{item}{WRITTEN}")
    table = pd.DataFrame({"item_id": [f"{item}{WRITTEN}" for item in ("tea", "coffee", "water")]})
    table.assign(probability=[0.1, 0.8, 0.1]).to_parquet(folder / "new.parquet")
    judge_policy(OffPolicyConfig(log, str(folder / "new.parquet"), folder=folder / "judged"), {})
    return folder / "judged" / "off_policy.html"


def positions_page(folder):
    log = renamed(positions_log(folder), item_id=lambda item: f"{item}{WRITTEN}")
    estimate_curve(PositionBiasConfig(log, "harvested", folder=folder / "curve"), {})
    return folder / "curve" / "position_bias.html"


def pilot_pages(folder):
    pilot_plan.plan(pilot_plan.PlanConfig(traffic_log(folder), lift=0.1, folder=folder / "plan"), {})
    log = renamed(pilot_log(folder, lift=0.9), arm=lambda arm: f"{arm}{WRITTEN}")
    config = pilot_results.ReadConfig(log, f"old{WRITTEN}", folder=folder / "read")
    pilot_results.read(config, {})
    return {"plan": folder / "plan" / "pilot.html", "pilot": folder / "read" / "pilot.html"}


def interleaving_page(folder):
    for side in "ab":
        rows = [
            {"user_id": f"{user}{WRITTEN}", "rank": rank, "item_id": f"{side}{rank}{WRITTEN}"}
            for user in range(200)
            for rank in (1, 2, 3)
        ]
        pd.DataFrame(rows).to_parquet(folder / f"{side}{WRITTEN.replace('/', '')[:40]}.parquet")
    sides = sorted(folder.glob("*.parquet"))
    made = interleaving.make(interleaving.MakeConfig(*sides, k=3, folder=folder / "made"), {})
    return made / "interleaving.html"


@pytest.fixture(scope="module")
def pages(evaluated, retrieved, tmp_path_factory):
    """A file of each kind; the folder's name, which pages show, is hostile as well."""
    folders = {
        name: tmp_path_factory.mktemp("<img src=x onerror=owned=1>") / name
        for name in ("reports", "compared", "backtest", "policy", "positions", "pilots", "lists")
    }
    for folder in folders.values():
        folder.mkdir()
    return {
        **evaluation_pages(evaluated, folders["reports"]),
        "comparison": comparison_page(retrieved, folders["compared"]),
        "backtest": backtest_page(folders["backtest"]),
        "off-policy": policy_page(folders["policy"]),
        "position-bias": positions_page(folders["positions"]),
        **pilot_pages(folders["pilots"]),
        "interleaving": interleaving_page(folders["lists"]),
    }


@pytest.fixture(scope="module")
def browser():
    with started() as one:
        yield one


NAMES = [
    *("retrieval", "ranking", "comparison", "backtest", "off-policy", "position-bias"),
    *("plan", "pilot", "interleaving"),
]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_runs_and_nothing_is_fetched(browser, pages, name):
    browser.open(pages[name])
    browser.show(DESKTOP)
    browser.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    owned, elements, is_shown = browser.run(OWNED)
    assert owned is None
    assert elements == 0
    assert is_shown or name in ("plan", "position-bias")  # these name no item
    assert browser.console == []
    assert browser.requests[1:] == []


def test_what_would_run_is_seen(browser, tmp_path):
    (tmp_path / "bad.html").write_text(f"<!doctype html><body>{WRITTEN}</body>", encoding="utf-8")
    browser.open(tmp_path / "bad.html")
    owned, elements, _ = browser.run(OWNED)
    assert owned == 1
    assert elements >= 3
