"""FeatureTables: the embedding tables of named features, one TorchRec collection.

The only module that holds tables. Everything after it takes `Dict[str, Tensor]` of embedded features and is
scriptable, so that export replaces this module alone.

Legend: B examples, D embedding dimension, L longest bag, V values of bags.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import nn
from torchrec import (
    EmbeddingBagCollection,
    EmbeddingBagConfig,
    JaggedTensor,
    KeyedJaggedTensor,
    PoolingType,
)

from recsys.nn.cross import Cross, cross_ids
from recsys.nn.pooling import normalised_weights
from recsys.nn.vectors import Projection, with_difference
from recsys.schema.batch import VectorColumns
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import (
    Feature,
    HistoryFeature,
    IdFeature,
    VectorFeature,
    difference_name,
    row_weights,
)
from recsys.schema.features import ITEM_ID, OUT_OF_VOCABULARY, USER_ID

_DEFERRED = contextvars.ContextVar("deferred", default=False)


@contextlib.contextmanager
def deferred_tables(when: bool = True) -> Iterator[None]:
    """Inside, `FeatureTables` take no memory for their weights yet; training gives it to them, once.

    Args:
        when: false changes nothing.
    """
    token = _DEFERRED.set(when)
    try:
        yield
    finally:
        _DEFERRED.reset(token)


class FeatureTables(nn.Module):
    """Maps bags of rows to their mean embedding, feature by feature; an empty bag gives zeros.

    Features that name the same table share it (the history reads the item table). A feature that is pooled by
    idf gives the sum of w_v e_v / |w|, of length 1 where its rows' embeddings are orthonormal, as the
    vectors of words that tf-idf compares. An embedding made elsewhere gives its projection.

    Args:
        features: sparse features, each with its table and number of rows, and vectors.
        embedding_dim: D, a multiple of 4 (FBGEMM's fused tables want it).
        crosses: further features, hashed from those above.
        prefix: put before the names of the embedded features and of the tables.
        init_std: standard deviation of the normal initialisation.
        id_dropout: probability in training with which a row is replaced by row 0, for features with a
            vocabulary, so that the out-of-vocabulary row learns what an unknown value is worth; 0.02 works.
        word_dropout: probability in training with which a value of a feature with several is left out of its
            bag; what is left counts for it. 0.3 to 0.5 works for words and tags that shall place new items.
        one_by_one: names of features whose rows are embedded each for itself and not as a bag.

    Raises:
        ValueError: a feature is dense or `embedding_dim` is not a multiple of 4.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        *,
        embedding_dim: int,
        crosses: Sequence[Cross] = (),
        prefix: str = "",
        init_std: float = 0.01,
        id_dropout: float = 0.0,
        word_dropout: float = 0.0,
        one_by_one: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if embedding_dim < 4 or embedding_dim % 4:
            raise InputError(f"`model.embedding_dim` must be a positive multiple of 4, got {embedding_dim}")
        dense = [feature.name for feature in features if not feature.is_embedded]
        if dense:
            raise InputError(f"features {dense} are dense and have no embedding table")
        self.features = tuple(feature for feature in features if feature.is_sparse)
        self.vectors = tuple(feature for feature in features if isinstance(feature, VectorFeature))
        self.crosses = tuple(crosses)
        self.embedding_dim = embedding_dim
        self.prefix = prefix
        self.id_dropout = id_dropout
        self.word_dropout = word_dropout
        self.init_std = init_std
        self.one_by_one = tuple(one_by_one)
        self._names = [name for _, names in self.tables().values() for name in names]
        self._num_rows = {name: rows for rows, names in self.tables().values() for name in names}
        self._dropped = {feature.name for feature in features if isinstance(feature, IdFeature)}
        self._dropped |= {difference_name(feature.name) for feature in self._with_difference}
        self._weighted = {f.name: f"idf_{f.name}" for f in features if row_weights(f)}
        self._words = {f.name for f in features if f.is_multivalued and not isinstance(f, HistoryFeature)}
        self._is_weighted = bool(self._weighted) or (word_dropout > 0 and bool(self._words))
        for feature in features:
            if feature.name in self._weighted:
                # Not in the state: the schema holds them.
                weights = torch.tensor(row_weights(feature))
                self.register_buffer(self._weighted[feature.name], weights, persistent=False)
        self.projections = nn.ModuleDict(
            {f.name: Projection(f.size, embedding_dim=embedding_dim, init_std=init_std) for f in self.vectors}
        )
        self.collection = EmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(
                    name=prefix + table,
                    num_embeddings=num_rows,
                    embedding_dim=embedding_dim,
                    feature_names=names,
                    pooling=PoolingType.SUM if self._is_weighted else PoolingType.MEAN,
                    init_fn=partial(nn.init.normal_, std=self.std_of(table)),
                )
                for table, (num_rows, names) in self.tables().items()
            ],
            is_weighted=self._is_weighted,
            device=torch.device("meta" if _DEFERRED.get() else "cpu"),
        )

    def tables(self) -> dict[str, tuple[int, list[str]]]:
        """Number of rows and names of the features of every table, by the table's name without the prefix."""
        tables: dict[str, tuple[int, list[str]]] = {}
        for feature in self.features:
            tables.setdefault(feature.table, (feature.num_rows, []))[1].append(feature.name)
        for vector in self._with_difference:
            name = difference_name(vector.name)
            tables[name] = (vector.num_rows, [name])
        # Last, as they are made of what is there.
        for cross in self.crosses:
            tables[cross.name] = (cross.num_rows, [cross.name])
        return tables

    @property
    def _with_difference(self) -> list[VectorFeature]:
        return [feature for feature in self.vectors if feature.difference > 0]

    def std_of(self, table: str) -> float:
        """Standard deviation of the initial weights of a table, named without the prefix."""
        is_difference = table in [difference_name(feature.name) for feature in self._with_difference]
        return 0.0 if is_difference else self.init_std

    def weight_name(self, table: str) -> str:
        """Returns the key in this module's state of the weights of a table, named without the prefix."""
        return f"collection.embedding_bags.{self.prefix}{table}.weight"

    @property
    def is_deferred(self) -> bool:
        """Whether the weights have no memory yet."""
        return any(parameter.is_meta for parameter in self.collection.parameters())

    def weight(self, table: str) -> torch.Tensor:
        """The weights [rows, D] of a table, named without the prefix, to be set where they are."""
        weight: torch.Tensor = self.collection.embedding_bags[self.prefix + table].weight
        return weight.detach()

    def num_rows_of(self, name: str) -> int:
        """Counts the rows of a feature's table."""
        return self._num_rows[name]

    def idf_of(self, name: str) -> torch.Tensor | None:
        """[rows] weights of a feature that is pooled by idf; None of others."""
        if name not in self._weighted:
            return None
        weights: torch.Tensor = getattr(self, self._weighted[name])
        return weights

    def forward(
        self, ids: KeyedJaggedTensor, vectors: VectorColumns | None = None
    ) -> dict[str, torch.Tensor]:
        """Embeds the features that `ids` and `vectors` hold.

        Args:
            ids: bags of rows; features this module does not know are passed over.
            vectors: embeddings made elsewhere; likewise.

        Returns:
            [B, D] for every feature present in `ids` and every cross whose parts are; [B, L, D] for those
            embedded one by one, L the longest bag, zeros behind the end of a shorter one.

        Raises:
            ValueError: a row lies beyond its table.
        """
        ids = self._select(self._with_differences(ids))
        embedded = self._of_tables(ids)
        if vectors is not None:
            self._add_vectors(embedded, vectors, ids)
        return embedded

    def _add_vectors(
        self, embedded: dict[str, torch.Tensor], vectors: VectorColumns, ids: KeyedJaggedTensor
    ) -> None:
        """Puts the projections among the embedded features, in the place of their differences."""
        for feature in self.vectors:
            if feature.name not in vectors.columns:
                continue
            found_BD = self.projections[feature.name](vectors.columns[feature.name])
            if feature.difference > 0:
                name = difference_name(feature.name)
                # What is unknown differs by nothing, whatever row 0 has come to hold.
                difference_BD = embedded.pop(self.prefix + name) * (ids[name].values() > 0)[:, None]
                found_BD = with_difference(found_BD, difference_BD, feature.difference)
            embedded[self.prefix + feature.name] = found_BD

    def _with_differences(self, ids: KeyedJaggedTensor) -> KeyedJaggedTensor:
        """The bags with a key for each table of differences, whose rows are those of the id."""
        bags: dict[str, JaggedTensor] = {}
        for feature in self._with_difference:
            of = ITEM_ID if feature.role == "item" else USER_ID
            if of in ids.keys():  # noqa: SIM118
                bags[difference_name(feature.name)] = ids[of]
        if not bags:
            return ids
        return KeyedJaggedTensor(
            keys=[*ids.keys(), *bags],
            values=torch.cat([ids.values(), *(bag.values() for bag in bags.values())]),
            lengths=torch.cat([ids.lengths(), *(bag.lengths() for bag in bags.values())]),
        )

    def _of_tables(self, ids: KeyedJaggedTensor) -> dict[str, torch.Tensor]:
        """Embeds what tables hold."""
        apart = [name for name in self.one_by_one if name in ids.keys()]  # noqa: SIM118
        if not apart:
            return self._pooled(ids)
        jagged = ids.to_dict()
        pooled = self._pooled(ids.permute([i for i, name in enumerate(ids.keys()) if name not in apart]))
        return pooled | {self.prefix + name: self._each(name, jagged[name]) for name in apart}

    def _each(self, name: str, bags: JaggedTensor) -> torch.Tensor:
        """[B, L, D] embeddings of the rows of bags, each a bag of its own."""
        rows, lengths_B = bags.values(), bags.lengths()
        longest = int(lengths_B.max()) if len(lengths_B) else 0
        padded_BLD = torch.zeros(len(lengths_B), longest, self.embedding_dim, device=rows.device)
        if not len(rows):
            return padded_BLD
        alone = KeyedJaggedTensor(keys=[name], values=rows, lengths=torch.ones_like(rows, dtype=torch.int32))
        embedded_VD = self._pooled(alone)[self.prefix + name]
        mask_BL = torch.arange(longest, device=rows.device) < lengths_B[:, None]
        padded_BLD[mask_BL] = embedded_VD.float()
        return padded_BLD

    def _pooled(self, ids: KeyedJaggedTensor) -> dict[str, torch.Tensor]:
        """[B, D] of every feature and cross."""
        if not ids.keys():
            return {}
        self._check_rows(ids)
        if self.training and self.id_dropout > 0:
            ids = self._drop_ids(ids)
        if self.crosses:
            ids = self._with_crosses(ids)
        present = set(ids.keys())
        if self._is_weighted:
            ids = self._with_weights(ids)
        embedded = self.collection(_complete(ids, self._names))
        # NOTE: one split, not a slice a feature: the gradient of each slice would be a zeroed [B, F x D].
        parts = embedded.values().split(self.embedding_dim, dim=1)
        # Tables that lie on several processes come back in an order of their own.
        looked_up = dict(zip(embedded.keys(), parts, strict=True))
        return {self.prefix + name: looked_up[name] for name in self._names if name in present}

    def _select(self, ids: KeyedJaggedTensor) -> KeyedJaggedTensor:
        """The known features of `ids` in the order of the tables; `ids` itself when it is that already."""
        there = ids.keys()
        names = [name for name in self._names if name in there]
        if names == there:
            return ids
        return ids.permute([there.index(name) for name in names])

    def _check_rows(self, ids: KeyedJaggedTensor) -> None:
        """NOTE: FBGEMM maps a row beyond its table to row 0 in silence, and does so slowly."""
        rows = ids.values()
        limits = torch.tensor([self._num_rows[name] for name in ids.keys()], device=rows.device)  # noqa: SIM118
        counts = torch.tensor(ids.length_per_key(), device=rows.device)
        limit_V = torch.repeat_interleave(limits, counts, output_size=len(rows))
        wrong_V = (rows < 0) | (rows >= limit_V)
        if wrong_V.any():
            place = int(wrong_V.nonzero()[0])
            name = ids.keys()[int((counts.cumsum(0) <= place).sum())]
            raise InputError(
                f"expected rows of feature `{name}` from 0 to {self._num_rows[name] - 1}, its table's last, "
                f"got {int(rows[place])}: the batch was not made with this model's schema;"
                " prepare the data anew"
            )

    def _drop_ids(self, ids: KeyedJaggedTensor) -> KeyedJaggedTensor:
        counts = ids.length_per_key()
        values = list(ids.values().split(counts))
        for position, name in enumerate(ids.keys()):
            if name in self._dropped:
                drop = torch.rand(values[position].shape, device=values[position].device) < self.id_dropout
                values[position] = values[position].masked_fill(drop, OUT_OF_VOCABULARY)
        return KeyedJaggedTensor(keys=ids.keys(), values=torch.cat(values), lengths=ids.lengths())

    def _with_weights(self, ids: KeyedJaggedTensor) -> KeyedJaggedTensor:
        """The bags with the weight of each row: by idf, or the same for all of a bag, which is their mean."""
        parts = []
        for name, jagged in ids.to_dict().items():
            rows_V, lengths_B = jagged.values(), jagged.lengths()
            if name in self._weighted:
                weights = getattr(self, self._weighted[name])
                weights_V = normalised_weights(weights, rows_V, lengths_B)
            else:
                weights_V = (1 / lengths_B.float()).repeat_interleave(lengths_B, output_size=len(rows_V))
            if self.training and self.word_dropout > 0 and name in self._words:
                weights_V = nn.functional.dropout(weights_V, self.word_dropout)
            parts.append(weights_V)
        return KeyedJaggedTensor(
            keys=ids.keys(), values=ids.values(), lengths=ids.lengths(), weights=torch.cat(parts)
        )

    def _with_crosses(self, ids: KeyedJaggedTensor) -> KeyedJaggedTensor:
        bags = {name: (jagged.values(), jagged.lengths()) for name, jagged in ids.to_dict().items()}
        for cross in self.crosses:
            if all(part in bags for part in cross.parts):
                bags[cross.name] = cross_ids([bags[part] for part in cross.parts], cross.num_rows)
        return KeyedJaggedTensor(
            keys=list(bags),
            values=torch.cat([values for values, _ in bags.values()]),
            lengths=torch.cat([lengths for _, lengths in bags.values()]),
        )


def _complete(ids: KeyedJaggedTensor, names: Sequence[str]) -> KeyedJaggedTensor:
    """`ids` with empty bags for what is missing (a query holds no item features), in the order of `names`."""
    there = ids.keys()
    if list(names) == there:
        return ids
    lengths = ids.lengths().view(len(there), -1)
    complete = lengths.new_zeros(len(names), lengths.shape[1])
    complete[[names.index(name) for name in there]] = lengths
    return KeyedJaggedTensor(
        keys=list(names), values=ids.values(), lengths=complete.view(-1), weights=ids.weights_or_none()
    )
