import re
from pathlib import Path

import pytest
import torch
from torch import nn

from recsys.models.weights import load_weights


def resident_megabytes_of_files():
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("only Linux tells what of a file is resident")
    return int(re.search(r"RssFile:\s+(\d+)", status.read_text())[1]) / 1024


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = nn.Linear(4096, 4096)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "checkpoint")
    return model, tmp_path / "checkpoint"


def test_loading_leaves_nothing_of_the_file_in_the_resident_set(saved):
    model, file = saved
    again = nn.Linear(4096, 4096)
    before = resident_megabytes_of_files()
    load_weights(again, file)
    assert torch.equal(again.weight, model.weight)
    assert torch.equal(again.bias, model.bias)
    assert resident_megabytes_of_files() - before < 16  # of 64


def test_all_that_does_not_fit_is_named(saved):
    _, file = saved
    match = r"does not fit .*its `weight` is \[4096, 4096\], the model's \[2, 4096\]"
    with pytest.raises(ValueError, match=match):
        load_weights(nn.Linear(4096, 2), file)
    with pytest.raises(ValueError, match=r"it has a `bias`, which the model lacks"):
        load_weights(nn.Linear(4096, 4096, bias=False), file)
    with pytest.raises(ValueError, match=r"it has no `extra\.weight`"):
        load_weights(WithExtra(), file)


class WithExtra(nn.Linear):
    def __init__(self):
        super().__init__(4096, 4096)
        self.extra = nn.Linear(1, 1, bias=False)
