"""A real browser without a window, and what it makes of a page."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

# As a device, an office and a printer see a page; A4 less its margins, at 96 dots an inch.
PHONE, DESKTOP, PAPER = 390, 1000, 688
_NAMES = ("chromium", "google-chrome", "chromium-browser", "google-chrome-stable")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--force-device-scale-factor=1",
)
# Runs in the page around the frames: the report itself allows no script.
_MEASURE = """
addEventListener('load', () => {
  const found = {};
  for (const frame of document.querySelectorAll('iframe')) {
    const page = frame.contentDocument, view = frame.contentWindow;
    page.querySelectorAll('details').forEach(details => details.open = true);
    const width = page.documentElement.clientWidth;
    const scrolls = element => {
      const around = element.parentElement && element.parentElement.closest('.scroll');
      return around && view.getComputedStyle(around).overflowX === 'auto';
    };
    const box = element => element.getBoundingClientRect();
    found[frame.id] = {
      width,
      page: page.documentElement.scrollWidth,
      wide: [...page.body.querySelectorAll('*')]
        .filter(element => !scrolls(element) && (box(element).right > width + 1 || box(element).left < -1))
        .map(element => element.outerHTML.slice(0, 200)),
      pictures: [...page.querySelectorAll('svg')].map(svg => ({
        width: box(svg).width,
        height: box(svg).height,
        marks: svg.querySelectorAll('circle, rect, polygon, polyline').length,
        cut: [...svg.querySelectorAll('text')]
          .filter(text => box(text).left < box(svg).left - 2 || box(text).right > box(svg).right + 2
            || box(text).top < box(svg).top - 2 || box(text).bottom > box(svg).bottom + 2)
          .map(text => text.textContent),
        title: svg.getAttribute('aria-label'),
      })),
      captions: page.querySelectorAll('figure > figcaption').length,
      requests: view.performance.getEntriesByType('resource').map(entry => entry.name),
      dark: view.matchMedia('(prefers-color-scheme: dark)').matches,
      paper: view.getComputedStyle(page.body).backgroundColor,
      ink: view.getComputedStyle(page.body).color,
    };
  }
  const answer = document.createElement('pre');
  answer.id = 'measured';
  answer.textContent = JSON.stringify(found);
  document.body.append(answer);
});
"""


def browser() -> str:
    """The browser's program; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("no chromium or google-chrome on PATH: apt-get install chromium")
    return found


def opened(page: Path, *flags: str) -> tuple[str, str]:
    """What a headless browser writes to stdout, and what the page's console did, line by line."""
    with tempfile.TemporaryDirectory() as profile:
        command = [browser(), *_FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, "\n".join(console)


def measured(pages: Mapping[str, str], folder: Path, *, widths: Mapping[str, int], dark: bool = False) -> Any:
    """Sizes and colours of pages in frames of several widths, and the console's lines.

    Args:
        pages: HTML by name.
        folder: for the page around them.
        widths: of the frames, in pixels, by name; `paper` is laid out as for print.
        dark: ask for the dark colours.
    """
    frames = "".join(
        f'<iframe id="{name}-{place}" width="{width}" height="900" style="border:0" '
        f'srcdoc="{html.escape(as_printed(page) if place == "paper" else page)}"></iframe>'
        for name, page in pages.items()
        for place, width in widths.items()
    )
    around = folder / f"around-{'dark' if dark else 'light'}.html"
    around.write_text(
        f'<!doctype html><meta charset="utf-8"><body>{frames}<script>{_MEASURE}</script></body>',
        encoding="utf-8",
    )
    dom, console = opened(around, "--dump-dom", *scheme(dark))
    answer = re.search(r'<pre id="measured">(.*?)</pre>', dom, flags=re.DOTALL)
    assert answer, dom[-2000:]
    return json.loads(html.unescape(answer.group(1))), console


def scheme(dark: bool) -> tuple[str, ...]:
    """Flags that make the page believe that its reader wants dark (or light) colours."""
    return (f"--blink-settings=preferredColorScheme={0 if dark else 1}",)


def as_printed(page: str) -> str:
    """The page with the rules of print for every medium, and those of the screen for none."""
    return page.replace("@media print", "@media all").replace("@media screen", "@media print")


def screenshot(page: str, path: Path, *, width: int, height: int, dark: bool = False) -> None:
    """A picture of the page in a frame of this width: windows do not get as narrow as a phone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        around = Path(folder) / "around.html"
        around.write_text(
            '<!doctype html><meta charset="utf-8"><body style="margin:0">'
            f'<iframe width="{width}" height="{height}" style="border:0" '
            f'srcdoc="{html.escape(page)}"></iframe>',
            encoding="utf-8",
        )
        opened(around, f"--screenshot={path}", f"--window-size={width},{height}", *scheme(dark))
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
