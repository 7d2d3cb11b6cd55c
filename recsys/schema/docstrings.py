"""Reads docstrings, which hold the meaning of arguments once, for help texts and manifests."""

from __future__ import annotations

import re


def argument_texts(docstring: str) -> dict[str, str]:
    """The text of each argument in the `Args:` section of a docstring."""
    ends = r"^ *(?:Returns|Raises|Yields|Example|Reference)s?:|\Z"
    section = re.search(rf"^ *Args:\n(.*?)(?={ends})", docstring, re.MULTILINE | re.DOTALL)
    texts: dict[str, str] = {}
    names: list[str] = []
    indent: int | None = None
    for line in (section[1] if section else "").splitlines():
        depth = len(line) - len(line.lstrip())
        indent = depth if indent is None and line.strip() else indent
        entry = re.match(r"\s*([\w, ]+):\s+(.*)", line)
        if entry and depth == indent:
            names = [name.strip() for name in entry[1].split(",")]
            texts |= dict.fromkeys(names, entry[2])
        elif names:
            texts |= {name: f"{texts[name]} {line.strip()}".strip() for name in names}
    return texts
