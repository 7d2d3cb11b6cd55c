"""A real browser without a window, and what it makes of pages.

It is started once and spoken to over a pipe (the DevTools protocol, a JSON message up to each zero byte), so
that a page is opened once and then looked at in several widths, in either colours and on paper.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# As a device, an office and a printer see a page; A4 less its margins, at 96 dots an inch.
PHONE, DESKTOP, PAPER = 390, 1280, 688
_NAMES = ("chromium", "google-chrome", "chromium-browser", "google-chrome-stable")
_FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
# The browser reads from descriptor 3 and writes to 4. Moved there by a process of its own, because the test's
# own 3 and 4 are taken.
_ON_3_AND_4 = """
import fcntl, os, sys
commands, answers = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
_PATIENCE_SECONDS = 60
_TALLEST = 6000
_MEASURE = """
(() => {
  const page = document;
  page.querySelectorAll('details').forEach(details => details.open = true);
  const width = page.documentElement.clientWidth;
  const box = element => element.getBoundingClientRect();
  const scrolls = element => {
    const around = element.parentElement && element.parentElement.closest('.scroll');
    return around && getComputedStyle(around).overflowX === 'auto';
  };
  const outside = (text, svg) => box(text).left < box(svg).left - 2 || box(text).right > box(svg).right + 2
    || box(text).top < box(svg).top - 2 || box(text).bottom > box(svg).bottom + 2;
  const touching = texts => texts.flatMap((one, place) => texts.slice(place + 1).filter(other =>
    box(one).left < box(other).right && box(other).left < box(one).right
    && box(one).top + 3 < box(other).bottom && box(other).top + 3 < box(one).bottom
  ).map(other => one.textContent + ' | ' + other.textContent));
  return {
    width,
    page: page.documentElement.scrollWidth,
    wide: [...page.body.querySelectorAll('*')]
      .filter(element => !scrolls(element) && (box(element).right > width + 1 || box(element).left < -1))
      .map(element => element.outerHTML.slice(0, 200)),
    pictures: [...page.querySelectorAll('svg')].map(svg => ({
      width: box(svg).width,
      height: box(svg).height,
      marks: svg.querySelectorAll('circle, rect, polygon, polyline').length,
      touching: touching([...svg.querySelectorAll('text:not([transform])')]),
      cut: [...svg.querySelectorAll('text')].filter(text => outside(text, svg)).map(text => text.textContent),
      title: svg.getAttribute('aria-label'),
    })),
    captions: page.querySelectorAll('figure > figcaption').length,
    dark: matchMedia('(prefers-color-scheme: dark)').matches,
    paper: getComputedStyle(page.body).backgroundColor,
    ink: getComputedStyle(page.body).color,
  };
})()
"""


class Browser:
    """A browser with one page open.

    Args:
        program: its executable.
        profile: an empty folder of its own.
    """

    def __init__(self, program: str, profile: Path) -> None:
        read_commands, self._commands = os.pipe()
        self._answers, write_answers = os.pipe()
        pipes = (read_commands, write_answers)
        flags = [*_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", _ON_3_AND_4, *map(str, pipes), program, *flags],
            pass_fds=pipes,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in pipes:
            os.close(end)
        self._unread, self._asked, self._session = b"", 0, ""
        self._events: list[dict[str, Any]] = []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")
        self._ask("Page.setLifecycleEventsEnabled", enabled=True)

    def open(self, page: Path | str) -> None:
        """Loads a file or an address; what the console says and what is fetched is counted anew."""
        self._events.clear()
        loader = self._ask("Page.navigate", url=page.as_uri() if isinstance(page, Path) else page)["loaderId"]
        loaded = {"name": "load", "loaderId": loader}
        while not any(loaded.items() <= told.items() for told in self._told("Page.lifecycleEvent")):
            self._events.append(self._next())

    def show(self, width: int, *, dark: bool = False, paper: bool = False) -> None:
        """Lays the page out in a window of this width, in pixels, or as it would be printed."""
        self._ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", media="print" if paper else "screen", features=[scheme])

    def measured(self) -> dict[str, Any]:
        """Sizes and colours of the page as shown, all that can be unfolded unfolded."""
        answer = self._ask("Runtime.evaluate", expression=_MEASURE, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        found: dict[str, Any] = answer["result"]["value"]
        return found

    def run(self, expression: str) -> Any:
        """What a JavaScript expression comes to, awaited where it is a promise."""
        answer = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def keep(self, path: Path) -> None:
        """Writes a picture of the page as shown."""
        size = self._ask("Page.getLayoutMetrics")["cssContentSize"]
        area = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], _TALLEST), "scale": 1}
        answer = self._ask(
            "Page.captureScreenshot", clip=area, captureBeyondViewport=True, optimizeForSpeed=True
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def printed(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self._ask("Page.printToPDF", preferCSSPageSize=True)["data"])

    @property
    def console(self) -> list[str]:
        """What was said, or went wrong, since the page was opened."""
        calls = [str(told["args"]) for told in self._told("Runtime.consoleAPICalled")]
        thrown = [str(told["exceptionDetails"]) for told in self._told("Runtime.exceptionThrown")]
        return calls + thrown + [told["entry"]["text"] for told in self._told("Log.entryAdded")]

    @property
    def requests(self) -> list[str]:
        """Addresses that the page asked for since it was opened, its own first."""
        return [told["request"]["url"] for told in self._told("Network.requestWillBeSent")]

    def close(self) -> None:
        """Ends the process."""
        self._session = ""
        with contextlib.suppress(OSError, AssertionError):
            self._ask("Browser.close")
        self._process.wait(timeout=_PATIENCE_SECONDS)
        os.close(self._commands)
        os.close(self._answers)

    def _told(self, method: str) -> Iterator[dict[str, Any]]:
        return (event["params"] for event in self._events if event.get("method") == method)

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._asked += 1
        message = {"id": self._asked, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._asked:
            self._events.append(answer)
        assert "error" not in answer, (method, answer)
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._answers], [], [], _PATIENCE_SECONDS)
            assert ready, f"the browser was silent for {_PATIENCE_SECONDS} s"
            part = os.read(self._answers, 1 << 20)
            assert part, "the browser ended"
            self._unread += part
        message, _, self._unread = self._unread.partition(b"\0")
        said: dict[str, Any] = json.loads(message)
        return said


@contextlib.contextmanager
def started() -> Iterator[Browser]:
    """A browser; skips the test where none is installed."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("no chromium or google-chrome on PATH: apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, Path(profile))
        try:
            yield browser
        finally:
            browser.close()
