"""The report in a real browser: on a phone, on a desk, in the dark and on paper.

Pictures of it are left in `runs/screenshots/`, which a CI keeps as artefacts.
"""

import re

import pytest

from recsys.doctor import PROJECT
from tests.evaluation.chromium import DESKTOP, PAPER, PHONE, browser, measured, opened, screenshot

SCREENSHOTS = PROJECT / "runs" / "screenshots"
WIDTHS = {"phone": PHONE, "desk": DESKTOP, "paper": PAPER}


@pytest.fixture(scope="module")
def pages(evaluated):
    browser()
    return {task: one.page for task, one in evaluated.items()}


@pytest.fixture(scope="module", params=["light", "dark"])
def seen(request, pages, tmp_path_factory):
    """What the browser measured of both reports at every width, and its console."""
    is_dark = request.param == "dark"
    found, console = measured(pages, tmp_path_factory.mktemp("around"), widths=WIDTHS, dark=is_dark)
    return request.param, found, console


def test_console_is_silent(seen):
    assert seen[2] == ""


def test_nothing_is_asked_of_anywhere(seen):
    assert all(one["requests"] == [] for one in seen[1].values())


def test_nothing_is_wider_than_the_phone_the_desk_or_the_paper(seen):
    assert len(seen[1]) == 6
    for one in seen[1].values():
        assert one["wide"] == []
        assert one["page"] <= one["width"]


def test_every_picture_is_there_with_size_marks_and_all_of_its_letters(seen, pages):
    for name, one in seen[1].items():
        task, place = name.split("-")
        assert len(one["pictures"]) == one["captions"] == pages[task].count("<svg") >= 5
        for picture in one["pictures"]:
            assert picture["width"] >= 280, picture
            assert picture["height"] >= 80, picture
            assert picture["marks"] >= 1, picture
            assert picture["cut"] == [], picture
        assert one["width"] == WIDTHS[place]


def brightness(colour):
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 3


def test_colours_follow_the_reader_but_paper_stays_white(seen):
    scheme, found, _ = seen
    for name, one in found.items():
        assert one["dark"] == (scheme == "dark")
        is_dark = scheme == "dark" and not name.endswith("paper")
        assert (brightness(one["paper"]) < 60) == is_dark
        assert abs(brightness(one["paper"]) - brightness(one["ink"])) > 150


def test_file_opens_by_itself_and_prints(evaluated, pages, tmp_path):
    for task, one in evaluated.items():
        dom, console = opened(one.path / "report.html", "--dump-dom")
        assert console == ""
        assert dom.count("<svg") == pages[task].count("<svg")
    printed = tmp_path / "report.pdf"
    opened(evaluated["retrieval"].path / "report.html", f"--print-to-pdf={printed}", "--no-pdf-header-footer")
    num_pages = len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes()))
    assert 2 <= num_pages <= 25


def test_pictures_of_the_report_are_kept(pages):
    for task, page in pages.items():
        screenshot(page, SCREENSHOTS / f"{task}-desk.png", width=DESKTOP, height=4500)
    path = SCREENSHOTS / "retrieval-phone-dark.png"
    screenshot(pages["retrieval"], path, width=PHONE, height=3000, dark=True)


def test_what_is_wrong_with_a_page_is_seen(tmp_path):
    browser()
    bad = (
        "<!doctype html><body><script>console.error('broken')</script>"
        '<div style="width:500px">wide</div><img src="http://127.0.0.1:9/missing.png">'
        '<svg viewBox="0 0 10 10" width="5"><text x="9">cut off</text></svg></body>'
    )
    found, console = measured({"bad": bad}, tmp_path, widths={"phone": PHONE})
    one = found["bad-phone"]
    assert "broken" in console
    assert one["page"] > one["width"]
    assert any("wide" in element for element in one["wide"])
    assert one["requests"] != []
    assert one["pictures"][0]["width"] < 10
    assert one["pictures"][0]["cut"] == ["cut off"]
