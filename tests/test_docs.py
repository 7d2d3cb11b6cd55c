"""Every listing of README.md and docs/ is run, and shows what it prints."""

import re
from pathlib import Path

import pytest

from tests.listings import PAGES, PROJECT, READ, RUN, blocks_of, differs, run_page

GENERATED = ("configuration.md", "metrics.md")  # by docs/generate.py
BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def has_listings(page):
    return any(block.language in RUN and not block.not_run for block in blocks_of(page))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if has_listings(page)], ids=lambda page: page.stem)
def test_listings_print_what_they_show(page, tmp_path):
    assert run_page(page, tmp_path) == []


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_every_block_is_run_or_says_why_not(block):
    known = block.language in RUN | READ or block.language.startswith("{")
    assert known or block.not_run, f"{block.place} is {block.language or 'of no language'} and has no reason"


def test_readme_is_read_in_five_minutes():
    assert len((PROJECT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    local = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    missing = [target for target in local if not (page.parent / target).exists()]
    assert [target for target in missing if Path(target).name not in GENERATED] == []


@pytest.mark.parametrize(
    ("shown", "printed", "alike"),
    [
        (
            "17:01:02 epoch 0: val/ndcg@10 0.0433, 2,683 examples/s",
            "09:00:00 epoch 0: val/ndcg@10 0.0431, 9 examples/s",
            True,
        ),
        ("val/ndcg@10 0.0433", "val/ndcg@10 0.0533", False),
        ("first\n...\nlast", "first\nsecond\nlast", True),
        ("first\nlast", "last\nfirst", False),
        ("runs/20260101-000000-x", "runs/20270203-111111-x", True),
        ("not printed", "", False),
    ],
)
def test_comparison_of_what_is_shown_with_what_is_printed(shown, printed, alike):
    assert (differs(shown, printed) is None) is alike
