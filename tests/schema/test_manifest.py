import hashlib
import json
import os
import threading

import pytest

from recsys.schema.errors import InputError
from recsys.schema.manifest import MANIFEST, _fingerprint, read_station, write_manifest, writing_station


def write(path, text="content", **extra):
    with writing_station(path, "pilot", config={"a": 1}, source="abc") as (folder, manifest):
        (folder / "train").mkdir()
        (folder / "train" / "part-0").write_text(text)
        manifest.update(extra)


def test_station_appears_whole_and_says_what_it_is(tmp_path):
    write(tmp_path / "station", name="films")
    manifest = read_station(tmp_path / "station", "pilot")
    assert manifest["config"] == {"a": 1}
    assert manifest["source"] == "abc"
    assert manifest["name"] == "films"
    assert list(manifest["files"]) == ["train/part-0"]
    assert [p.name for p in tmp_path.iterdir()] == ["station"]


def test_failure_while_writing_leaves_the_old_station_untouched(tmp_path):
    write(tmp_path / "station", "old")

    class BrokenError(Exception):
        pass

    def fail():
        with writing_station(tmp_path / "station", "pilot", config={}) as (folder, _):
            (folder / "half").write_text("new")
            raise BrokenError

    with pytest.raises(BrokenError):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["station"]
    read_station(tmp_path / "station", "pilot")
    assert (tmp_path / "station" / "train" / "part-0").read_text() == "old"


def test_same_content_has_the_same_fingerprint_and_other_content_another(tmp_path):
    found = []
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        write(tmp_path / name, text)
        found.append(read_station(tmp_path / name, "pilot")["fingerprint"])
    assert found[0] == found[1] != found[2]


def test_new_station_replaces_the_old_one(tmp_path):
    write(tmp_path / "station", "old")
    write(tmp_path / "station", "new")
    assert (tmp_path / "station" / "train" / "part-0").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["station"]


def damage_content(station):
    (station / "train" / "part-0").write_text("CONTENT")


def damage_size(station):
    (station / "train" / "part-0").write_text("cut")


def damage_missing(station):
    (station / "train" / "part-0").unlink()


def damage_manifest(station):
    (station / MANIFEST).write_text("{")


def damage_version(station):
    manifest = json.loads((station / MANIFEST).read_text())
    (station / MANIFEST).write_text(json.dumps({**manifest, "version": 99}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_content, r"train/part-0` is damaged: its SHA-256"),
        (damage_size, r"train/part-0` is damaged: expected 7 bytes, found 3"),
        (damage_missing, r"train/part-0` is missing"),
        (damage_manifest, r"manifest.json` is damaged"),
        (damage_version, r"format version 99, this release reads 2"),
    ],
)
def test_damaged_station_is_refused_with_the_command_that_makes_it_anew(tmp_path, damage, message):
    write(tmp_path / "station")
    damage(tmp_path / "station")
    with pytest.raises(ValueError, match=message + r".*make it anew with `recsys pilot plan"):
        read_station(tmp_path / "station", "pilot")


def test_station_of_another_kind_is_refused(tmp_path):
    write(tmp_path / "station")
    with pytest.raises(ValueError, match=r"expected a bundle station at .*found `recsys.pilot`"):
        read_station(tmp_path / "station", "bundle")


def rewrite(station, **changes):
    """Changes a manifest as somebody would who knows how its checksums are made."""
    manifest = {**json.loads((station / MANIFEST).read_text()), **changes, "checksum": "0" * 64}
    if "fingerprint" not in changes and isinstance(manifest["files"], dict):
        manifest["fingerprint"] = _fingerprint("pilot", manifest["files"], manifest["source"])
    sign(station, json.dumps(manifest, indent=2))


def sign(station, text):
    (station / MANIFEST).write_text(text.replace("0" * 64, hashlib.sha256(text.encode()).hexdigest(), 1))


def entry_of(path):
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_every_flipped_bit_of_a_manifest_is_noticed(tmp_path):
    write(tmp_path / "station", licence="für alle")
    file = tmp_path / "station" / MANIFEST
    content = file.read_bytes()
    accepted = []
    for place in range(len(content)):
        for bit in range(8):
            file.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            try:
                read_station(tmp_path / "station", "pilot")
            except InputError:
                continue
            accepted.append((place, bit))
    assert accepted == []


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "train/../../outside", "", ".", "a//b", "a\\b", "./a", "a" * 256]
)
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    write(tmp_path / "station")
    (tmp_path / "outside").write_text("outside")
    rewrite(tmp_path / "station", files={name: entry_of(tmp_path / "outside")})
    with pytest.raises(InputError, match="which is no name below the folder"):
        read_station(tmp_path / "station", "pilot")


@pytest.mark.parametrize("linked", ["train", "train/part-0"])
def test_symbolic_links_are_refused(tmp_path, linked):
    write(tmp_path / "station")
    place = tmp_path / "station" / linked
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"{linked}` is a symbolic link"):
        read_station(tmp_path / "station", "pilot")


def test_a_readable_file_that_is_not_listed_is_refused_and_a_note_is_not(tmp_path):
    write(tmp_path / "station")
    (tmp_path / "station" / "notes.txt").write_text("mine")
    (tmp_path / "station" / "train" / ".part-1.crc").write_text("a file system's own")
    read_station(tmp_path / "station", "pilot")
    (tmp_path / "station" / "train" / "part-1.parquet").write_text("theirs")
    with pytest.raises(InputError, match=r"train/part-1.parquet` is not listed"):
        read_station(tmp_path / "station", "pilot")


def test_what_a_killed_writer_left_within_is_no_part_of_the_station(tmp_path):
    write(tmp_path / "station")
    (tmp_path / "station" / ".evaluation.00000000.partial").mkdir()
    (tmp_path / "station" / ".evaluation.00000000.partial" / "part.parquet").write_text("half")
    read_station(tmp_path / "station", "pilot")


def test_a_manifest_among_listed_files_hides_nothing(tmp_path):
    write(tmp_path / "station")
    (tmp_path / "station" / "train" / MANIFEST).write_text("{}")
    (tmp_path / "station" / "train" / "part-1.parquet").write_text("theirs")
    with pytest.raises(InputError, match="is not listed"):
        read_station(tmp_path / "station", "pilot")


def test_a_folder_with_a_manifest_of_its_own_is_no_part_of_the_station(tmp_path):
    write(tmp_path / "station")
    write(tmp_path / "station" / "evaluation")
    read_station(tmp_path / "station", "pilot")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "is damaged"),
        ("[]", "expected keys and values, found list"),
        ('{"format": "recsys.pilot", "format": "recsys.pilot"}', "a key occurs twice"),
        ('{"format": NaN}', "is no JSON number"),
        ('{"format": "recsys.pilot"}', "format version None, this release reads 2"),
        ('{"format": "recsys.pilot", "version": {}}', "format version {}"),
        ('{"format": "recsys.pilot", "version": 2}', "its own checksum"),
        ('{"format": "recsys.pilot", "version": 2, "checksum": 5}', "its own checksum"),
        ("\x00", "is damaged"),
    ],
)
def test_malformed_manifest_is_refused_by_name(tmp_path, content, message):
    write(tmp_path / "station")
    (tmp_path / "station" / MANIFEST).write_text(content)
    with pytest.raises(InputError, match=f"{MANIFEST}`.*{message}|station` has .*{message}"):
        read_station(tmp_path / "station", "pilot")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": []}, "expected `files` to be dict, found"),
        ({"files": {"train/part-0": []}}, "expected bytes and sha256 of `train/part-0`"),
        ({"files": {"train/part-0": {"bytes": "7", "sha256": "0" * 64}}}, "expected bytes and sha256"),
        ({"config": None}, "expected `config` to be dict"),
        ({"source": 3}, "expected `source` to be text or null"),
        ({"fingerprint": "1" * 64}, "`fingerprint` is not that of the files"),
    ],
)
def test_manifest_of_other_types_is_refused_though_its_checksum_is_right(tmp_path, changes, message):
    write(tmp_path / "station")
    rewrite(tmp_path / "station", **changes)
    with pytest.raises(InputError, match=f"{MANIFEST}` is damaged: {message}"):
        read_station(tmp_path / "station", "pilot")


def test_key_that_a_reader_misses_is_named_with_its_file(tmp_path):
    write(tmp_path / "station", label={"column": "rating"})
    manifest = read_station(tmp_path / "station", "pilot")
    with pytest.raises(InputError, match=r"manifest.json` is damaged: expected a key `label.positive`"):
        manifest["label"]["positive"]


def test_station_lacks_a_file_that_its_kind_needs(tmp_path):
    with writing_station(tmp_path / "bundle", "bundle", config={}) as (folder, extra):
        (folder / "requests.json").write_text("[]")
        (folder / "responses.json").write_text("[]")
        extra.update(task="retrieval", file="../outside.pt", signature={}, prepared={})
    with pytest.raises(InputError, match=r"must list `../outside.pt`"):
        read_station(tmp_path / "bundle", "bundle")


@pytest.mark.slow
def test_a_reader_gets_a_whole_station_while_two_processes_replace_it(tmp_path):
    station = tmp_path / "station"
    write(station, "0")
    ended = threading.Event()
    failures = []

    def replace(text):
        for _ in range(40):
            write(station, text)

    def read():
        while not ended.is_set():
            try:
                read_station(station, "pilot")
            except InputError as error:
                failures.append(error)

    writers = [threading.Thread(target=replace, args=[text]) for text in ("one", "another")]
    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    ended.set()
    for thread in readers:
        thread.join()
    assert failures == []
    assert os.listdir(tmp_path) == ["station"]


def test_manifest_written_anew_covers_the_files_of_now(tmp_path):
    write(tmp_path / "station")
    (tmp_path / "station" / "part-1.parquet").write_text("more")
    write_manifest(tmp_path / "station", "pilot", config={})
    assert set(read_station(tmp_path / "station", "pilot")["files"]) == {"train/part-0", "part-1.parquet"}
