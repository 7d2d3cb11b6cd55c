"""Requests to a bundle: read, checked and bounded by its manifest before the file sees them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

from recsys.schema.features import HISTORY
from recsys.schema.requests import INTERESTS, RequestLimits
from recsys.schema.tables import TIMESTAMP
from recsys.serving.arguments import for_each, instant_of, sequence_of, share_of, truth_of, whole_number
from recsys.serving.record_reader import (
    Record,
    RecordReader,
    fields_of_kind,
    readers_by_name,
    too_long,
    wrong_value,
)
from recsys.serving.values import Refused, RequestError, as_text, read_id, readers_of

# Impressions from which on an item has had its chance.
_EXPLORE_BELOW = 10


class QueryOptions(TypedDict, total=False):
    """Types what a request may say beside user, history, k, context and exclude.

    Of a batch, `history_times` and `history_liked` are lists of one for each user; the others hold for all.

    Args:
        history_times, history_liked, num_candidates, diversity, where: as in the manifest.
        similar_to: raw id of an item, for its page: the list is chosen among the items nearest to it.
        explore: share of the places, 0 to 1, for items that were shown less than `explore_below` times (10 by
            default, where events of train count as impressions); of a retrieval model alone.
        strict: whether a field that no feature reads is refused; as the bundle was opened where it is None.
    """

    history_times: list[Any] | None
    history_liked: list[Any] | None
    num_candidates: int | None
    diversity: float | None
    where: dict[str, list[Any]] | None
    similar_to: Any
    explore: float | None
    explore_below: int | None
    strict: bool | None


@dataclasses.dataclass(frozen=True)
class RequestBatch:
    """B requests as the file takes them, and what holds for all of them.

    Args:
        users, histories, contexts: [B].
        k: length of the lists.
        excludes, history_times, history_liked: [B], or None.
        num_candidates, diversity, where: as in the manifest.
        similar_to, explore, explore_below: see `QueryOptions`.
    """

    users: list[Record]
    histories: list[list[Any]]
    k: int
    contexts: list[Record]
    excludes: list[list[Any]] | None = None
    history_times: list[list[Any]] | None = None
    history_liked: list[list[bool]] | None = None
    num_candidates: int | None = None
    diversity: float | None = None
    where: dict[str, list[Any]] | None = None
    similar_to: Any = None
    explore: float = 0.0
    explore_below: int = _EXPLORE_BELOW


class RequestReader:
    """Reads requests to a bundle.

    Args:
        manifest: of the bundle.
        read_fields: that the file reads of any record, or refuses by name.
        time_fields: where contexts and rows hold the instant of a request.
        label_fields: where events that are observed hold their label.
        strict: whether a field that no feature reads is refused, unless a request says otherwise.
    """

    def __init__(
        self,
        manifest: Mapping[str, Any],
        *,
        read_fields: Iterable[str] = (),
        time_fields: Iterable[str] = (),
        label_fields: Iterable[str] = (),
        strict: bool = False,
    ) -> None:
        self.limits = RequestLimits.of_manifest(manifest)
        self.strict = strict
        self._num_candidates_unasked = int(manifest.get("num_candidates", 1))
        self._diversity_unasked = float(manifest.get("diversity", 0))
        own = manifest["signature"]
        signatures = [own, *(part["signature"] for part in manifest.get("stages", {}).values())]
        readers = readers_of(self.limits)

        def reader_of(*described: Mapping[str, Any]) -> RecordReader:
            known = {name: reader for part in described for name, reader in readers_by_name(part, readers)}
            fields = {name: field for part in described for name, field in part.items()}
            sentences = {name: field["made_of"] for name, field in fields.items() if "made_of" in field}
            texts = {made_of["field"]: readers["text"] for made_of in sentences.values()}
            return RecordReader({**texts, **known}, self.limits, sentences)

        # A manifest of releases up to 0.1 leaves out fields of time; of others the file knows best.
        times, others = fields_of_kind("time", {TIMESTAMP, *time_fields}), fields_of_kind("list", read_fields)
        row = {name: field for part in signatures for name, field in part.get("row", {}).items()}
        row = others | times | row
        items = {name: field for part in signatures for name, field in part.get("item", {}).items()}
        self.rows = reader_of(row)
        self.events = reader_of(row, fields_of_kind("number", label_fields))
        # Of a new item only its own table is given, whose columns go by their own names.
        self.items = reader_of(row, {name.removeprefix("items."): row[name] for name in row}, items)
        self.users = reader_of(own["user"]) if "user" in own else self.rows
        self.contexts = reader_of(times, own["context"]) if "context" in own else self.rows

    def one(
        self, user: object, history: object, k: object, context: object, exclude: object, **options: Any
    ) -> RequestBatch:
        """A request for one list, as a batch of one; arguments as of `Bundle.recommend`.

        Raises:
            RequestError: naming the argument or the field.
        """
        for name in _OF_EACH_ITEM:
            if options.get(name) is not None:
                options[name] = [options[name]]
        excludes = None if exclude is None else [exclude]
        return self.batch([user], [history], k, [context], excludes, is_one=True, **options)

    def batch(
        self,
        users: object,
        histories: object,
        k: object,
        contexts: object,
        excludes: object,
        *,
        is_one: bool = False,
        **options: Any,
    ) -> RequestBatch:
        """Requests for lists; arguments as of `Bundle.recommend_batch`.

        Raises:
            RequestError: naming the argument or the field, as that of one request where `is_one`.
        """

        def name_of(argument: str, at: int) -> str:
            return _SINGULAR.get(argument, argument) if is_one else f"{argument}[{at}]"

        strict = self.strict if options.get("strict") is None else bool(options["strict"])
        limits, wanted, below = self.limits, options.get("num_candidates"), options.get("explore_below")
        given_users = sequence_of(users, "users", limits.requests)
        size = len(given_users)

        def ids_of_each(lists: object, argument: str, limit: int) -> list[list[Any]]:
            each = for_each(lists, argument, size) or [None] * size
            return [self.ids(ids, name_of(argument, at), limit) for at, ids in enumerate(each)]

        past = ids_of_each(histories, "histories", limits.history)
        batch = RequestBatch(
            users=[
                self.users.read(self._flat(user), name_of("users", at), strict=strict)
                for at, user in enumerate(given_users)
            ],
            histories=past,
            k=whole_number(k, "k", limits.k),
            contexts=[
                self.contexts.read({} if context is None else context, name_of("contexts", at), strict=strict)
                for at, context in enumerate(for_each(contexts, "contexts", size) or [None] * size)
            ],
            excludes=None if excludes is None else ids_of_each(excludes, "excludes", limits.exclude),
            history_times=self._of_each_item(options, "history_times", past, name_of),
            history_liked=self._of_each_item(options, "history_liked", past, name_of),
            num_candidates=None
            if wanted is None
            else whole_number(wanted, "num_candidates", limits.num_candidates),
            diversity=share_of(options.get("diversity"), "diversity"),
            where=self.where(options.get("where")),
            similar_to=options.get("similar_to"),
            explore=share_of(options.get("explore"), "explore") or 0.0,
            explore_below=_EXPLORE_BELOW if below is None else whole_number(below, "explore_below", 2**53),
        )
        self._check_diversified(batch)
        return batch

    def rows_of(self, rows: object, *, strict: bool | None = None) -> list[Record]:
        """Rows to predict."""
        return self._rows(self.rows, rows, strict)

    def events_of(self, rows: object, *, strict: bool | None = None) -> list[Record]:
        """Rows to observe, with their labels."""
        return self._rows(self.events, rows, strict)

    def items_of(self, items: object, *, strict: bool | None = None) -> list[Record]:
        """Records of new items."""
        strict = self.strict if strict is None else strict
        given = sequence_of(items, "items", self.limits.rows)
        return [self.items.read(item, f"items[{at}]", strict=strict) for at, item in enumerate(given)]

    def ids(self, ids: object, argument: str, limit: int | None) -> list[Any]:
        """Raw ids of items; none for None."""
        given = [] if ids is None else sequence_of(ids, argument, limit)
        read = []
        for at, value in enumerate(given):
            try:
                read.append(read_id(value))
            except Refused as refused:
                raise wrong_value(f"{argument}[{at}]", str(refused), value) from None
        return read

    def where(self, where: object) -> dict[str, list[Any]] | None:
        """Values by attribute of the items."""
        if where is None:
            return None
        if not isinstance(where, Mapping) or not all(isinstance(name, str) for name in where):
            raise wrong_value("where", "lists of values by attribute of the items", where)
        total = 0
        read = {}
        for name, values in where.items():
            argument = f"where.{ascii(name)[1:-1][:80]}"
            given = sequence_of(values, argument, self.limits.where_values)
            total += len(given)
            if total > self.limits.where_values:
                raise too_long("where", "values", self.limits.where_values, total)
            read[name] = self.ids(given, argument, self.limits.where_values)
        return read

    def _rows(self, reader: RecordReader, rows: object, strict: bool | None) -> list[Record]:
        strict = self.strict if strict is None else strict
        given = sequence_of(rows, "rows", self.limits.rows)
        return [self._row(reader, row, f"rows[{at}]", strict=strict) for at, row in enumerate(given)]

    def _row(self, reader: RecordReader, row: object, argument: str, *, strict: bool) -> Record:
        if not isinstance(row, Mapping) or HISTORY not in row:
            return reader.read(row, argument, strict=strict)
        others = {name: value for name, value in row.items() if name != HISTORY}
        fields = reader.read(others, argument, strict=strict)
        ids = self.ids(row[HISTORY], f"{argument}.{HISTORY}", self.limits.history)
        kinds = {type(item_id) for item_id in ids} - {type(None)}
        # TorchScript takes no empty list within a record, and no list of mixed types.
        if bool in kinds or len(kinds) > 1:
            ids = [as_text(item_id) for item_id in ids]
        return {**fields, HISTORY: ids or None}

    def _of_each_item(
        self,
        options: Mapping[str, Any],
        name: str,
        histories: list[list[Any]],
        name_of: Callable[[str, int], str],
    ) -> list[list[Any]] | None:
        """The times of the items of each history, or whether they were liked."""
        each = for_each(options.get(name), name, len(histories))
        if each is None:
            return None
        read = []
        for at, (values, history) in enumerate(zip(each, histories, strict=True)):
            argument = name_of(name, at)
            given = sequence_of(values, argument, self.limits.history)
            if len(given) != len(history):
                raise RequestError(
                    f"`{argument}` must hold a value for each of the {len(history)} items of the history, "
                    f"got {len(given)}",
                    field=argument,
                )
            read.append([_OF_EACH_ITEM[name](value, argument, self.limits) for value in given])
        return read

    def _flat(self, user: object) -> object:
        """The user with a field for each kind of interest; as given where it names none by field."""
        if not isinstance(user, Mapping) or not isinstance(user.get(INTERESTS), Mapping):
            return user
        others = {name: value for name, value in user.items() if name != INTERESTS}
        return others | {f"{INTERESTS}.{name}": values for name, values in user[INTERESTS].items()}

    def _check_diversified(self, batch: RequestBatch) -> None:
        candidates = max(batch.k, batch.num_candidates or self._num_candidates_unasked)
        diversity = self._diversity_unasked if batch.diversity is None else batch.diversity
        if diversity and batch.k * candidates > self.limits.diversified:
            raise RequestError(
                f"`diversity` must be 0 where `k` times the candidates is above {self.limits.diversified}: "
                f"each is compared with each; got {batch.k * candidates}",
                field="diversity",
            )


_OF_EACH_ITEM = {"history_times": instant_of, "history_liked": truth_of}
_SINGULAR = {"users": "user", "histories": "history", "contexts": "context", "excludes": "exclude"}


def check_not_ahead(instants: Iterable[int], *, latest: int, seconds_ahead: int) -> None:
    """Raises for an event that lies too far ahead; it would stand above all others until its time comes.

    Args:
        instants: of the events, in microseconds.
        latest: the clock, or the end of the data where that lies beyond.
        seconds_ahead: how far beyond it an event may lie.

    Raises:
        RequestError: naming the row.
    """
    for at, instant in enumerate(instants):
        seconds = (instant - latest) // 1_000_000
        if seconds > seconds_ahead:
            raise RequestError(
                f"`timestamp` of row {at} must lie at most {seconds_ahead} seconds ahead of the clock and of "
                f"the data (`limits.seconds_ahead` of the manifest), got {seconds}; none was counted",
                field="timestamp",
            )
