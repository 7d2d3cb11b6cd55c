"""Runs the listings of README.md and docs/ and holds what they show against what they print.

A page is run from top to bottom in one empty folder that has the three scripts of the checkout in it:

- ```` ```python ```` runs in one process a page, unless its first line is a comment that names a file
  (`# make_ratings.py`), which it then becomes;
- ```` ```console ```` holds lines `$ command` (continued by a backslash) and what each prints; `...`
  stands for any lines. Times, dates, rates, digests and folders differ each time; a number may differ by 5 %;
- ```` ```text ````, ```` ```yaml ```` and the like are read, not run; every other block that is not run has a
  reason in a comment above: `<!-- not run: needs a GPU -->`.
"""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PAGES = sorted(
    page for page in [PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")] if "_build" not in page.parts
)
RUN = {"python", "console"}
READ = {"text", "yaml", "json", "toml", "ini", "make", "csv"}
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->")
FILE = re.compile(r"# ([\w./-]+\.\w+)(:.*| -.*)?$")

# Runs blocks, a JSON text a line, in one namespace; answers with what each printed and whether it ended well.
_INTERPRETER = """
import contextlib, io, json, sys, traceback
answers, sys.stdout = sys.stdout, sys.stderr
names = {"__name__": "__main__"}
for line in sys.stdin:
    printed, well = io.StringIO(), True
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            exec(compile(json.loads(line), "listing", "exec"), names)
        except BaseException:
            well = False
            traceback.print_exc()
    print(json.dumps([well, printed.getvalue()]), file=answers, flush=True)
"""
_CHANGING = [
    (re.compile(r"\d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"\b20\d{6}-\d{6}"), "STAMP"),
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "DIGEST"),
    (re.compile(r"[\d,.]+ (examples|rows|users|requests)/s"), r"RATE \1/s"),
    (re.compile(r"\b[\d.]+ (s|ms|seconds|milliseconds)\b"), r"TIME \1"),
    (re.compile(r"(~|/[\w.~-]+)?/[\w./-]*\.cache/recsys"), "CACHE"),
    (re.compile(r"[┏┓┗┛┡┩┠┨━┳┻╇╋┃│└┘┴─]+"), "|"),
    (re.compile(r"\s+"), " "),
]
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?![\w])")


@dataclasses.dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None

    @property
    def place(self) -> str:
        """Where a reader finds it."""
        return f"{self.page.relative_to(PROJECT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    lines = page.read_text().splitlines()
    place, above = 0, ""
    while place < len(lines):
        opened = re.match(r"(`{3,}|:{3,})\s*(\S*)", lines[place])
        if opened is None:
            above = lines[place] if lines[place].strip() else above
            place += 1
            continue
        end = next(n for n in range(place + 1, len(lines)) if lines[n].strip() == opened[1])
        reason = NOT_RUN.search(above)
        text = "\n".join(lines[place + 1 : end])
        yield Block(page, place + 1, opened[2], text, reason[1] if reason else None)
        place, above = end + 1, ""


def run_page(page: Path, folder: Path) -> list[str]:
    """Runs a page in `folder`; returns what differs from what it shows, a text for each place."""
    for script in ("train.py", "evaluate.py", "export.py"):
        (folder / script).symlink_to(PROJECT / script)
    (folder / "bin").mkdir()
    for name, arguments in (("python", ""), ("recsys", " -m recsys")):
        command = folder / "bin" / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n')
        command.chmod(0o755)
    differences = []
    interpreter = None
    for block in blocks_of(page):
        if block.language not in RUN or block.not_run:
            continue
        first = block.text.partition("\n")[0]
        if block.language == "python" and (named := FILE.match(first)):
            (folder / named[1]).parent.mkdir(parents=True, exist_ok=True)
            (folder / named[1]).write_text(block.text + "\n")
        elif block.language == "python":
            interpreter = interpreter or _start(folder)
            well, printed = _ask(interpreter, block.text)
            if not well:
                differences.append(f"{block.place}: {printed[-3000:]}")
        else:
            differences += _run_console(block, folder)
    if interpreter is not None:
        interpreter.communicate()
    return differences


def _start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _INTERPRETER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=_environment(folder),
    )


def _ask(interpreter: subprocess.Popen[str], text: str) -> tuple[bool, str]:
    assert interpreter.stdin is not None
    assert interpreter.stdout is not None
    print(json.dumps(text), file=interpreter.stdin, flush=True)
    well, printed = json.loads(interpreter.stdout.readline())
    return well, printed


def _run_console(block: Block, folder: Path) -> Iterator[str]:
    for command, shown in _commands(block.text):
        finished = _shell(command, folder)
        if difference := differs(shown, finished.stdout):
            yield f"{block.place}: `{command}`: {difference}\n--- it printed\n{finished.stdout[-6000:]}"


def _commands(text: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.split("\n")
        end = next(n for n, line in enumerate(lines) if not line.endswith("\\"))
        yield "\n".join(lines[: end + 1]), "\n".join(lines[end + 1 :])


def _shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        shell=True,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_environment(folder),
        executable="/bin/bash",
    )


def _environment(folder: Path) -> dict[str, str]:
    path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"PATH": path, "PYTHONPATH": str(PROJECT), "COLUMNS": "120", "RECSYS_CACHE": str(folder / "cache")}
    return {**os.environ, **own}


def differs(shown: str, printed: str) -> str | None:
    """Says which shown line was not printed, in order; None where all were."""
    there = [_plain(line) for line in printed.splitlines()]
    place = 0
    for line in shown.splitlines():
        wanted = _plain(line)
        if wanted in ("", "...", "|"):
            continue
        match = next((n for n in range(place, len(there)) if _alike(wanted, there[n])), None)
        if match is None:
            return f"shows the line {line.strip()!r}, which was not printed there"
        place = match + 1
    return None


def _plain(line: str) -> str:
    for pattern, replacement in _CHANGING:
        line = pattern.sub(replacement, line)
    return line.strip()


def _alike(shown: str, printed: str) -> bool:
    if _NUMBER.sub("#", shown) != _NUMBER.sub("#", printed):
        return False
    pairs = zip(_NUMBER.findall(shown), _NUMBER.findall(printed), strict=True)
    numbers = [(float(one.replace(",", "")), float(other.replace(",", ""))) for one, other in pairs]
    return all(abs(one - other) <= 0.05 * max(abs(one), abs(other)) + 1e-9 for one, other in numbers)


if __name__ == "__main__":
    import tempfile

    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as temporary:
            print("\n".join(run_page(Path(name).resolve(), Path(temporary))) or f"{name}: as shown")
