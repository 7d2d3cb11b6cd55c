"""Kinds of features, a class each: what is declared of one, and what preparing has fitted on the train split.

A *sparse* feature turns a raw value into rows of an embedding table (row 0 is out-of-vocabulary); a *dense*
one into a float. Numbers are dense unless they are bucketised; a *vector* is an embedding made elsewhere;
every other kind is sparse.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from recsys.schema.errors import InputError, nearest
from recsys.schema.tables import ITEM_ID, RAW_PREFIX, TIMESTAMP, USER_ID

Role = Literal["user", "item", "context", "pair"]
Encoder = Literal["vocabulary", "hash"]
Transform = Literal["standardise", "log", "bucketise"]
TimePart = Literal["hour", "weekday"]
Measure = Literal["count", "positive_share", "label_mean", "recency"]
Pooling = Literal["mean", "idf"]
DEFAULT_BUCKETS = 20
DEFAULT_TEXT_BUCKETS = 5000
_HOUR_MICROSECONDS = 3_600_000_000

# Fields that preparing fits, and those that change without changing what a row or a number stands for.
_FITTED = {"changes_meaning": False, "is_fitted": True}
_DETAIL = {"changes_meaning": False}


def _fitted(default: Any) -> Any:
    return dataclasses.field(default=default, metadata=_FITTED)


def _detail(default: Any) -> Any:
    return dataclasses.field(default=default, metadata=_DETAIL)


@dataclasses.dataclass(frozen=True)
class Feature:
    """One input of a model; what all kinds have.

    Args:
        name: how models and configs call it; unique in a schema.
        role: whose property it is. `user` and `context` are known at request time, `item` belongs to a
            candidate, `pair` to a candidate at a request.
        column: the raw column it is read from; empty means the name.
        table: embedding table; features naming the same table share its rows. Empty for dense features.
        num_rows: rows of that table, row 0 included. Fitted. 0 for dense features.
    """

    name: str
    role: Role
    column: str = _detail("")
    table: str = ""
    num_rows: int = _fitted(0)

    kind: ClassVar[str]
    # Keys of a declaration in the configuration, and the raw tables of whose columns it may be declared.
    declared: ClassVar[tuple[str, ...]]
    tables: ClassVar[tuple[str, ...]] = ("users", "items", "interactions")
    # True when one example holds any number of rows.
    is_multivalued: ClassVar[bool] = False
    # False when the value is not in a raw column, but computed from events.
    has_column: ClassVar[bool] = True
    # True when an event's value is encoded row by row, false when each distinct one is looked up once.
    is_computed: ClassVar[bool] = False
    # True when it is not fitted on values of its own, but follows the ids of users and items.
    follows_ids: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for field, allowed in _choices(self.kind).items():
            if getattr(self, field) not in allowed:
                raise InputError(
                    f"feature `{self.name}`: `{field}` must be one of {', '.join(allowed)}, "
                    f"got `{getattr(self, field)}`"
                )
        object.__setattr__(self, "column", self.column or self.name)
        object.__setattr__(self, "table", (self.table or self.name) if self.is_sparse else "")

    @property
    def is_sparse(self) -> bool:
        """True when the feature reads an embedding table, false when it is a float."""
        return True

    @property
    def is_embedded(self) -> bool:
        """True when models read it as an embedding."""
        return self.is_sparse

    @property
    def has_vocabulary(self) -> bool:
        """True when rows come from a vocabulary fitted on the train split."""
        return False

    @property
    def source(self) -> str:
        """The column of preparing's tables that holds its raw values."""
        return RAW_PREFIX + self.column

    @classmethod
    def implied(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings that the kind needs where a declaration does not give them."""
        return {}

    @property
    def summary(self) -> str:
        """The kind, and what decides its encoding, for people."""
        return self.kind

    def by_ids(self, fitted: Mapping[str, Feature]) -> Feature:
        """The feature of a kind that follows ids, fitted by these."""
        raise NotImplementedError(self.kind)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for `schema.json`."""
        return {"name": self.name, "kind": self.kind, **dataclasses.asdict(self)}

    def meaning(self) -> dict[str, Any]:
        """The fields that decide what a row or a number stands for, but for what is fitted."""
        decisive = (f.name for f in dataclasses.fields(self) if f.metadata.get("changes_meaning", True))
        return {"kind": self.kind} | {name: getattr(self, name) for name in decisive if name != "name"}


@functools.cache
def _choices(kind: str) -> dict[str, tuple[str, ...]]:
    """The values of each field that may have a few named ones only."""
    hints = get_type_hints(KINDS[kind])
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}


@dataclasses.dataclass(frozen=True)
class LookupFeature(Feature):
    """Values that a vocabulary fitted on train, or a hash, turns into rows.

    Args:
        encoder: rows from a vocabulary fitted on train, or from a hash.
        min_count: values seen fewer times in train stay out of the vocabulary.
        num_buckets: rows 1..num_buckets where values are hashed.
        prefix: keep only the first so many characters of a value (zip codes); 0 keeps all.
        value_type: `integer` or `string`: how the raw values are typed. Fitted.
    """

    encoder: Encoder = "vocabulary"
    min_count: int = _detail(1)
    num_buckets: int = 0
    prefix: int = 0
    value_type: Literal["integer", "string"] = _fitted("string")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.is_hashed and self.num_buckets < 1:
            raise InputError(f"feature `{self.name}`: a hashed feature needs `num_buckets` of at least 1")

    @property
    def is_hashed(self) -> bool:
        """True when rows come from a hash of the value and no vocabulary is kept."""
        return self.encoder == "hash"

    @property
    def has_vocabulary(self) -> bool:
        """True when rows come from a vocabulary fitted on the train split."""
        return not self.is_hashed


@dataclasses.dataclass(frozen=True)
class IdFeature(LookupFeature):
    """One value, such as an id, a word or a code."""

    kind = "id"
    declared = ("column", "table", "encoder", "min_count", "num_buckets", "prefix")

    @property
    def summary(self) -> str:
        """The kind, and its prefix if any."""
        return f"id (prefix {self.prefix})" if self.prefix else self.kind


@dataclasses.dataclass(frozen=True)
class MultiIdFeature(LookupFeature):
    """A list of values, or several of them in one string.

    Args:
        delimiter: separates the values held in one string.
        max_length: most values kept, the first ones.
        pooling: of the rows of one example: their `mean`, or weighted by how rare they are (`idf`).
        idf: weight of each row of the table, 0 for rows that train lacks. Fitted, where pooled so.
    """

    delimiter: str = "|"
    max_length: int = _detail(50)
    pooling: Pooling = "mean"
    idf: tuple[float, ...] = _fitted(())

    kind = "multi_id"
    declared = (*IdFeature.declared, "delimiter", "max_length", "pooling")
    is_multivalued = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "idf", tuple(self.idf))

    @property
    def summary(self) -> str:
        """The kind and its delimiter."""
        return f"multi_id (delimiter {self.delimiter})"


@dataclasses.dataclass(frozen=True)
class TextFeature(Feature):
    """Words and their n-grams, hashed.

    Args:
        num_buckets: rows 1..num_buckets.
        ngrams: longest word n-gram.
        max_length: most n-grams kept, the first ones.
        pooling: see `MultiIdFeature`.
        idf: likewise.
    """

    num_buckets: int = 0
    ngrams: int = 1
    max_length: int = _detail(50)
    pooling: Pooling = "mean"
    idf: tuple[float, ...] = _fitted(())

    kind = "text"
    declared = ("column", "table", "num_buckets", "ngrams", "max_length", "pooling")
    is_multivalued = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "idf", tuple(self.idf))
        if self.num_buckets < 1:
            raise InputError(f"feature `{self.name}`: a hashed feature needs `num_buckets` of at least 1")

    @classmethod
    def implied(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The number of buckets."""
        return {"num_buckets": DEFAULT_TEXT_BUCKETS}


@dataclasses.dataclass(frozen=True)
class VectorFeature(Feature):
    """An embedding of a user or item made elsewhere, by a model of images, audio or text.

    It stays as it is; a model learns its projection and, where `difference` is above 0, an embedding of each
    user or item that known ones add to it (arXiv 2507.19473).

    Args:
        size: numbers of each vector. Fitted.
        difference: longest that the added embedding may be, as a share of the projection's length; 0.2 to 1
            works, 0 adds none.
    """

    size: int = _fitted(0)
    difference: float = 0.0

    kind = "vector"
    follows_ids = True
    declared: ClassVar[tuple[str, ...]] = ("column", "difference")
    tables: ClassVar[tuple[str, ...]] = ("users", "items")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.role not in ("user", "item"):
            raise InputError(
                f"feature `{self.name}`: vectors are of users or items, got the role `{self.role}`"
            )
        if not 0 <= self.difference <= 10:
            raise InputError(
                f"feature `{self.name}`: `difference` must lie between 0 and 10, got {self.difference}"
            )

    @property
    def is_sparse(self) -> bool:
        """False: its numbers are read, and no table."""
        return False

    @property
    def is_embedded(self) -> bool:
        """True: models read its projection."""
        return True

    def by_ids(self, fitted: Mapping[str, Feature]) -> Feature:
        """With as many rows as the id has, in which its differences stand."""
        of = fitted[USER_ID if self.role == "user" else ITEM_ID]
        return dataclasses.replace(self, num_rows=of.num_rows if self.difference > 0 else 0)


@dataclasses.dataclass(frozen=True)
class SentenceFeature(VectorFeature):
    """The vector that a sentence model makes of a text: kind `text` with `encoder: sentence`.

    In requests the vector goes by the feature's name; `recsys.serving` makes it of the text where it is not
    given.

    Args:
        model: `minilm` or the folder of a model; see `recsys.nn.sentence_encoder`.
    """

    model: str = "minilm"

    kind = "sentence"
    declared = ("column", "model", "difference")
    tables = ()  # declared as a text


@dataclasses.dataclass(frozen=True)
class HistoryFeature(Feature):
    """The user's own history of items, as rows of the items' table.

    Args:
        max_length: most items kept, the latest ones.
        value_type: that of the items. Fitted.
    """

    table: str = ITEM_ID
    max_length: int = _detail(50)
    value_type: Literal["integer", "string"] = _fitted("string")

    kind = "sequence"
    declared = ("max_length",)
    tables = ()
    is_multivalued = True
    has_column = False
    follows_ids = True

    def by_ids(self, fitted: Mapping[str, Feature]) -> Feature:
        """With the rows of the items' table."""
        items = fitted[ITEM_ID]
        assert isinstance(items, IdFeature), items
        return dataclasses.replace(
            self, table=items.table, num_rows=items.num_rows, value_type=items.value_type
        )


@dataclasses.dataclass(frozen=True)
class TimeFeature(Feature):
    """A part of the timestamp (UTC).

    Args:
        part: hour 0-23 and weekday 0-6 (Monday 0) become rows 1-24 and 1-7.
    """

    column: str = _detail(TIMESTAMP)
    part: TimePart = "hour"

    kind = "time"
    declared = ("part",)
    tables = ("interactions",)
    has_column = False
    is_computed = True

    @property
    def source(self) -> str:
        """The column of instants in microseconds."""
        return TIMESTAMP


@dataclasses.dataclass(frozen=True)
class NumberFeature(Feature):
    """A number that is transformed, given by a column or computed.

    Args:
        transform: `log` is standardised log(1 + max(x, 0)).
        num_buckets: quantile buckets where it is bucketised.
        mean: of the transformed train values. Fitted.
        std: likewise. Fitted.
        boundaries: ascending inner edges of the buckets; value x falls into row 1 + #{b : b <= x}. Fitted.
    """

    transform: Transform = "standardise"
    num_buckets: int = 0
    mean: float = _fitted(0.0)
    std: float = _fitted(1.0)
    boundaries: tuple[float, ...] = _fitted(())

    is_computed = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "boundaries", tuple(self.boundaries))

    @property
    def is_sparse(self) -> bool:
        """True when the number is put into buckets."""
        return self.transform == "bucketise"


@dataclasses.dataclass(frozen=True)
class NumericFeature(NumberFeature):
    """A number of a raw column."""

    kind = "numeric"
    declared = ("column", "transform", "num_buckets")

    @property
    def summary(self) -> str:
        """The kind and its transform."""
        return f"numeric ({self.transform})"

    @classmethod
    def implied(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The number of buckets, where there are any."""
        return {"num_buckets": DEFAULT_BUCKETS} if settings.get("transform") == "bucketise" else {}


@dataclasses.dataclass(frozen=True)
class StatisticFeature(NumberFeature):
    """A number computed from what came strictly before each event: by preparing, and by a bundle.

    It is of all events that share a value of every feature in `of` with this one.

    Args:
        of: features whose values make the key. Of a key with several values (genres) counts and sums are
            means over the values; one that is unknown or missing is no value.
        measure: `count` of events; `positive_share` and `label_mean`, smoothed; `recency`, seconds since the
            latest of them, missing where there is none.
        window_days: only events at most so many days old; 0 for any age.
        window_hours: the same in hours; one of the two is 0.
        window_events: only the latest so many events of the key; 0 for all.
        strength: a smoothed mean is (sum + strength x prior) / (count + strength), the prior where both are
            0; 10 works.
        prior: mean over the train split. Fitted.
    """

    of: tuple[str, ...] = ()
    measure: Measure = "count"
    window_days: int = 0
    window_hours: int = 0
    window_events: int = 0
    strength: float = 0.0
    prior: float = _fitted(0.0)

    kind = "statistic"
    declared = ()
    tables = ()
    has_column = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "of", tuple(self.of))

    @property
    def window_microseconds(self) -> int:
        """Age up to which events count; 0 for any."""
        return (24 * self.window_days + self.window_hours) * _HOUR_MICROSECONDS


def difference_name(vector: str) -> str:
    """Names the table of the differences that are learnt to a vector."""
    return f"{vector}_difference"


def row_weights(feature: Feature) -> tuple[float, ...]:
    """The weight of each row of a feature's table where it is pooled by idf; empty where it is not."""
    return feature.idf if isinstance(feature, MultiIdFeature | TextFeature) else ()


KINDS: dict[str, type[Feature]] = {
    kind.kind: kind
    for kind in (
        IdFeature,
        MultiIdFeature,
        NumericFeature,
        TextFeature,
        VectorFeature,
        HistoryFeature,
        TimeFeature,
        SentenceFeature,
        StatisticFeature,
    )
}


def feature_of(plain: Mapping[str, Any]) -> Feature:
    """The feature that `to_dict` wrote, or that settings with their `kind` describe.

    Raises:
        ValueError: there is no such kind.
    """
    kind = plain.get("kind")
    if kind not in KINDS:
        raise InputError(
            f"feature `{plain.get('name')}`: `kind` must be one of {', '.join(KINDS)}, got `{kind}`"
            f"{nearest(str(kind), list(KINDS))}"
        )
    made = KINDS[kind]
    # Datasets prepared before kinds were classes hold the fields of all kinds for each feature.
    own = {field.name for field in dataclasses.fields(made)}
    return made(**{key: value for key, value in plain.items() if key in own})
