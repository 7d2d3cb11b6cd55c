"""Reads records of requests: the fields that some feature reads, checked, bounded and made plain."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, cast

from recsys.schema.features import HISTORY, ITEM_ID, USER_ID
from recsys.schema.requests import FieldKind, RequestLimits
from recsys.serving.sentences import vector_of
from recsys.serving.values import Reader, Refused, RequestError, read_id, shown

LOGGER = logging.getLogger(__name__)

Record = dict[str, Any]
# Names of unread fields that are said once each; hostile requests bring ever new ones.
_MOST_NAMES_SAID = 100


class RecordReader:
    """Reads records of one table: the fields that some feature reads, made plain.

    Args:
        readers: of every field, by name.
        limits: of requests.
        sentences: by field, the field of the text that its vector is made of, and the model.
    """

    def __init__(
        self,
        readers: Mapping[str, Reader],
        limits: RequestLimits,
        sentences: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._readers = readers
        self._limits = limits
        self._sentences = sentences or {}
        self._said: set[str] = set()

    def read(self, record: object, argument: str, *, strict: bool) -> Record:
        """The record without the fields that no feature reads.

        Args:
            record: by name of field.
            argument: what it is called, as `user` or `users[3]`.
            strict: whether a field that no feature reads is refused.

        Raises:
            RequestError: naming the field.
        """
        if not isinstance(record, Mapping):
            raise wrong_value(argument, "a record of fields by name", record)
        if len(record) > self._limits.fields:
            raise too_long(argument, "fields", self._limits.fields, len(record))
        fields: Record = {}
        for name, value in record.items():
            reader = self._readers.get(name) if type(name) is str else None
            if reader is None:
                self._refuse_or_say(name, argument, strict=strict)
                continue
            try:
                fields[name] = reader(value)
            except Refused as refused:
                raise wrong_value(f"{argument}.{name}", str(refused), value) from None
        for name, made_of in self._sentences.items():
            if name not in fields and made_of["field"] in fields:
                fields[name] = vector_of(
                    fields[made_of["field"]], made_of["model"], argument=f"{argument}.{name}"
                )
        return fields

    @property
    def fields(self) -> list[str]:
        """Names of the fields that are read."""
        return list(self._readers)

    def unread(self, record: Mapping[str, Any]) -> list[str]:
        """Names of fields that no feature reads."""
        return [name for name in record if name not in self._readers]

    def _refuse_or_say(self, name: object, argument: str, *, strict: bool) -> None:
        # A surrogate in a name must not end the message or the log.
        plain = ascii(name)[:80] if not isinstance(name, str) or not name.isascii() else repr(name[:80])
        if strict or not isinstance(name, str):
            known = ", ".join(f"`{known}`" for known in sorted(self._readers))
            raise RequestError(
                f"`{argument}` has the field {plain}, which no feature reads; it may have: {known}",
                field=argument,
            )
        if name not in self._said and len(self._said) < _MOST_NAMES_SAID:
            self._said.add(name)
            LOGGER.warning("no feature reads the field %s of `%s`; it is ignored", plain, argument)


def readers_by_name(
    described: Mapping[str, Any], readers: Mapping[FieldKind, Reader]
) -> Iterable[tuple[str, Reader]]:
    """A reader for each name that a field goes by."""
    for name, field in described.items():
        if name == HISTORY:
            continue
        kind = field.get("kind") or _kind_of_type(field["type"])
        for accepted in [name, *field["accepted_names"]]:
            yield accepted, read_id if name in (USER_ID, ITEM_ID) else readers[kind]


def fields_of_kind(kind: FieldKind, names: Iterable[str]) -> dict[str, Any]:
    """Fields of a kind, as a signature describes them."""
    return {name: {"kind": kind, "accepted_names": []} for name in names}


def _kind_of_type(described: str) -> FieldKind:
    """The kind of a field in a bundle of a release that only described it in words."""
    if described.startswith("list of"):
        return "list"
    if described.startswith("number of"):
        return "time"
    return cast(FieldKind, described) if described in ("number", "text") else "id"


def wrong_value(argument: str, expected: str, value: object) -> RequestError:
    """The error of an argument that is not what it must be."""
    return RequestError(f"`{argument}` must be {expected}; got {shown(value)}", field=argument)


def too_long(argument: str, what: str, limit: int, size: int) -> RequestError:
    """The error of an argument that holds too much."""
    return RequestError(f"`{argument}` must hold at most {limit} {what}, got {size}", field=argument)
