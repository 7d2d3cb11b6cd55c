"""Real servers, in processes of their own."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from recsys.serving.options import ServeOptions
from recsys.serving.server import OPTIONS, options_to_json
from tests.serving.brokers import free_port


class Server:
    """A server that can be killed and started again on the same folder and port."""

    def __init__(self, bundle: Path, folder: Path, **changes) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.options = ServeOptions(
            bundle=bundle, folder=folder, **{"port": free_port(), "max_gigabytes": 2.0, **changes}
        )
        self.url = f"http://127.0.0.1:{self.options.port}"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "recsys.serving.server"],
            env={**os.environ, OPTIONS: options_to_json(self.options)},
            start_new_session=True,
        )
        self.wait()

    def wait(self, seconds: float = 60) -> float:
        """Seconds until it answers."""
        begin = time.monotonic()
        while time.monotonic() < begin + seconds:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(self.url + "/ready", timeout=5).status_code == 200:
                    return time.monotonic() - begin
            assert self.process.poll() is None, "the server has ended"
            time.sleep(0.05)
        raise AssertionError("the server did not answer")

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=20)


@contextlib.contextmanager
def server(bundle: Path, folder: Path, **changes) -> Iterator[Server]:
    made = Server(bundle, folder, **changes)
    made.start()
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.kill()
