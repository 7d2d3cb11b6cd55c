"""FeatureSchema: what every feature is, where its raw value comes from and which embedding table it reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from recsys.schema.errors import InputError
from recsys.schema.labels import AuxiliaryLabel

Kind = Literal["id", "multi_id", "numeric", "sequence", "time", "text", "statistic"]
Role = Literal["user", "item", "context", "pair"]
Encoder = Literal["vocabulary", "hash"]
Transform = Literal["standardise", "log", "bucketise"]
TimePart = Literal["hour", "weekday"]
Measure = Literal["count", "positive_share", "label_mean", "recency"]

USER_ID = "user_id"
ITEM_ID = "item_id"
HISTORY = "history"
OUT_OF_VOCABULARY = 0


@dataclasses.dataclass(frozen=True)
class Feature:
    """One input of a model: its declaration, and what preparing has fitted on the train split.

    A *sparse* feature turns a raw value into rows of an embedding table (row 0 is out-of-vocabulary);
    a *dense* one into a float. Numbers (`numeric`, `statistic`) are dense unless bucketised, every other kind
    is sparse.

    A `statistic` is a number that preparing computes from what came strictly before each event, and a bundle
    from what it has observed: of all events that share a value of every feature in `of` with this one.

    Args:
        name: how models and configs call it; unique in a schema.
        kind: `id` one value; `multi_id` a list or a delimited string; `numeric` a number; `sequence` the
            user's own history of items; `time` a part of the timestamp (UTC); `text` hashed word n-grams;
            `statistic` see above.
        role: whose property it is. `user` and `context` are known at request time, `item` belongs to a
            candidate, `pair` to a candidate at a request.
        column: the raw column it is read from.
        table: embedding table; features naming the same table share its rows. Empty for dense features.
        num_rows: rows of that table, row 0 included. Fitted. 0 for dense features.
        encoder: for `id` and `multi_id`: rows from a vocabulary fitted on train, or from a hash.
        min_count: values seen fewer times in train stay out of the vocabulary.
        num_buckets: rows 1..num_buckets of a hashed feature; number of quantile buckets of a bucketised one.
        prefix: keep only the first so many characters of an id (zip codes); 0 keeps all.
        delimiter: separates the values of a `multi_id` held in one string.
        max_length: most values kept: the first of a `multi_id` or `text`, the latest of a `sequence`.
        transform: of a number; `log` is standardised log(1 + max(x, 0)).
        mean, std: of the transformed train values. Fitted.
        boundaries: ascending inner edges of the buckets; value x falls into row 1 + #{b : b <= x}. Fitted.
        part: of a `time`; hour 0-23 and weekday 0-6 (Monday 0) become rows 1-24 and 1-7.
        ngrams: longest word n-gram of a `text`.
        value_type: `integer` or `string`: how the raw ids of a vocabulary are typed. Fitted.
        of: features whose values make the key of a `statistic`. Of a key with several values (genres) counts
            and sums are means over the values; one that is unknown or missing is no value.
        measure: `count` of events; `positive_share` and `label_mean`, smoothed; `recency`, seconds since the
            latest of them, missing where there is none.
        window_days: only events at most so many days old; 0 for any age.
        window_events: only the latest so many events of the key; 0 for all.
        strength: a smoothed mean is (sum + strength x prior) / (count + strength), the prior where both are
            0; 10 works.
        prior: mean over the train split. Fitted.
    """

    name: str
    kind: Kind
    role: Role
    column: str = ""
    table: str = ""
    num_rows: int = 0
    encoder: Encoder = "vocabulary"
    min_count: int = 1
    num_buckets: int = 0
    prefix: int = 0
    delimiter: str = "|"
    max_length: int = 50
    transform: Transform = "standardise"
    mean: float = 0.0
    std: float = 1.0
    boundaries: tuple[float, ...] = ()
    part: TimePart = "hour"
    ngrams: int = 1
    value_type: Literal["integer", "string"] = "string"
    of: tuple[str, ...] = ()
    measure: Measure = "count"
    window_days: int = 0
    window_events: int = 0
    strength: float = 0.0
    prior: float = 0.0

    def __post_init__(self) -> None:
        for field, allowed in _CHOICES.items():
            if getattr(self, field) not in allowed:
                raise InputError(
                    f"feature `{self.name}`: `{field}` must be one of {', '.join(allowed)}, "
                    f"got `{getattr(self, field)}`"
                )
        object.__setattr__(self, "column", self.column or self.name)
        object.__setattr__(self, "boundaries", tuple(self.boundaries))
        object.__setattr__(self, "of", tuple(self.of))
        if not self.is_sparse:
            object.__setattr__(self, "table", "")
        elif not self.table:
            object.__setattr__(self, "table", ITEM_ID if self.kind == "sequence" else self.name)
        if self.is_hashed and self.num_buckets < 1:
            raise InputError(f"feature `{self.name}`: a hashed feature needs `num_buckets` of at least 1")

    @property
    def is_sparse(self) -> bool:
        """True when the feature reads an embedding table, false when it is a float."""
        return not self.is_number or self.transform == "bucketise"

    @property
    def is_number(self) -> bool:
        """True when the raw value is a number that is transformed, given by a column or computed."""
        return self.kind in ("numeric", "statistic")

    @property
    def is_hashed(self) -> bool:
        """True when rows come from a hash of the value and no vocabulary is kept."""
        return self.kind == "text" or (self.kind in ("id", "multi_id") and self.encoder == "hash")

    @property
    def has_vocabulary(self) -> bool:
        """True when rows come from a vocabulary fitted on the train split."""
        return self.kind in ("id", "multi_id") and self.encoder == "vocabulary"

    @property
    def is_multivalued(self) -> bool:
        """True when one example holds any number of rows."""
        return self.kind in ("multi_id", "sequence", "text")


# The fields that decide what a row or a number stands for, but for what is fitted.
_MEANING = (
    *(
        "kind",
        "role",
        "table",
        "encoder",
        "num_buckets",
        "prefix",
        "delimiter",
        "transform",
        "part",
        "ngrams",
        "of",
        "measure",
        "window_days",
        "window_events",
        "strength",
    ),
)

_CHOICES: dict[str, tuple[str, ...]] = {
    "kind": ("id", "multi_id", "numeric", "sequence", "time", "text", "statistic"),
    "role": ("user", "item", "context", "pair"),
    "encoder": ("vocabulary", "hash"),
    "transform": ("standardise", "log", "bucketise"),
    "part": ("hour", "weekday"),
    "measure": ("count", "positive_share", "label_mean", "recency"),
}

QUERY_ROLES: tuple[Role, ...] = ("user", "context")
CANDIDATE_ROLES: tuple[Role, ...] = ("item",)
# Held with every event; the others with users and items.
EVENT_ROLES: tuple[Role, ...] = ("context", "pair")
ALL_ROLES: tuple[Role, ...] = ("user", "context", "pair", "item")


@dataclasses.dataclass(frozen=True)
class FeatureSchema:
    """The features of a prepared dataset; their order within a role fixes the columns of every `Batch`.

    Args:
        features: what a model reads.
        labels: what a model of several tasks may learn beside the label.
    """

    features: tuple[Feature, ...]
    labels: tuple[AuxiliaryLabel, ...] = ()

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(
                f"feature names must be unique, got {', '.join(f'`{n}`' for n in twice)} more than once"
            )
        rows: dict[str, int] = {}
        for feature in self.features:
            if rows.setdefault(feature.table, feature.num_rows) != feature.num_rows and feature.table:
                raise InputError(f"features sharing table `{feature.table}` must agree on its number of rows")

    def __contains__(self, name: object) -> bool:
        return any(feature.name == name for feature in self.features)

    def __getitem__(self, name: str) -> Feature:
        for feature in self.features:
            if feature.name == name:
                return feature
        known = ", ".join(feature.name for feature in self.features)
        raise InputError(f"no feature `{name}` in the prepared dataset; it has: {known}")

    def sparse(self, roles: Iterable[Role] = ALL_ROLES) -> tuple[Feature, ...]:
        """Features of these roles that read an embedding table: of users, contexts, pairs, then items."""
        return tuple(f for f in self._of(roles) if f.is_sparse)

    def dense(self, roles: Iterable[Role] = ALL_ROLES) -> tuple[Feature, ...]:
        """Features of these roles that are floats: of users, contexts, pairs, then items."""
        return tuple(f for f in self._of(roles) if not f.is_sparse)

    def _of(self, roles: Iterable[Role]) -> list[Feature]:
        wanted = set(roles)
        return [f for role in ALL_ROLES if role in wanted for f in self.features if f.role == role]

    def differences(self, other: FeatureSchema) -> list[str]:
        """What a model that was made for `other` would misread here, in words; fitted values do not count."""
        own, others = ({f.name: f for f in schema.features} for schema in (self, other))
        found = [f"`{name}` is missing" for name in others if name not in own]
        found += [f"`{name}` is new" for name in own if name not in others]
        if not found and list(own) != list(others):
            found.append(f"the order is {', '.join(own)}, it was {', '.join(others)}")
        now, before = (
            [f"{label.name} ({label.kind}, {label.transform})" for label in schema.labels]
            for schema in (self, other)
        )
        if now != before:
            found.append(f"the auxiliary labels are {now}, they were {before}")
        for name in (name for name in own if name in others):
            changes = {field: (getattr(own[name], field), getattr(others[name], field)) for field in _MEANING}
            found += [
                f"`{name}` has {field} {now!r}, it had {before!r}"
                for field, (now, before) in changes.items()
                if now != before
            ]
        return found

    @property
    def num_rows(self) -> dict[str, int]:
        """Rows of every embedding table, row 0 included."""
        return {f.table: f.num_rows for f in self.features if f.is_sparse}

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for `schema.json`."""
        found = {"features": [dataclasses.asdict(feature) for feature in self.features]}
        if self.labels:
            found["labels"] = [dataclasses.asdict(label) for label in self.labels]
        return found

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> FeatureSchema:
        """The schema that `to_dict` wrote."""
        return FeatureSchema(
            tuple(Feature(**feature) for feature in plain["features"]),
            tuple(AuxiliaryLabel(**label) for label in plain.get("labels", ())),
        )
