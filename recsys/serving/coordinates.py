"""Coordinates: where items lie in a bundle's space, in few dimensions, to learn readers' tastes over.

Legend: I catalogue rows, row 0 the unknown item, D dimension of the model's vectors, C coordinates, N items.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from recsys.bandits.estimates import Floats

_MOST = 16
_SAMPLE = 20_000


@dataclasses.dataclass(frozen=True, eq=False)
class Coordinates:
    """The directions in which a catalogue's vectors differ most, and their scale.

    Args:
        centre_D: mean of the vectors.
        directions_DC: the first principal directions, over the root mean square length of what they show.
    """

    centre_D: Floats
    directions_DC: Floats

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

    def nowhere(self) -> Floats:
        """[C] the coordinates of what is not known."""
        return np.zeros(self.directions_DC.shape[1])

    def at(self, vectors_ND: torch.Tensor) -> Floats:
        """[N, C] coordinates of items with these vectors."""
        coordinates_NC: Floats = (vectors_ND.double().numpy() - self.centre_D) @ self.directions_DC
        return coordinates_NC
