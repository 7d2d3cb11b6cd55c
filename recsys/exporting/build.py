"""ProgramParts: a trained model and its prepared dataset -> what the module that is saved is made of."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from typing import Any, cast

import pyarrow.parquet as pq
import torch
from torch import nn

from recsys.data.dataset import PreparedDataset
from recsys.exporting.fields import PER_SECOND
from recsys.exporting.observed import Log, build_statistics
from recsys.exporting.options import TableType
from recsys.exporting.program.columns import (
    AlwaysStored,
    DenseColumn,
    GivenOrStored,
    StoredBags,
    VectorColumn,
)
from recsys.exporting.program.encoders import Numeric, Vector, bag_encoder
from recsys.exporting.program.ids import IntegerIds, IntegerIndex, StringIds, StringIndex
from recsys.exporting.program.inputs import CountLookup, Inputs, Lookup, VectorLookup, stored
from recsys.exporting.program.interfaces import TrainedHead
from recsys.exporting.program.known import Histories, Known
from recsys.exporting.program.queries import ContentQuery, PooledQuery, SequenceQuery
from recsys.exporting.program.statistics import Statistics
from recsys.exporting.stage import Stage
from recsys.models.encoding import encode_catalogue
from recsys.models.hybrid_towers import HISTORY_COUNT, HISTORY_ITEMS
from recsys.models.protocols import (
    RetrievalModel,
    events_read,
    popularity_windows,
)
from recsys.nn.cold_start import EventCounts
from recsys.nn.embeddings import FeatureTables
from recsys.nn.vectors import Projection
from recsys.retrieval.scorer import CatalogueScorer
from recsys.schema.batch import Batch
from recsys.schema.feature_kinds import (
    Feature,
    HistoryFeature,
    NumberFeature,
    Role,
    VectorFeature,
    difference_name,
)
from recsys.schema.feature_kinds import row_weights as row_weights_of
from recsys.schema.features import HISTORY, ITEM_ID, USER_ID

AnyLookup = Lookup | VectorLookup | CountLookup


def statistics_before(stage: Stage, log: Log, instant: int) -> Statistics:
    """The statistics of a ranking program as they stood strictly before an instant."""
    return ProgramParts(stage).statistics(log, until=instant)


@torch.no_grad()
def catalogue_vectors(model: RetrievalModel, dataset: PreparedDataset) -> torch.Tensor:
    """[I, D] vectors of the whole catalogue by the trained model, row 0 included, at the end of the data."""
    popularity = dataset.popularity("test", popularity_windows(model))
    return CatalogueScorer(encode_catalogue(model, dataset.items), popularity).latest()


class ProgramParts:
    """Makes the parts of one model's program.

    Args:
        stage: the trained model, which is not changed, and its dataset.
        tables: how embedding tables are stored.
    """

    def __init__(self, stage: Stage, tables: TableType = "float32") -> None:
        self.tables = [child for child in stage.model.children() if isinstance(child, FeatureTables)]
        self.counts = [child for child in stage.model.children() if isinstance(child, EventCounts)]
        self.stage = stage
        self.dataset = stage.dataset
        self.fields = stage.fields()
        self.table_type = tables
        # Every table once, whoever reads it.
        self.weights: dict[tuple[int, str], tuple[torch.Tensor, torch.Tensor, int]] = {}
        self.per_second = PER_SECOND[self.dataset.manifest["timestamp"]["unit"] or "s"]

    def known(self) -> Known:
        """Users and items by raw id, and histories of them."""
        dataset, types = self.dataset, self.dataset.manifest["id_types"]
        of_users, of_items = (
            IntegerIndex if types[name] == "integer" else StringIndex for name in (USER_ID, ITEM_ID)
        )
        assert dataset.schema[HISTORY].table == dataset.schema[ITEM_ID].table
        return Known(
            of_users(dataset.user_ids[1:].tolist(), field=USER_ID),
            of_items(dataset.item_ids[1:].tolist(), field=ITEM_ID),
            user_fields=self.fields.user_id,
            item_fields=self.fields.item_id,
            histories=Histories(dataset.items.ids[ITEM_ID].values(), length=self.stage.history_length),
        )

    def item_ids(self) -> nn.Module:
        """Raw ids of catalogue rows."""
        is_integer = self.dataset.manifest["id_types"][ITEM_ID] == "integer"
        return (IntegerIds if is_integer else StringIds)(self.dataset.item_ids.tolist())

    def query(self, model: RetrievalModel) -> nn.Module:
        """The query tower, by how it reads histories."""
        reads, length = events_read(model), self.stage.history_length
        if reads is None:
            return PooledQuery(trained(model.query_tower))
        if reads == "content":
            names = {"items_name": HISTORY_ITEMS, "count_name": HISTORY_COUNT}
            return ContentQuery(trained(model.query_tower), length=length, **names)
        return SequenceQuery(
            # NOTE: scripting a module for an interface wants a forward of all its parts, which lists lack.
            scripted(frozen(model.query_tower)),
            length=length,
            width=cast(Any, model.query_tower).width,
            time_fields=self.fields.timestamp,
            per_second=self.per_second,
        )

    def inputs(self, roles: Iterable[Role]) -> Inputs:
        """Inputs of a tower or head that reads features of these roles."""
        present = {feature.name: feature for feature in self.dataset.schema.embedded(roles)}
        lookups = [lookup for tables in self.tables for lookup in self._lookups(tables, present)]
        lookups += [
            (counts.name, CountLookup(counts.feature, counts.counts.detach().cpu().clone()))
            for counts in self.counts
            if counts.feature in present
        ]
        read = {part for _, lookup in lookups for part in lookup.parts}
        columns = [f for name, f in present.items() if name in read and not isinstance(f, HistoryFeature)]
        return Inputs(
            sparse=[(f.name, f.role, self._sparse(f)) for f in columns],
            dense=[(f.role, self._dense(f)) for f in self.dataset.schema.dense(roles)],
            lookups=lookups,
        )

    def statistics(self, log: Log | None, *, until: int | None = None) -> Statistics:
        """Statistics as of an instant; see `build_statistics`."""
        of = {name for feature in self.dataset.schema.statistics for name in feature.of} - {USER_ID, ITEM_ID}
        keys = [self.dataset.schema[name] for name in sorted(of)]
        return build_statistics(
            log,
            self.dataset,
            fields=self.fields,
            attributes=Inputs(sparse=[(f.name, f.role, self._sparse(f)) for f in keys], dense=[], lookups=[]),
            per_second=self.per_second,
            until=until,
        )

    def _sparse(self, feature: Feature) -> nn.Module:
        if isinstance(feature, VectorFeature):
            store = self._store(feature.role)
            assert store is not None
            assert store.vectors is not None
            return VectorColumn(
                fields=self.fields.of(feature),
                encoder=Vector(feature),
                stored=store.vectors.columns[feature.name],
            )
        stored = _stored_bags(self._store(feature.role), feature)
        if feature.name in (USER_ID, ITEM_ID):
            return AlwaysStored(stored)
        encoder = bag_encoder(feature, vocabulary=self._vocabulary(feature), per_second=self.per_second)
        return GivenOrStored(fields=self.fields.of(feature), encoder=encoder, stored=stored)

    def _dense(self, feature: NumberFeature) -> nn.Module:
        store = self._store(feature.role)
        # Nothing is stored of a context; what it lacks is the train mean.
        stored_values = torch.zeros(1)
        if store is not None:
            stored_values = store.dense[:, self.dataset.schema.dense([feature.role]).index(feature)]
        return DenseColumn(fields=self.fields.of(feature), encoder=Numeric(feature), stored=stored_values)

    def _store(self, role: Role) -> Batch | None:
        return {"user": self.dataset.users, "item": self.dataset.items}.get(role)

    def _vocabulary(self, feature: Feature) -> list[int] | list[str]:
        if not feature.has_vocabulary:
            return []
        table = pq.read_table(
            self.dataset.path / "vocabularies" / f"{feature.table}.parquet", columns=["value"]
        )
        values: list[int] | list[str] = table["value"].to_pylist()
        return values

    def _lookups(self, tables: FeatureTables, present: dict[str, Feature]) -> list[tuple[str, AnyLookup]]:
        """Makes the look-ups that give what `FeatureTables.forward` does, of the features `present`."""
        # Fused and plain collections name their weights alike; only the plain one has them as modules.
        weights = tables.state_dict()
        crosses = {cross.name: cross.parts for cross in tables.crosses}
        lookups: list[tuple[str, AnyLookup]] = []
        for table, (_, names) in tables.tables().items():
            key = id(tables), table
            if key not in self.weights:
                weight = weights[tables.weight_name(table)].detach().float().cpu()
                self.weights[key] = (*stored(weight, self.table_type), weight.size(1))
            for name in names:
                parts = crosses.get(name, (name,))
                if all(part in present for part in parts):
                    one_by_one = name in tables.one_by_one
                    is_weighted = name in present and not one_by_one
                    row_weights = row_weights_of(present[name]) if is_weighted else ()
                    lookup = Lookup(parts, *self.weights[key], one_by_one=one_by_one, row_weights=row_weights)
                    lookups.append((tables.prefix + name, lookup))
        vectors = [vector for vector in tables.vectors if vector.name in present]
        return lookups + [(tables.prefix + v.name, self._vector_lookup(tables, v)) for v in vectors]

    def _vector_lookup(self, tables: FeatureTables, vector: VectorFeature) -> VectorLookup:
        projection = cast(Projection, tables.projections[vector.name]).weight.detach().float().cpu()
        of, weight, scales = "", torch.zeros(0, projection.size(0)), torch.zeros(0, 2)
        if vector.difference > 0:
            of = ITEM_ID if vector.role == "item" else USER_ID
            weight, scales, _ = self.weights[id(tables), difference_name(vector.name)]
        return VectorLookup(
            vector.name, projection, of=of, limit=vector.difference, weight=weight, scales=scales
        )


def _stored_bags(store: Batch | None, feature: Feature) -> StoredBags:
    if store is not None:
        column = store.ids[feature.name]
        return StoredBags(column.values(), column.lengths())
    # Nothing is stored of a context; what it lacks is unknown.
    return StoredBags(
        torch.zeros(0 if feature.is_multivalued else 1), torch.tensor([int(not feature.is_multivalued)])
    )


def trained(module: nn.Module) -> TrainedHead:
    """A copy of a tower or head, scripted.

    NOTE: scripted by itself, because behind an interface torch 2.13 compiles `forward` of every module below,
    and a ModuleList has none (`torch.jit._recursive`, `infer_interface_methods_to_compile`).
    """
    return TrainedHead(scripted(frozen(module)))


def scripted(module: nn.Module) -> nn.Module:
    """`module` as TorchScript."""
    with warnings.catch_warnings():
        # TorchScript is in maintenance upstream; its successors can't take strings.
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        return cast(nn.Module, torch.jit.script(module))


def frozen(module: nn.Module) -> nn.Module:
    """A copy of a tower or head in float32 that learns no more."""
    return copy.deepcopy(module).cpu().float().eval().requires_grad_(False)
