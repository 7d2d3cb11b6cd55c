"""Finds where a key of a composed configuration was set: command line, continued run, or file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def origin(
    key: str, *, overridden: Sequence[str], choices: Mapping[str, Any], root: Path, run: str | None = None
) -> str:
    """Says where `key` was set; empty when nobody set it.

    Args:
        key: dotted key.
        overridden: keys on the command line.
        choices: the file chosen from each group.
        root: the command's root file, in the folder of all groups.
        run: folder of the run that is continued.
    """
    if any(_overlap(key, given) for given in overridden):
        return "on the command line"
    if run is not None:
        return f"in {run}/config.yaml"
    files = [
        root.parent / group / f"{name}.yaml"
        for group, chosen in choices.items()  # what is merged last stands first
        for name in (chosen if isinstance(chosen, list) else [chosen])
        if chosen is not None and not group.startswith("hydra/")
    ]
    for path in [*files, root]:
        if path.is_file() and _has_key(_content(path), key.partition("[")[0]):
            return f"in {path.relative_to(root.parent.parent)}"
    return ""


def _has_key(content: Any, key: str) -> bool:
    """True when the dotted key is in `content`."""
    head, _, rest = key.partition(".")
    if not isinstance(content, Mapping) or head not in content:
        return False
    return _has_key(content[head], rest) if rest else True


def _overlap(key: str, overridden: str) -> bool:
    path, other = key.partition("[")[0].split("."), overridden.split(".")
    return all(a == b for a, b in zip(path, other, strict=False))


def _content(path: Path) -> Any:
    """Reads a file of configuration, its content below the package that it stands in."""
    content: Any = OmegaConf.to_container(OmegaConf.load(path))
    package = path.parent.name
    for line in path.read_text().splitlines():
        if line.startswith("# @package "):
            package = line.removeprefix("# @package ").strip()
    return content if package == "_global_" or path.parent.name == "configs" else {package: content}
