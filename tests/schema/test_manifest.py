import json

import pytest

from recsys.schema.manifest import MANIFEST, read_station, writing_station


def write(path, text="content", **extra):
    with writing_station(path, "prepared", config={"a": 1}, source="abc") as (folder, manifest):
        (folder / "train").mkdir()
        (folder / "train" / "part-0").write_text(text)
        manifest.update(extra)


def test_station_appears_whole_and_says_what_it_is(tmp_path):
    write(tmp_path / "station", name="films")
    manifest = read_station(tmp_path / "station", "prepared")
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
        with writing_station(tmp_path / "station", "prepared", config={}) as (folder, _):
            (folder / "half").write_text("new")
            raise BrokenError

    with pytest.raises(BrokenError):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["station"]
    read_station(tmp_path / "station", "prepared")
    assert (tmp_path / "station" / "train" / "part-0").read_text() == "old"


def test_same_content_has_the_same_fingerprint_and_other_content_another(tmp_path):
    found = []
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        write(tmp_path / name, text)
        found.append(read_station(tmp_path / name, "prepared")["fingerprint"])
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
        (damage_version, r"format version 99, this release reads 1"),
    ],
)
def test_damaged_station_is_refused_with_the_command_that_makes_it_anew(tmp_path, damage, message):
    write(tmp_path / "station")
    damage(tmp_path / "station")
    with pytest.raises(ValueError, match=message + r".*make it anew with `recsys prepare"):
        read_station(tmp_path / "station", "prepared")


def test_station_of_another_kind_is_refused(tmp_path):
    write(tmp_path / "station")
    with pytest.raises(ValueError, match=r"expected a bundle station at .*found `recsys.prepared`"):
        read_station(tmp_path / "station", "bundle")
