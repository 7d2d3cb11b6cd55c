"""Reads YAML that a stranger may have written, within bounds."""

from pathlib import Path

import yaml

from recsys.schema.errors import InputError

_MOST_BYTES, _MOST_DEPTH = 2**20, 32


def read_bounded_yaml(path: Path) -> str:
    """The text of a YAML file that a stranger may have written: small, flat, and without aliases.

    Raises:
        InputError: it is larger than a configuration is; a few lines of aliases can stand for gigabytes.
        YAMLError: it is no YAML.
    """
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise InputError(f"`{path}` is damaged: expected at most {_MOST_BYTES:,} bytes, got {size:,}")
    text = path.read_text(encoding="utf-8")
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1
            raise InputError(f"`{path}` is damaged: expected no aliases (`*name`), got one in line {line}")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MOST_DEPTH:
            raise InputError(f"`{path}` is damaged: expected at most {_MOST_DEPTH} levels, got more")
    return text
