"""FeatureTables: the embedding tables of named features, one TorchRec collection.

The only module that holds tables. Everything after it takes `Dict[str, Tensor]` of embedded features and is
scriptable, so that export replaces this module alone.

Legend: B examples, D embedding dimension.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor, PoolingType

from recsys.nn.cross import Cross, cross_ids
from recsys.schema.features import OUT_OF_VOCABULARY, Feature


class FeatureTables(nn.Module):
    """Maps bags of rows to their mean embedding, feature by feature; an empty bag gives zeros.

    Features that name the same table share it (the history reads the item table).

    Args:
        features: sparse features, each with its table and number of rows.
        embedding_dim: D, a multiple of 4 (FBGEMM's fused tables want it).
        crosses: further features, hashed from those above.
        prefix: put before the names of the embedded features and of the tables.
        init_std: standard deviation of the normal initialisation.
        id_dropout: probability in training with which a row is replaced by row 0, for features with a
            vocabulary, so that the out-of-vocabulary row learns what an unknown value is worth; 0.02 works.

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
    ) -> None:
        super().__init__()
        if embedding_dim < 4 or embedding_dim % 4:
            raise ValueError(f"`model.embedding_dim` must be a positive multiple of 4, got {embedding_dim}")
        dense = [feature.name for feature in features if not feature.is_sparse]
        if dense:
            raise ValueError(f"features {dense} are dense and have no embedding table")
        self.features = tuple(features)
        self.crosses = tuple(crosses)
        self.embedding_dim = embedding_dim
        self.prefix = prefix
        self.id_dropout = id_dropout
        init = partial(nn.init.normal_, std=init_std)
        self.collection = EmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(
                    name=prefix + table,
                    num_embeddings=num_rows,
                    embedding_dim=embedding_dim,
                    feature_names=names,
                    pooling=PoolingType.MEAN,
                    init_fn=init,
                )
                for table, (num_rows, names) in self.tables().items()
            ]
        )

    def tables(self) -> dict[str, tuple[int, list[str]]]:
        """Number of rows and names of the features of every table, by the table's name without the prefix."""
        tables: dict[str, tuple[int, list[str]]] = {}
        for feature in self.features:
            tables.setdefault(feature.table, (feature.num_rows, []))[1].append(feature.name)
        for cross in self.crosses:
            tables[cross.name] = (cross.num_rows, [cross.name])
        return tables

    def weight_name(self, table: str) -> str:
        """What the weights of a table, named without the prefix, are called in this module's state."""
        return f"collection.embedding_bags.{self.prefix}{table}.weight"

    def forward(self, ids: KeyedJaggedTensor) -> dict[str, torch.Tensor]:
        """Embeds the features that `ids` holds.

        Args:
            ids: bags of rows; features this module does not know are passed over.

        Returns:
            [B, D] for every feature present in `ids` and every cross whose parts are.
        """
        bags = {key: (jagged.values(), jagged.lengths()) for key, jagged in ids.to_dict().items()}
        if self.training and self.id_dropout > 0:
            bags = self._drop_ids(bags)
        for cross in self.crosses:
            if all(part in bags for part in cross.parts):
                bags[cross.name] = cross_ids([bags[part] for part in cross.parts], cross.num_rows)
        names = [name for _, names in self.tables().values() for name in names]
        present = [name for name in names if name in bags]
        embedded = self.collection(_complete(bags, names, num_examples=ids.stride()))
        return {self.prefix + name: embedded[name] for name in present}

    def _drop_ids(
        self, bags: dict[str, tuple[torch.Tensor, torch.Tensor]]
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        dropped = dict(bags)
        for feature in self.features:
            if feature.kind == "id" and feature.name in bags:
                values, lengths = bags[feature.name]
                drop = torch.rand(values.shape, device=values.device) < self.id_dropout
                dropped[feature.name] = (values.masked_fill(drop, OUT_OF_VOCABULARY), lengths)
        return dropped


def _complete(
    bags: dict[str, tuple[torch.Tensor, torch.Tensor]], names: Sequence[str], *, num_examples: int
) -> KeyedJaggedTensor:
    """The bags of `names` in order; empty bags for what is missing (a query holds no item features)."""
    some_values, some_lengths = next(iter(bags.values()))
    empty = (some_values.new_empty(0), some_lengths.new_zeros(num_examples))
    chosen = [bags.get(name, empty) for name in names]
    return KeyedJaggedTensor(
        keys=list(names),
        values=torch.cat([values for values, _ in chosen]),
        lengths=torch.cat([lengths for _, lengths in chosen]),
    )
