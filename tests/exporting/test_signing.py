"""Signed bundles: opened by the key of whoever signed them, by no other and not once changed."""

import json
import shutil
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.exporting.additions import AddItemsConfig, extend_bundle
from recsys.exporting.bundle import export_bundle
from recsys.exporting.options import ExportOptions
from recsys.schema.errors import InputError
from recsys.schema.manifest import write_manifest
from recsys.serving.bundle import Bundle
from tests.exporting.conftest import stage, two_tower

_OF_MANIFEST = (
    "checksum",
    "format",
    "version",
    "fingerprint",
    "source",
    "created",
    "commit",
    "files",
    "config",
)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Private and public key, made by the documented commands, and those of somebody else."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("key", "other"):
        private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
        subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    return folder


@pytest.fixture(scope="module")
def signed(shop, keys, tmp_path_factory):
    options = ExportOptions(parity_rows=15, recorded_requests=7, sign=keys / "key.pem")
    folder = tmp_path_factory.mktemp("signed") / "bundle"
    trained = stage(two_tower(shop), shop, path="runs/1")
    return export_bundle(trained, folder, options=options, config={"seed": 3})


def rewritten(folder, target, change=lambda manifest: None, config=None):
    """A copy whose manifest somebody has written anew, checksum and all."""
    shutil.copytree(folder, target)
    manifest = json.loads((target / "manifest.json").read_text())
    change(manifest)
    kept = {name: manifest[name] for name in manifest if name not in _OF_MANIFEST}
    write_manifest(target, "bundle", config=manifest["config"] if config is None else config, extra=kept)
    return target


def test_a_signed_bundle_opens_with_the_key_of_who_signed_it(signed, keys, tmp_path):
    bundle = Bundle.open(signed, verify=keys / "key.pub.pem")
    assert len(bundle.recommend({}, [], 3)[0]) == 3
    again = rewritten(signed, tmp_path / "again")
    assert Bundle.open(again, verify=str(keys / "key.pub.pem"))
    with pytest.raises(InputError, match=r"must be signed with the key that belongs to `.*other.pub.pem`"):
        Bundle.open(signed, verify=keys / "other.pub.pem")


@pytest.mark.parametrize("part", ["requests.json", "licence", "limits", "config"])
def test_a_bundle_that_was_changed_after_it_was_signed_is_refused(signed, keys, tmp_path, part):
    def change(manifest):
        if part == "licence":
            manifest["licence"] = "free"
        if part == "limits":
            manifest["limits"]["k"] = 10**9
        if part == "requests.json":
            (tmp_path / "bundle" / part).write_text("[]")

    folder = rewritten(signed, tmp_path / "bundle", change, config={"seed": 4} if part == "config" else None)
    Bundle.open(folder)
    with pytest.raises(InputError, match="the signature is another's, or the bundle was changed after"):
        Bundle.open(folder, verify=keys / "key.pub.pem")


def test_what_nobody_has_signed_is_refused_and_so_is_what_is_no_key(retrieval, signed, keys, tmp_path):
    with pytest.raises(InputError, match=r"nobody has signed it; export it with `export.sign=KEY`"):
        Bundle.open(retrieval.folder, verify=keys / "key.pub.pem")
    for path in (keys / "key.pem", tmp_path / "none.pem"):
        with pytest.raises(InputError, match=r"must be a public ed25519 key in PEM .*openssl genpkey"):
            Bundle.open(signed, verify=path)
    with pytest.raises(InputError, match="must be a private ed25519 key"):
        export_bundle(
            stage(retrieval.model, retrieval.dataset),
            tmp_path / "bundle",
            options=ExportOptions(parity_rows=5, sign=keys / "key.pub.pem"),
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_bundle_with_new_items_is_signed_anew_or_not_at_all(signed, keys, tmp_path, caplog):
    pq.write_table(pa.table({"sku": ["fresh"]}), tmp_path / "new.parquet")
    unsigned = extend_bundle(AddItemsConfig(signed, tmp_path / "new.parquet", tmp_path / "unsigned"))
    assert "is signed, the new bundle is not; give `sign=KEY`" in caplog.text
    with pytest.raises(InputError, match="nobody has signed it"):
        Bundle.open(unsigned, verify=keys / "key.pub.pem")
    config = AddItemsConfig(signed, tmp_path / "new.parquet", tmp_path / "again", keys / "key.pem")
    assert Bundle.open(extend_bundle(config), verify=keys / "key.pub.pem")
