"""Folders with a manifest on a real S3 server: whole, or as they were."""

import json
import threading

import pytest

from recsys.schema import stores
from recsys.schema.errors import InputError
from recsys.schema.manifest import MANIFEST, read_station, write_manifest
from recsys.schema.stores import CURRENT, fetch_station, origin_of, publish_station

PLACE = "s3://shop/evaluations/first"


def station(folder, text):
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"text": text}))
    (folder / "lists").mkdir()
    (folder / "lists" / "part.parquet").write_bytes(text.encode() * 1000)
    write_manifest(folder, "evaluation", config={}, extra={"protocol_hash": text})
    return folder


def fetched(cache, address=PLACE):
    folder = fetch_station(address, cache=cache, key="run")
    read_station(folder, "evaluation", verify_all=True)
    return json.loads((folder / "metrics.json").read_text())["text"]


def keys(store, prefix="evaluations/first"):
    found = store.list_objects(Bucket="shop", Prefix=prefix).get("Contents", [])
    return [entry["Key"] for entry in found if not entry["Key"].endswith("/")]


def empty(store, prefix="evaluations/first"):
    for key in keys(store, prefix):
        store.delete_object(Bucket="shop", Key=key)


def test_station_comes_back_byte_for_byte_and_the_next_one_takes_its_place(store, tmp_path):
    empty(store)
    one, two = station(tmp_path / "one", "one"), station(tmp_path / "two", "two")
    publish_station(one, PLACE, key="to")
    folder = fetch_station(PLACE, cache=tmp_path / "cache", key="run")
    assert folder.name == "first"
    assert origin_of(folder) == PLACE
    assert origin_of(one) == str(one)
    for name in (MANIFEST, "metrics.json", "lists/part.parquet"):
        assert (folder / name).read_bytes() == (one / name).read_bytes()
    publish_station(two, PLACE, key="to")
    assert fetched(tmp_path / "cache") == "two"
    assert len(keys(store)) == 4, "the former version is removed"


def test_plain_folder_that_a_tool_has_copied_is_read_too(store, tmp_path):
    folder = station(tmp_path / "one", "one")
    for file in (MANIFEST, "metrics.json", "lists/part.parquet"):
        store.put_object(Bucket="shop", Key=f"plain/{file}", Body=(folder / file).read_bytes())
    assert fetched(tmp_path / "cache", "s3://shop/plain/") == "one"


@pytest.mark.parametrize("stopped_at", range(4))
def test_upload_killed_anywhere_leaves_what_was_there(store, tmp_path, monkeypatch, stopped_at):
    empty(store)
    publish_station(station(tmp_path / "one", "one"), PLACE, key="to")
    sent = []
    original = stores._send

    def send(target_store, source, target):
        if len(sent) == stopped_at:
            raise KeyboardInterrupt
        sent.append(target)
        original(target_store, source, target)

    two = station(tmp_path / "two", "two")
    with monkeypatch.context() as patch:
        patch.setattr(stores, "_send", send)
        with pytest.raises(KeyboardInterrupt):
            publish_station(two, PLACE, key="to")
    assert len(sent) == stopped_at
    assert fetched(tmp_path / "cache") == "one"
    publish_station(two, PLACE, key="to")
    assert fetched(tmp_path / "cache") == "two"


def test_who_reads_while_others_replace_always_finds_one_version_whole(store, tmp_path):
    empty(store)
    versions = [station(tmp_path / str(number), str(number)) for number in range(3)]
    publish_station(versions[0], PLACE, key="to")
    done = threading.Event()

    def replace():
        for number in (1, 2, 0, 2, 1, 0):
            publish_station(versions[number], PLACE, key="to")
        done.set()

    writers = [threading.Thread(target=replace) for _ in range(2)]
    for writer in writers:
        writer.start()
    seen = []
    while not done.is_set():
        seen.append(fetched(tmp_path / f"cache-{len(seen)}"))
    for writer in writers:
        writer.join()
    assert set(seen) <= {"0", "1", "2"}
    assert seen


@pytest.mark.parametrize(
    ("name", "body", "match"),
    [
        ("metrics.json", b"{}", "metrics.json` is damaged: its SHA-256"),
        ("metrics.json", None, r"cannot be read or written: .*metrics.json"),
        (MANIFEST, b"[]", "manifest.json` is damaged"),
        (MANIFEST, b'{"files": {"../../x": {"sha256": ""}}}', "which is no name below the folder"),
        (CURRENT, b"../elsewhere", "`CURRENT` names `../elsewhere`, which is no version"),
    ],
)
def test_damage_is_named_and_nothing_is_taken(store, tmp_path, name, body, match):
    empty(store)
    publish_station(station(tmp_path / "one", "one"), PLACE, key="to")
    key = next(key for key in keys(store) if key.endswith(name))
    if body is None:
        store.delete_object(Bucket="shop", Key=key)
    else:
        store.put_object(Bucket="shop", Key=key, Body=body)
    with pytest.raises(InputError, match=match):
        fetch_station(PLACE, cache=tmp_path / "cache", key="run")
    assert not list((tmp_path / "cache").rglob("metrics.json"))


def test_what_is_not_there_is_named(store, tmp_path):
    with pytest.raises(InputError, match=r"`bundle=s3://shop/none` cannot be read or written"):
        fetch_station("s3://shop/none", cache=tmp_path, key="bundle")
