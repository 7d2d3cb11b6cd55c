import numpy as np
import pytest
import torch

from recsys.serving.coordinates import Coordinates


def test_items_of_a_bundle_trained_anew_are_brought_back_to_where_they_lay():
    torch.manual_seed(0)
    before_ID = torch.randn(60, 24)
    turned_ID = 3 * before_ID @ torch.linalg.qr(torch.randn(24, 24))[0] + 0.05 * torch.randn(60, 24) + 1
    known = Coordinates.of(before_ID)
    there_IC = known.at(before_ID)
    # Where the first principal directions of the new vectors lie is another matter.
    assert np.abs(Coordinates.of(turned_ID).at(turned_ID) - there_IC).max() > 0.3
    mapped = Coordinates.mapped(turned_ID[:50], there_IC[:50])
    assert mapped.at(turned_ID[50:]) == pytest.approx(there_IC[50:], abs=0.1)
    # The same bundle again.
    assert Coordinates.mapped(before_ID, there_IC).at(before_ID) == pytest.approx(there_IC, abs=0.01)


def test_vectors_that_say_nothing_of_where_items_lay_are_told_apart():
    torch.manual_seed(1)
    there_IC = Coordinates.of(torch.randn(60, 8)).at(torch.randn(60, 8))
    assert Coordinates.mapped(torch.randn(60, 24), there_IC) is None
    assert Coordinates.mapped(torch.randn(3, 2), there_IC[:3]) is None
