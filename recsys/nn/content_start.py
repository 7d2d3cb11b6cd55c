"""start_from_content: words and tags begin as the singular vectors of the items' contents, not at random.

Sums of random embeddings of D dimensions confuse words that have nothing in common; the first D singular
vectors of the items' pooled words keep as much of the cosines of tf-idf as D dimensions can, and words that
go together begin together.

Legend: I catalogue, T rows of the tables, D embedding dimension, R singular vectors.

Reference:
    Deerwester et al. 1990, Indexing by Latent Semantic Analysis.
"""

from collections.abc import Mapping

import numpy as np
import torch
from scipy import sparse

from recsys.nn.embeddings import FeatureTables
from recsys.nn.pooling import normalised_weights
from recsys.nn.spectral import spectrum_of
from recsys.schema.batch import Batch
from recsys.schema.errors import InputError


@torch.no_grad()
def start_from_content(
    tables: FeatureTables, items: Batch, scales: Mapping[str, float], *, is_known_I: torch.Tensor
) -> None:
    """Sets the tables of the items' features; items of the mean length have embeddings that sum to length 1.

    Args:
        tables: that hold the features; what else they hold stays.
        items: the catalogue.
        scales: what each feature weighs in the sum.
        is_known_I: [I] bool, the items that the vectors are made of.

    Raises:
        InputError: the tables have no memory yet.
    """
    if tables.is_deferred:
        raise InputError(
            "`model.content_start=lsa` wants tables that are not fused; set `optimizer.tables=adamw`, or "
            "`model.content_start=random`"
        )
    by_table = {table: names[0] for table, (_, names) in tables.tables().items() if names[0] in scales}
    matrices = [scales[name] * pooling_matrix(tables, items, name) for name in by_table.values()]
    if not matrices:
        return
    joint_IT = sparse.hstack(matrices, format="csr")[is_known_I.numpy()]
    vectors_TR = spectrum_of(joint_IT.astype(np.float32), rank=tables.embedding_dim).vectors_TD.float()
    lengths = np.linalg.norm(joint_IT @ vectors_TR.numpy(), axis=1)
    vectors_TR = vectors_TR / max(float(lengths.mean()), 1e-6)
    first = 0
    for table, matrix in zip(by_table, matrices, strict=True):
        weight_TD = tables.weight(table)
        weight_TD[:, : vectors_TR.shape[1]] = vectors_TR[first : first + len(weight_TD)].to(weight_TD)
        first += matrix.shape[1]


def pooling_matrix(tables: FeatureTables, items: Batch, name: str) -> sparse.csr_matrix:
    """[I, T] what each row of a feature's table weighs in each item, squares of an item adding up to 1."""
    bags = items.ids[name]
    rows_V, lengths_I = bags.values(), bags.lengths()
    num_rows = tables.num_rows_of(name)
    weights_T = tables.idf_of(name)
    ones_T = torch.ones(num_rows)
    ones_T[0] = 0
    weights_V = normalised_weights(ones_T if weights_T is None else weights_T, rows_V, lengths_I)
    offsets = np.concatenate([[0], lengths_I.cumsum(0).numpy()])
    return sparse.csr_matrix((weights_V.numpy(), rows_V.numpy(), offsets), shape=(len(lengths_I), num_rows))
