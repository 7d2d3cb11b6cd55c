"""Coordinates: where items lie in a bundle's space, in few dimensions, to learn readers' tastes over.

The vectors of a bundle that is trained anew are turned and stretched; a linear map brings them back to where
the items lay that both bundles know, so that what was learnt of readers goes on to hold.

Legend: I catalogue rows, row 0 the unknown item, D dimension of the model's vectors, C coordinates, N items.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from recsys.bandits.estimates import Floats

_MOST = 16
_SAMPLE = 20_000
# Ridges that are tried for a map between two spaces, over the mean square of the vectors' directions, and
# what the best must explain.
_RIDGES = (0.001, 0.01, 0.1, 1.0)
_LEAST_EXPLAINED = 0.5
_LEAST_ITEMS = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Coordinates:
    """The directions in which a catalogue's vectors differ most, and their scale.

    Args:
        centre_D: mean of the vectors.
        directions_DC: the first principal directions, over the root mean square length of what they show.
        origin_C: coordinates of the mean; None for zeros.
    """

    centre_D: Floats
    directions_DC: Floats
    origin_C: Floats | None = None

    @staticmethod
    def of(vectors_ID: torch.Tensor) -> Coordinates:
        """Coordinates of a catalogue, such that their squares add up to 1 for an average item.

        Example:
            >>> vectors = torch.tensor([[0.0, 0.0], [1.0, 5.0], [3.0, 5.0]])
            >>> Coordinates.of(vectors).at(vectors[1:]).round(2).tolist()
            [[-1.0, 0.0], [1.0, 0.0]]
        """
        size = vectors_ID.shape[0]
        sample_ND = vectors_ID[1 :: max(1, size // _SAMPLE)].double().numpy()
        centre_D = sample_ND.mean(axis=0)
        centred_ND = sample_ND - centre_D
        values_D, directions_DD = np.linalg.eigh(centred_ND.T @ centred_ND / len(centred_ND))
        directions_DC = directions_DD[:, ::-1][:, :_MOST]
        # The sign of a direction is anybody's: the largest part of each is positive.
        largest_C = np.abs(directions_DC).argmax(axis=0)
        directions_DC = directions_DC * np.sign(directions_DC[largest_C, np.arange(len(largest_C))])
        scale = float(np.sqrt(max(values_D[::-1][:_MOST].sum(), 1e-12)))
        return Coordinates(centre_D, directions_DC / scale)

    @staticmethod
    def mapped(vectors_ND: torch.Tensor, coordinates_NC: Floats) -> Coordinates | None:
        """Coordinates by which items with these vectors lie near where they are known to lie.

        Returns:
            None where the vectors do not say that: a map made of half of the items must explain half of the
            squared distances of the others from their mean.
        """
        if len(coordinates_NC) < _LEAST_ITEMS:
            return None
        vectors, asked = vectors_ND.double().numpy(), slice(1, None, 2)
        rest = {}
        for ridge in _RIDGES:
            known = _affine(vectors[::2], coordinates_NC[::2], ridge)
            rest[ridge] = float(((known.at(vectors_ND[asked]) - coordinates_NC[asked]) ** 2).sum())
        best = min(rest, key=rest.__getitem__)
        spread = ((coordinates_NC[asked] - coordinates_NC[asked].mean(axis=0)) ** 2).sum()
        if not rest[best] <= (1 - _LEAST_EXPLAINED) * spread:
            return None
        return _affine(vectors, coordinates_NC, best)

    def nowhere(self) -> Floats:
        """[C] the coordinates of what is not known."""
        return np.zeros(self.directions_DC.shape[1])

    def at(self, vectors_ND: torch.Tensor) -> Floats:
        """[N, C] coordinates of items with these vectors."""
        coordinates_NC: Floats = (vectors_ND.double().numpy() - self.centre_D) @ self.directions_DC
        return coordinates_NC if self.origin_C is None else coordinates_NC + self.origin_C


def _affine(vectors_ND: Floats, coordinates_NC: Floats, share: float) -> Coordinates:
    """The map of least squares, with a ridge."""
    centre_D, origin_C = vectors_ND.mean(axis=0), coordinates_NC.mean(axis=0)
    centred_ND = vectors_ND - centre_D
    gram_DD = centred_ND.T @ centred_ND
    ridge = max(share * float(gram_DD.trace()) / len(gram_DD), 1e-12)
    directions_DC = np.linalg.solve(
        gram_DD + ridge * np.eye(len(gram_DD)), centred_ND.T @ (coordinates_NC - origin_C)
    )
    return Coordinates(centre_D, directions_DC, origin_C)
