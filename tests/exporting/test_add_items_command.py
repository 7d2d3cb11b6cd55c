"""The command that adds new items to a bundle."""

import contextlib
import csv
import json
import re
import resource
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.commands.add_items import main
from recsys.exporting import additions
from recsys.exporting.additions import _OF_STATION, AddItemsConfig, extend_bundle, extend_index
from recsys.exporting.bundle import export_bundle, load_bundle, load_scripted
from recsys.exporting.gate.lists import first_difference
from recsys.exporting.records import read_records
from recsys.retrieval.ann import build, load
from recsys.schema.errors import InputError
from recsys.schema.manifest import write_manifest
from recsys.serving.bundle import Bundle
from tests.exporting.conftest import stage
from tests.exporting.test_add_items import NEW, USER, new_items

ROWS = [
    ["sku", "title", "genres", "tags", "price", "city", "shelf"],
    [NEW[0], "Toy story II", "Drama|Kids", "1|3", "12.5", "Bonn", "4"],
    [NEW[1], "", "", "", "", "", ""],
]


@pytest.fixture
def run(capsys):
    """Runs the command and returns its exit status, stdout and stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return ended.value.code, *capsys.readouterr()

    return run


def write_csv(path, rows=ROWS):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def bytes_of(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_new_bundle_recommends_the_items_of_a_table_and_the_old_one_stays(recommender, run, tmp_path):
    before = bytes_of(recommender.folder)
    table, folder = write_csv(tmp_path / "fresh.csv"), tmp_path / "grown"
    status, out, err = run(f"bundle={recommender.folder}", f"items={table}", f"folder={folder}")
    assert (status, out) == (0, f"{folder}\n"), err
    assert "lacks the columns ['colours', 'maker', 'weight', 'year']" in err
    assert "no feature reads the columns ['shelf']" in err
    assert bytes_of(recommender.folder) == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["fresh.csv", "grown"]
    manifest, program = load_bundle(folder)
    ids, probabilities, _, _ = program.recommend(USER, [], 36, num_candidates=36)
    assert set(NEW) < set(ids)
    record = {"title": "Toy story II", "genres": ["Drama", "Kids"], "tags": [1, 3], "price": 12.5}
    row = {**USER, **record, "items.city": "Bonn"}
    expected = recommender.program.ranking.predict([row, USER])
    assert [probabilities[ids.index(i)] for i in NEW] == pytest.approx(expected.tolist(), abs=1e-6)
    # What the manifest says.
    assert manifest["source"] == recommender.manifest["fingerprint"]
    assert manifest["catalogue"] == {
        "items": 36,
        "known_to_ranking_model": 36,
        "unknown_to_ranking_model": 0,
    }
    assert [one["catalogue"]["items"] for one in manifest["stages"].values()] == [36, 36]
    assert recommender.manifest["catalogue"]["items"] == 34
    responses = json.loads((folder / "responses.json").read_text())
    requests = json.loads((folder / "requests.json").read_text())
    added = {"items": 2, "table": str(table), "recorded_requests_compared": len(requests) - 1}
    assert manifest["additions"] == [added]
    assert {name: manifest[name] for name in ("parity", "licence", "task", "file")} == {
        name: recommender.manifest[name] for name in ("parity", "licence", "task", "file")
    }
    assert requests[-1] == {"method": "retrieval.encode_item", "arguments": {"item": {"item_id": NEW[0]}}}
    assert responses[-1] == pytest.approx(program.retrieval.candidates[35].tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [["id", "title"], ["a", "b"]],
            "lacks `item_id` or `sku`.*it has: id, title",
        ),
        ([["sku", "title"]], "expected rows, found none"),
        ([["sku", "title"], ["a", "b"], ["c"]], "row 2: expected 2 columns, found 1"),
        (
            [["sku", "title"], ["a", "b"], ["sku-3é", "c"]],
            r"\(item 0 is row 1\): `item_id` of item 1 is `sku-3é`, which is known already",
        ),
    ],
)
def test_a_table_that_can_t_be_added_is_refused_and_nothing_is_written(
    retrieval, run, tmp_path, rows, message
):
    table = write_csv(tmp_path / "fresh.csv", rows)
    folder = tmp_path / "grown"
    status, out, err = run(f"bundle={retrieval.folder}", f"items={table}", f"folder={folder}")
    assert (status, out) == (2, "")
    assert "Traceback" not in err
    assert re.search(message, err), err
    assert [file.name for file in tmp_path.iterdir()] == ["fresh.csv"]


def test_a_folder_that_is_taken_is_refused(retrieval, run, tmp_path):
    table = write_csv(tmp_path / "fresh.csv")
    same = run(f"bundle={retrieval.folder}", f"items={table}", f"folder={retrieval.folder}")
    assert "`folder` must not be the bundle itself, which stays as it is" in same[2]
    taken = run(f"bundle={retrieval.folder}", f"items={table}", f"folder={tmp_path}")
    assert "must be a new folder or an earlier bundle, which is replaced" in taken[2]
    assert (same[0], taken[0]) == (2, 2)
    assert table.exists()


def test_a_bundle_with_files_that_would_not_know_the_items_is_refused(retrieval, monkeypatch, tmp_path):
    manifest, program = load_bundle(retrieval.folder)
    manifest["files"]["model.pt2"] = {}
    monkeypatch.setattr(additions, "load_bundle", lambda folder: (manifest, program))
    config = additions.AddItemsConfig(retrieval.folder, write_csv(tmp_path / "fresh.csv"), tmp_path / "grown")
    with pytest.raises(
        ValueError, match=r"must hold nothing but .* but `model.pt2` would not know the new items"
    ):
        additions.extend_bundle(config)
    assert not (tmp_path / "grown").exists()


def test_a_new_bundle_that_answers_otherwise_is_refused(retrieval, monkeypatch, tmp_path):
    def load_another(file):
        program = load_scripted(file)
        program.candidates.add_(1e-2 * torch.arange(program.candidates.size(0))[:, None])
        return program

    monkeypatch.setattr(additions, "load_scripted", load_another)
    config = additions.AddItemsConfig(retrieval.folder, write_csv(tmp_path / "fresh.csv"), tmp_path / "grown")
    with pytest.raises(ValueError, match=r"the new bundle must answer as .* where no new item is concerned"):
        additions.extend_bundle(config)
    assert [file.name for file in tmp_path.iterdir()] == ["fresh.csv"]


def test_parquet_is_read_with_its_types(retrieval, tmp_path):
    items = new_items(retrieval.dataset)
    pq.write_table(pa.Table.from_pylist(items), tmp_path / "fresh.parquet")
    names = set(items[0]) - {"sku"}
    table = read_records(tmp_path / "fresh.parquet", key="items", id_fields=["item_id", "sku"], columns=names)
    program = load_scripted(retrieval.folder / "retrieval.pt")
    config = additions.AddItemsConfig(retrieval.folder, tmp_path / "fresh.parquet")
    assert config.target == retrieval.folder.with_name("bundle-with-fresh")
    assert additions._add(program, table, ["item_id", "sku"], config, {"features": []}) == NEW
    expected = retrieval.program.encode_items([{k: v for k, v in one.items() if k != "sku"} for one in items])
    torch.testing.assert_close(program.candidates[-2:], expected)


def test_an_index_takes_up_the_rows_that_it_lacks(tmp_path):
    vectors = torch.randn(30, 8, generator=torch.Generator().manual_seed(1))
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    (tmp_path / "new").mkdir()
    index = build(vectors[:25], "hnsw", k=5)
    index.save(tmp_path / "index.faiss")
    entry = {"file": "index.faiss", "kind": "hnsw", "k": 5, "settings": index.settings}
    extend_index(entry, tmp_path, tmp_path / "new", candidates=vectors)
    old, grown = (
        load(folder / "index.faiss", "hnsw", k=5, settings=index.settings, time_share=0.0)
        for folder in (tmp_path, tmp_path / "new")
    )
    assert (old.num_items, grown.num_items) == (24, 29)
    nothing = torch.zeros(0, dtype=torch.int64)
    assert 29 in grown.near(vectors[29], 5, excluded=nothing).tolist()


A, B, C = "abc"


@pytest.mark.parametrize(
    ("found", "place"),
    [
        (([A, B, C], [3.0, 2.0, 1.0]), None),
        (([A, B, C], [3.0, 2.0 + 1e-6, 1.0]), None),
        (([A, B, C], [3.0, 2.1, 1.0]), 1),
        (([A, C, B], [3.0, 2.0, 1.0]), 1),
        (([A, B], [3.0, 2.0]), 2),
        (([A, B, C, "d"], [3.0, 2.0, 1.0, 0.5]), 3),
        (([A, B, "d"], [3.0, 2.0, 1.0]), None),  # another that scores like the last one
        (([A, "d", C], [3.0, 2.0, 1.0]), 1),
        (([A, B, B], [3.0, 2.0, 2.0]), 2),
        (([], []), 0),
    ],
)
def test_lists_are_the_same_but_for_the_order_of_ties(found, place):
    assert first_difference(([A, B, C], [3.0, 2.0, 1.0]), found, tolerance=1e-5) == place
    tied = ([A, B, C], [1.0, 1.0, 0.5])
    assert first_difference(tied, ([B, A, C], [1.0, 1.0, 0.5]), tolerance=1e-5) is None
    assert first_difference(tied, ([B, B, C], [1.0, 1.0, 0.5]), tolerance=1e-5) == 2


@pytest.mark.parametrize(
    "request_",
    [
        {"method": "save", "arguments": {"f": "PATH"}},
        {"method": "retrieval.save", "arguments": {"f": "PATH"}},
        {"method": "_c.save", "arguments": {"f": "PATH"}},
        {"method": "__class__", "arguments": {}},
        {"method": "encode_user", "arguments": {"user": {}, "history": []}, "package": "../elsewhere.pt2"},
        {"method": "recommend"},
        "recommend",
    ],
)
def test_a_recorded_request_calls_nothing_but_what_is_recorded(retrieval, tmp_path, request_):
    folder, victim = tmp_path / "bundle", tmp_path / "victim"
    shutil.copytree(retrieval.folder, folder)
    victim.write_text("mine")
    if isinstance(request_, dict) and "f" in request_.get("arguments", {}):
        request_["arguments"]["f"] = str(victim)
    recorded = json.loads((folder / "requests.json").read_text())
    (folder / "requests.json").write_text(json.dumps([*recorded, request_]))
    manifest = json.loads((folder / "manifest.json").read_text())
    kept = {name: manifest[name] for name in manifest if name not in _OF_STATION}
    write_manifest(folder, "bundle", config={}, source=None, extra=kept)
    pq.write_table(pa.table({"sku": ["fresh"]}), tmp_path / "new.parquet")
    message = f"requests.json`: request {len(recorded)} must have `arguments` by name and a `method` among"
    with pytest.raises(InputError, match=message):
        extend_bundle(AddItemsConfig(folder, tmp_path / "new.parquet"))
    with pytest.raises(InputError, match=message):
        Bundle.open(folder)
    assert victim.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "new.parquet", "victim"]


@contextlib.contextmanager
def files_of_at_most(size):
    """No file of this process may grow beyond `size` bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_is_said_with_the_file_and_leaves_nothing(retrieval, tmp_path):
    pq.write_table(pa.table({"sku": ["fresh"]}), tmp_path / "new.parquet")
    target = tmp_path / "grown"
    with (
        files_of_at_most(30_000),
        pytest.raises(InputError, match=r"write `.*retrieval.pt`, but "),
    ):
        extend_bundle(AddItemsConfig(retrieval.folder, tmp_path / "new.parquet", target))
    with (
        files_of_at_most(30_000),
        pytest.raises(InputError, match=r"write `.*retrieval.pt`, but "),
    ):
        export_bundle(stage(retrieval.model, retrieval.dataset), target)
    assert [path.name for path in tmp_path.iterdir()] == ["new.parquet"]
