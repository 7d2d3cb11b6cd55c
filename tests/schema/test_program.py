import pickle
from pathlib import Path

import pytest
import torch

from recsys.schema.errors import InputError
from recsys.schema.program import load_scripted


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


class Doubled(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def test_scripted_file_is_loaded(tmp_path):
    torch.jit.script(Doubled()).save(str(tmp_path / "program.pt"))
    assert load_scripted(tmp_path / "program.pt")(torch.ones(1)).item() == 2


@pytest.mark.parametrize("kind", ["pickle", "saved", "old", "text", "empty", "cut"])
def test_what_is_no_scripted_file_is_refused_by_name_and_not_run(tmp_path, kind):
    file, marker = tmp_path / "retrieval.pt", tmp_path / "marker"
    hostile = Touch(str(marker))
    torch.jit.script(Doubled()).save(str(file))
    whole = file.read_bytes()
    if kind == "saved":
        torch.save(hostile, file)
    elif kind == "old":
        torch.save(hostile, file, _use_new_zipfile_serialization=False)
    else:
        content = {"pickle": pickle.dumps(hostile), "text": b"text", "empty": b"", "cut": whole[:-300]}
        Path(file).write_bytes(content[kind])
    with pytest.raises(InputError, match=r"retrieval.pt`: expected a TorchScript file, found none"):
        load_scripted(file)
    assert not marker.exists()
