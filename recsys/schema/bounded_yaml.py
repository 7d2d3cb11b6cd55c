"""Reads YAML that a stranger may have written, within bounds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from recsys.schema.errors import InputError

_MOST_BYTES, _MOST_DEPTH, _MOST_VALUES = 2**20, 32, 50_000


def read_bounded_yaml(path: Path, parse: Callable[[str], Any] = yaml.safe_load) -> Any:
    """The content of a YAML file that a stranger may have written: small, flat, and without aliases.

    Args:
        path: the file.
        parse: makes the content of its text.

    Raises:
        InputError: it is no YAML, or larger than a configuration is; a few lines of aliases can stand for
            gigabytes.
    """
    try:
        return parse(_bounded(path))
    except InputError:
        raise
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # a date or a number that is none
        raise InputError(f"`{path}` is damaged: {' '.join(str(error).split())[:1000]}") from error


def _bounded(path: Path) -> str:
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise InputError(f"`{path}` is damaged: expected at most {_MOST_BYTES:,} bytes, got {size:,}")
    text = path.read_text(encoding="utf-8")
    depth = values = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1
            raise InputError(f"`{path}` is damaged: expected no aliases (`*name`), got one in line {line}")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        values += isinstance(event, yaml.ScalarEvent)
        if depth > _MOST_DEPTH:
            raise InputError(f"`{path}` is damaged: expected at most {_MOST_DEPTH} levels, got more")
        if values > _MOST_VALUES:
            raise InputError(f"`{path}` is damaged: expected at most {_MOST_VALUES:,} values, got more")
    return text
