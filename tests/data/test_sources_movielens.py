import hashlib
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from recsys.data.sources import movielens
from recsys.data.sources.movielens import MovieLens
from recsys.data.sources.movielens_layouts import split_title

# The official files are in Latin-1, which cannot be read as UTF-8.
OFFICIAL_100K = {
    "u.data": b"196\t242\t3\t881250949\n186\t543\t5\t891717742\n",
    "u.user": b"196|49|M|writer|55105\n186|39|F|executive|T8H1N\n",
    "u.item": (
        "242|Kolya (1996)|24-Jan-1997||http://x|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
        "267|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
        "543|Mis\u00e9rables, Les (1995)|01-Jan-1995||http://x|0|0|0|0|0|0|0|0|1|0|0|0|1|0|0|0|0|0|0\n"
        "1412|Land Before Time III: The Time of the Great Giving (1995) (V)|01-Jan-1995||http://x"
        "|0|0|0|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
    ).encode("latin-1"),
}
RECBOLE_100K = {
    "ml-100k.inter": (
        b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        b"196\t242\t3\t881250949\n186\t543\t5\t891717742.0\n"
    ),
    "ml-100k.user": (
        b"user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        b"196\t49\tM\twriter\t55105\n186\t39\tF\texecutive\tT8H1N\n"
    ),
    "ml-100k.item": (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "242\tKolya\t1996\tComedy\n"
        "267\tunkonwn\tunkonwn\tunknown\n"
        "543\tMis\u00e9rables, Les\t1995\tDrama Musical\n"
        "1412\tLand Before Time III: The Time of the Great Giving (1995)\tV\tAnimation Children's\n"
    ).encode(),
}
OFFICIAL_1M = {
    "ratings.dat": b"1::1193::5::978300760\n6040::661::3::978302109\n",
    "users.dat": b"1::F::1::10::48067\n6040::M::25::6::11106-2100\n",
    "movies.dat": (
        "661::James and the Giant Peach (1996)::Animation|Children's|Musical\n"
        "1193::Cit\u00e9: des enfants (1995)::Fantasy|Sci-Fi\n"
    ).encode("latin-1"),
}
RECBOLE_1M = {
    "ml-1m.inter": (
        b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        b"1\t1193\t5\t978300760\n6040\t661\t3\t978302109\n"
    ),
    "ml-1m.user": (
        b"user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        b"1\t1\tF\t10\t48067\n6040\t25\tM\t6\t11106-2100\n"
    ),
    "ml-1m.item": (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tgenre:token_seq\n"
        "661\tJames and the Giant Peach\t1996\tAnimation Children's Musical\n"
        "1193\tCit\u00e9: des enfants\t1995\tFantasy Sci-Fi\n"
    ).encode(),
}
OFFICIAL_20M = {
    "ratings.csv": b"userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n138493,131262,0.5,1255805693\n",
    "movies.csv": (
        'movieId,title,genres\n2,"American President, The (1995)",Comedy|Drama\n'
        "131262,Babylon 5,(no genres listed)\n8,Caf\u00e9 (2006\u20132007) ,Sci-Fi|IMAX\n"
    ).encode(),
}


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, contents in files.items():
        (folder / name).write_bytes(contents)
    return folder


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, contents in files.items():
            archive.writestr(name, contents)
    return path


def read_tables(source: MovieLens, cache_dir: Path) -> dict[str, list[dict[str, Any]]]:
    tables = source.tables(cache_dir)
    paths = {"interactions": tables.interactions, "users": tables.users, "items": tables.items}
    return {name: pq.read_table(path).to_pylist() for name, path in paths.items() if path is not None}


def test_official_100k_files_become_the_documented_tables(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "files" / "ml-100k", OFFICIAL_100K)
    tables = read_tables(MovieLens("100k", path=str(folder.parent)), tmp_path / "cache")
    assert tables["interactions"] == [
        {"user_id": 196, "item_id": 242, "rating": 3.0, "timestamp": 881250949},
        {"user_id": 186, "item_id": 543, "rating": 5.0, "timestamp": 891717742},
    ]
    assert tables["users"] == [
        {"user_id": 196, "age": 49, "gender": "M", "occupation": "writer", "zip_code": "55105"},
        {"user_id": 186, "age": 39, "gender": "F", "occupation": "executive", "zip_code": "T8H1N"},
    ]
    assert tables["items"] == [
        {"item_id": 242, "title": "Kolya", "genres": ["Comedy"], "release_year": 1996},
        {"item_id": 267, "title": "unknown", "genres": [], "release_year": None},
        {
            "item_id": 543,
            "title": "Mis\u00e9rables, Les",
            "genres": ["Drama", "Musical"],
            "release_year": 1995,
        },
        {
            "item_id": 1412,
            "title": "Land Before Time III: The Time of the Great Giving",
            "genres": ["Animation", "Children's"],
            "release_year": 1995,
        },
    ]


def test_genre_flags_of_u_item_have_the_names_of_the_u_genre_file(tmp_path: Path) -> None:
    first_and_last = b"1|X (1990)|||http://x|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|1\n"
    film_noir_and_sci_fi = b"2|Y (1990)|||http://x|0|0|0|0|0|0|0|0|0|0|1|0|0|0|0|1|0|0|0\n"
    files = {**OFFICIAL_100K, "u.item": first_and_last + film_noir_and_sci_fi}
    items = read_tables(MovieLens(path=str(write_files(tmp_path / "files", files))), tmp_path)["items"]
    assert [item["genres"] for item in items] == [["Action", "Western"], ["Film-Noir", "Sci-Fi"]]


@pytest.mark.parametrize(
    ("variant", "official", "recbole"),
    [("100k", OFFICIAL_100K, RECBOLE_100K), ("1m", OFFICIAL_1M, RECBOLE_1M)],
)
def test_official_and_recbole_layouts_give_equal_tables(
    variant: Any, official: dict[str, bytes], recbole: dict[str, bytes], tmp_path: Path
) -> None:
    from_official = MovieLens(variant, path=str(write_files(tmp_path / "official", official)))
    from_recbole = MovieLens(variant, path=str(write_files(tmp_path / "recbole", recbole)))
    assert read_tables(from_official, tmp_path) == read_tables(from_recbole, tmp_path)


def test_1m_files_with_double_colons_and_gender_before_age_are_read(tmp_path: Path) -> None:
    tables = read_tables(MovieLens("1m", path=str(write_files(tmp_path / "files", OFFICIAL_1M))), tmp_path)
    assert tables["interactions"][1] == {
        "user_id": 6040,
        "item_id": 661,
        "rating": 3.0,
        "timestamp": 978302109,
    }
    assert tables["users"][1] == {
        "user_id": 6040,
        "age": 25,
        "gender": "M",
        "occupation": "6",
        "zip_code": "11106-2100",
    }
    assert tables["items"][1] == {
        "item_id": 1193,
        "title": "Cit\u00e9: des enfants",
        "genres": ["Fantasy", "Sci-Fi"],
        "release_year": 1995,
    }


@pytest.mark.parametrize("variant", ["20m", "32m"])
def test_20m_and_32m_files_are_read_and_have_no_users(variant: Any, tmp_path: Path) -> None:
    source = MovieLens(variant, path=str(write_files(tmp_path / "files", OFFICIAL_20M)))
    tables = read_tables(source, tmp_path)
    assert tables == {
        "interactions": [
            {"user_id": 1, "item_id": 2, "rating": 3.5, "timestamp": 1112486027},
            {"user_id": 138493, "item_id": 131262, "rating": 0.5, "timestamp": 1255805693},
        ],
        "items": [
            {
                "item_id": 2,
                "title": "American President, The",
                "genres": ["Comedy", "Drama"],
                "release_year": 1995,
            },
            {"item_id": 131262, "title": "Babylon 5", "genres": [], "release_year": None},
            {"item_id": 8, "title": "Caf\u00e9", "genres": ["Sci-Fi", "IMAX"], "release_year": 2006},
        ],
    }


def test_a_zip_with_other_files_beside_is_read(tmp_path: Path) -> None:
    files = {f"ml-100k/{name}": contents for name, contents in OFFICIAL_100K.items()}
    archive = write_zip(tmp_path / "copy.zip", {"README": b"read me", **files})
    folder = write_files(tmp_path / "folder", OFFICIAL_100K)
    from_zip = read_tables(MovieLens(path=str(archive)), tmp_path / "a")
    assert from_zip == read_tables(MovieLens(path=str(folder)), tmp_path / "b")


def test_a_year_is_taken_off_a_title_only_where_it_ends_it() -> None:
    assert split_title("2001: A Space Odyssey (1968)") == ("2001: A Space Odyssey", 1968)
    assert split_title("Seven (a.k.a. Se7en) (1995)") == ("Seven (a.k.a. Se7en)", 1995)
    assert split_title("Heidi Fleiss: Hollywood Madam (1995) ") == ("Heidi Fleiss: Hollywood Madam", 1995)
    assert split_title("Class of (1984) Revisited") == ("Class of (1984) Revisited", None)


def test_tables_are_converted_once_and_again_when_the_copy_changes(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "files", OFFICIAL_100K)
    source = MovieLens(path=str(folder))
    first = source.tables(tmp_path / "cache").interactions.stat().st_mtime_ns
    assert source.tables(tmp_path / "cache").interactions.stat().st_mtime_ns == first
    (folder / "u.data").write_bytes(b"196\t242\t3\t881250949\n")
    assert len(read_tables(source, tmp_path / "cache")["interactions"]) == 1


def test_nothing_is_left_in_the_cache_when_a_file_is_damaged(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "files", {**OFFICIAL_100K, "u.user": b"196|49|M|writer|55105\n186|39\n"})
    with pytest.raises(ValueError, match=r"u\.user`, line 2: expected a row .*got `186\|39`"):
        MovieLens(path=str(folder)).tables(tmp_path / "cache")
    assert list((tmp_path / "cache" / "raw").iterdir()) == []


def test_unreadable_ratings_name_file_and_columns(tmp_path: Path) -> None:
    folder = write_files(
        tmp_path / "files", {**OFFICIAL_100K, "u.data": b"196\t242\t3\t881250949\n1\tx\t3\t4\n"}
    )
    with pytest.raises(ValueError, match=r"u\.data`: expected columns user_id, item_id, rating, timestamp"):
        MovieLens(path=str(folder)).tables(tmp_path / "cache")


def test_a_folder_without_the_files_is_refused_with_what_is_wanted_and_found(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "files", {"u.data": b"", "notes.txt": b""})
    wanted = (
        r"u\.data, u\.user, u\.item \(official\); or ml-100k\.inter, ml-100k\.item, ml-100k\.user \(recbole\)"
    )
    with pytest.raises(ValueError, match=wanted + r"; found notes\.txt, u\.data"):
        MovieLens(path=str(folder)).tables(tmp_path / "cache")


def test_a_missing_path_and_a_file_that_is_no_zip_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"at `data\.source\.path=.*/nowhere`, found nothing"):
        MovieLens(path=str(tmp_path / "nowhere")).tables(tmp_path / "cache")
    (tmp_path / "u.data").write_bytes(b"196\t242\t3\t881250949\n")
    with pytest.raises(ValueError, match=r"expected a folder or a zip at `data\.source\.path=.*u\.data`"):
        MovieLens(path=str(tmp_path / "u.data")).tables(tmp_path / "cache")


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"`data\.source\.variant` must be one of 100k, 1m, 20m, 32m, got `10m`"
    ):
        MovieLens("10m")  # type: ignore[arg-type]


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose archive is served in the publisher's place; pip finds nothing."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/ml-{{variant}}.zip"
        monkeypatch.setattr(movielens, "ARCHIVE_URL", address)
        use_only_wheels_in(folder, monkeypatch)
        yield folder
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def use_only_wheels_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def write_wheel(folder: Path) -> None:
    files = {f"recbole/dataset_example/ml-100k/{name}": contents for name, contents in RECBOLE_100K.items()}
    info = {
        "recbole-1.2.1.dist-info/METADATA": b"Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n",
        "recbole-1.2.1.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
        "recbole-1.2.1.dist-info/RECORD": b"",
    }
    write_zip(folder / "recbole-1.2.1-py3-none-any.whl", {**files, **info})


def test_the_archive_is_fetched_when_its_digest_is_the_published_one(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_zip(served / "ml-1m.zip", {f"ml-1m/{name}": text for name, text in OFFICIAL_1M.items()})
    digest = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setitem(movielens.ARCHIVE_MD5, "1m", digest)
    tables = read_tables(MovieLens("1m"), tmp_path / "cache")
    assert [len(tables[name]) for name in ("interactions", "users", "items")] == [2, 2, 2]
    folder = tmp_path / "cache" / "raw" / "movielens_1m"
    assert json.loads((folder / "source.json").read_text())["notes"]["origin"].endswith("/ml-1m.zip")
    assert sorted(path.name for path in folder.iterdir()) == [
        "interactions.parquet",
        "items.parquet",
        "source.json",
        "users.parquet",
    ]


def test_an_archive_with_another_digest_is_refused(served: Path, tmp_path: Path) -> None:
    write_zip(served / "ml-1m.zip", {f"ml-1m/{name}": text for name, text in OFFICIAL_1M.items()})
    with pytest.raises(
        ValueError, match="expected a file with MD5 c4d9eecfca2ab87c1945afe126590906, received"
    ):
        MovieLens("1m").tables(tmp_path / "cache")


def test_the_wheel_serves_100k_when_the_archive_is_out_of_reach(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(served)
    digests = {
        f"recbole/dataset_example/ml-100k/{name}": hashlib.sha256(contents).hexdigest()
        for name, contents in RECBOLE_100K.items()
    }
    monkeypatch.setitem(movielens.WHEEL_MEMBERS, "100k", digests)
    tables = read_tables(MovieLens(), tmp_path / "cache")
    assert tables == read_tables(MovieLens(path=str(write_files(tmp_path / "o", OFFICIAL_100K))), tmp_path)


def test_when_no_way_works_the_error_lists_each_with_its_reason_and_the_key_for_a_local_copy(
    served: Path, tmp_path: Path
) -> None:
    write_wheel(served)  # its files are not those whose digests are known
    with pytest.raises(ValueError, match=r"nothing that was tried works") as caught:
        MovieLens().tables(tmp_path / "cache")
    lines = str(caught.value).splitlines()
    assert lines[1].endswith("/ml-100k.zip: HTTP Error 404: File not found")
    assert lines[2].startswith(
        "  - pip download recbole==1.2.1: expected `recbole/dataset_example/ml-100k/ml-100k.inter`"
    )
    assert "u.data, u.user, u.item or ml-100k.inter" in lines[3]
    assert lines[3].endswith("`data.source.path=DIR`")


def test_reasons_of_a_closed_port_and_of_pip_without_the_wheel_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), QuietHandler) as server:
        closed_port = server.server_port
    monkeypatch.setattr(movielens, "ARCHIVE_URL", f"http://127.0.0.1:{closed_port}/ml-{{variant}}.zip")
    use_only_wheels_in(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=r"nothing that was tried works") as caught:
        MovieLens().tables(tmp_path / "cache")
    archive, wheel = str(caught.value).splitlines()[1:3]
    assert re.search(r"/ml-100k\.zip: \[Errno \d+\] Connection refused$", archive)
    assert wheel.endswith("No matching distribution found for recbole==1.2.1")


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path):
    archive = tmp_path / "ml.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("ml-100k/u.data", b"0" * 40 * 2**20)
    with pytest.raises(ValueError, match=r"that unpack to 41,943,040, more than 100 times as many"):
        MovieLens(path=str(archive)).tables(tmp_path / "cache")
