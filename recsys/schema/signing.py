"""Signatures of bundles: who has made one, where a checksum only says that it is whole.

Keys are ed25519 in PEM, as OpenSSL makes them:

    openssl genpkey -algorithm ed25519 -out key.pem         # to sign with; keep it to yourself
    openssl pkey -in key.pem -pubout -out key.pub.pem       # to verify with; give it to who serves

Reference: Josefsson, Liusvaara, "Edwards-Curve Digital Signature Algorithm (EdDSA)", 2017, RFC 8032.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys.schema.errors import InputError
from recsys.schema.manifest import file_sha256

SIGNED = "signed"
_ALGORITHM = "ed25519"
# What changes whenever a manifest is written, or follows from what is signed.
_NOT_SIGNED = (SIGNED, "checksum", "format", "version", "fingerprint", "source", "created", "commit")


def sign(folder: Path, manifest: Mapping[str, Any], key: Path) -> dict[str, str]:
    """The signature of all files in a folder and of what its manifest will say of them.

    Args:
        folder: whole, but for its manifest.
        manifest: its keys, `config` among them, without `files`.
        key: private key.

    Raises:
        InputError: the key can't be read, or `cryptography` is not installed.
    """
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in folder.rglob("*")
        if path.is_file()
    }
    signature = _private_key(key).sign(_statement({**manifest, "files": files}))
    return {"algorithm": _ALGORITHM, "signature": signature.hex()}


def verify(folder: Path, manifest: Mapping[str, Any], key: Path) -> None:
    """Raises unless the owner of a key has signed this manifest; its files have been compared with it.

    Args:
        folder: of the manifest, for messages.
        manifest: as it was read.
        key: public key.

    Raises:
        InputError: there is no signature, it is another's, or something was changed since.
    """
    public = _public_key(key)
    from cryptography.exceptions import InvalidSignature  # it is there, where a key was read

    signed = manifest.get(SIGNED)
    if not isinstance(signed, dict) or signed.get("algorithm") != _ALGORITHM:
        raise InputError(
            f"`{folder}` must be signed to be verified by `{key}`, but nobody has signed it; export it with "
            "`export.sign=KEY`"
        )
    try:
        public.verify(bytes.fromhex(str(signed.get("signature"))), _statement(manifest))
    except (InvalidSignature, ValueError) as error:
        raise InputError(
            f"`{folder}` must be signed with the key that belongs to `{key}`; the signature is another's, or "
            "the bundle was changed after it was signed; do not use it"
        ) from error


def _statement(manifest: Mapping[str, Any]) -> bytes:
    said = {name: value for name, value in manifest.items() if name not in _NOT_SIGNED}
    return json.dumps(said, sort_keys=True, default=str).encode()


def _private_key(key: Path) -> Any:
    serialization, ed25519 = _cryptography()
    try:
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(key, "private", error) from error
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise _unreadable(key, "private", "it is of another kind")
    return private


def _public_key(key: Path) -> Any:
    serialization, ed25519 = _cryptography()
    try:
        public = serialization.load_pem_public_key(key.read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(key, "public", error) from error
    if not isinstance(public, ed25519.Ed25519PublicKey):
        raise _unreadable(key, "public", "it is of another kind")
    return public


def _unreadable(key: Path, side: str, reason: object) -> InputError:
    return InputError(
        f"`{key}` must be a {side} ed25519 key in PEM without a password, as `openssl genpkey -algorithm "
        f"ed25519 -out key.pem` and `openssl pkey -in key.pem -pubout -out key.pub.pem` make them; {reason}"
    )


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise InputError(
            f"to sign and to verify takes `cryptography`, which can't be imported ({error}); install the "
            "extra `sign` of this package"
        ) from error
    return serialization, ed25519
