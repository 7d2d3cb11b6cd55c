"""The demonstration page in a real browser, against a real server."""

import json

import pytest

from recsys.serving.client import Client
from recsys.serving.messages import FeedbackEvent
from tests.evaluation.chromium import DESKTOP, PHONE, started
from tests.serving.servers import server

# Waits until something holds, at most ten seconds.
WAIT = """
new Promise((resolve, reject) => {{
  const begin = Date.now();
  const look = () => {{
    if ({condition}) resolve(true);
    else if (Date.now() - begin > 10000) reject(new Error(document.body.innerText));
    else setTimeout(look, 20);
  }};
  look();
}})
"""
ITEMS = "[...document.querySelectorAll('#list li')].map(row => row.dataset.item)"


@pytest.fixture(scope="module")
def made(two_stage_folder, tmp_path_factory):
    with server(two_stage_folder, tmp_path_factory.mktemp("live"), policy="softmax") as one:
        yield one


@pytest.fixture(scope="module")
def browser():
    with started() as one:
        yield one


def test_a_click_changes_the_next_list(made, browser):
    browser.open(made.url)
    browser.show(PHONE)
    browser.run("document.querySelector('#user').value = 'reader'")
    browser.run("document.querySelector('#reader button').click()")
    browser.run(WAIT.format(condition="document.querySelectorAll('#list li').length === 10"))
    first = browser.run(ITEMS)
    assert "softmax" in browser.run("document.querySelector('#facts').innerText")
    browser.run("document.querySelector('#list li button.click').click()")
    browser.run(WAIT.format(condition="document.querySelector('#said').innerText.includes('kept for good')"))
    browser.run(
        WAIT.format(condition=f"document.querySelector('#history').textContent.includes('click: {first[0]}')")
    )
    assert first[0] not in browser.run(ITEMS)
    skipped = browser.run(ITEMS)[1]
    browser.run("document.querySelectorAll('#list li')[1].querySelector('button.skip').click()")
    browser.run(
        WAIT.format(condition=f"document.querySelector('#history').textContent.includes('skip: {skipped}')")
    )
    assert skipped not in browser.run(ITEMS)
    assert browser.console == []
    # Nothing from any other place.
    assert {request.partition("?")[0].rsplit("/", 1)[0] for request in browser.requests} <= {
        made.url,
        f"{made.url}/users",
    }


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_the_page_fits(made, browser, width):
    browser.open(made.url)
    browser.show(width)
    browser.run("document.querySelector('#reader button').click()")
    browser.run(WAIT.format(condition="document.querySelectorAll('#list li').length === 10"))
    measured = browser.measured()
    assert measured["page"] <= measured["width"]
    assert measured["wide"] == []


def test_figures_come_by_themselves(made, browser):
    browser.open(made.url)
    browser.run("document.querySelector('#tab-figures').click()")
    browser.run(
        WAIT.format(condition="document.querySelector('#rows').textContent.includes('requests total')")
    )
    browser.run("document.querySelector('#tab-feed').click()")
    assert browser.run("document.querySelector('#figures').hidden") is True


def test_ids_are_shown_as_text_whatever_they_are(made, browser):
    import httpx

    evil = "<img src=x onerror=alert(1)>"
    httpx.post(
        f"{made.url}/feedback",
        json={"events": [{"user_id": "evil", "item_id": evil, "event": "click"}]},
    )
    browser.open(made.url)
    browser.run("document.querySelector('#user').value = 'evil'")
    browser.run("document.querySelector('#reader button').click()")
    browser.run(WAIT.format(condition="document.querySelector('#history').textContent.includes('onerror')"))
    assert browser.run("document.querySelectorAll('img').length") == 0


def test_figures_are_of_policies_routes_and_freshness(made, browser):
    browser.open(made.url)
    browser.run("document.querySelector('#reader button').click()")
    browser.run(WAIT.format(condition="document.querySelectorAll('#list li').length === 10"))
    browser.run("document.querySelector('#tab-figures').click()")
    browser.run(WAIT.format(condition="document.querySelector('#policies').innerText.includes('softmax')"))
    policy = browser.run("[...document.querySelectorAll('#policies td')].map(cell => cell.innerText)")
    assert policy[0] == "softmax"
    assert int(policy[1]) >= 1
    assert float(policy[3]) >= 0
    assert "/recommend" in browser.run("document.querySelector('#routes').innerText")
    assert "0 records behind" in browser.run("document.querySelector('#freshness').innerText")
    for width in (PHONE, DESKTOP):
        browser.show(width)
        measured = browser.measured()
        assert measured["page"] <= measured["width"]
        assert measured["wide"] == []


def test_names_that_would_run_are_shown_as_they_are(made, browser):
    """A reader's name and an item's id of a stranger, in the field, the history and a message."""
    hostile = "\"'></li></script><script>window.owned=1</script><img src=x onerror=owned=1>{{7*7}}"
    with Client(made.url) as client:
        client.feedback([FeedbackEvent(user_id=hostile, item_id=hostile, event="click")])
    browser.open(made.url)
    browser.show(DESKTOP)
    browser.run(f"document.querySelector('#user').value = {json.dumps(hostile)}")
    browser.run("document.querySelector('#reader button').click()")
    browser.run(WAIT.format(condition="document.querySelector('#history').textContent.includes('owned=1')"))
    assert browser.run("window.owned") is None
    assert browser.run("document.querySelectorAll('img, [onerror]').length") == 0
    assert browser.console == []
