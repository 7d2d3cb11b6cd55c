import torch

from recsys.models.xdeepfm import CompressedInteractions, XDeepFM
from tests.models.contract import RankingContract


class TestXDeepFM(RankingContract):
    def build(self, schema):
        return XDeepFM(schema, embedding_dim=8, hidden=(32,), maps=(8, 4), id_dropout=0.05)


def test_maps_are_those_of_the_paper():
    """Equation 6, a sum over pairs of vectors."""
    torch.manual_seed(0)
    layer = CompressedInteractions(3, [2, 4]).requires_grad_(False)
    fields = torch.randn(1, 3, 5)
    maps, expected = fields[0], []
    for convolution in layer.layers:
        weights = convolution.weight[:, :, 0].view(-1, 3, len(maps))
        maps = torch.stack(
            [
                torch.relu(
                    sum(weights[m, i, j] * fields[0, i] * maps[j] for i in range(3) for j in range(len(maps)))
                    + convolution.bias[m]
                )
                for m in range(len(weights))
            ]
        )
        expected.append(maps.sum(dim=1))
    torch.testing.assert_close(layer(fields)[0], torch.cat(expected))
