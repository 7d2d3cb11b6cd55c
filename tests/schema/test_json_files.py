"""JSON files of strangers: read as keys and values of the right types, or refused by the file's name."""

import pytest

from recsys.schema.errors import InputError
from recsys.schema.json_files import read_json, read_json_list

MALFORMED = {
    "empty": b"",
    "no JSON": b"{'a': 1}",
    "cut": b'{"a": {"b": 1}',
    "deep": b"[" * 100_000,
    "deep keys": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "long number": b'{"a": ' + b"1" * 10_000 + b"}",
    "infinity": b'{"a": 1e999}',
    "no number": b'{"a": NaN}',
    "no text": bytes(range(128, 256)),
    "twice": b'{"a": 1, "a": 2}',
    "seven hundred deep": b'{"a": ' * 700 + b"1" + b"}" * 700,
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("read", [read_json, read_json_list])
def test_what_is_no_json_is_refused_by_name(tmp_path, content, read):
    (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(InputError, match=r"metrics.json` is damaged"):
        read(tmp_path / "metrics.json")


@pytest.mark.parametrize("content", ["[]", "7", '"x"', "null", "true"])
def test_keys_are_expected(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match="expected keys and values, found"):
        read_json(tmp_path / "a.json")


def test_a_list_is_expected(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(InputError, match="expected a list, found dict"):
        read_json_list(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": {"b": "x"}}', r"expected `a.b` to be int or null, found 'x'"),
        ('{"a": {}}', r"expected a key `a.b`, found none"),
        ("{}", r"expected a key `a`, found none"),
    ],
)
def test_types_are_looked_at(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_json(tmp_path / "a.json", {"a": dict, "a.b": (int, type(None))})


def test_a_key_that_a_reader_misses_later_is_named_with_its_file(tmp_path):
    (tmp_path / "a.json").write_text('{"a": {"b": 1}}')
    with pytest.raises(InputError, match=r"a.json` is damaged: expected a key `a.c`"):
        read_json(tmp_path / "a.json")["a"]["c"]


def test_size_is_bounded_and_links_are_refused(tmp_path):
    with (tmp_path / "sparse.json").open("wb") as file:
        file.truncate(2**40)
    (tmp_path / "link.json").symlink_to(tmp_path / "sparse.json")
    for name in ("sparse.json", "link.json", "none.json"):
        with pytest.raises(InputError, match="must be a file of at most"):
            read_json(tmp_path / name)
