"""Two hosts on one machine: namespaces of network, host name and processes, with a cable between them.

    first 10.77.0.1  ---- veth ----  second 10.77.0.2

Each host knows the other by name only, sees no process but its own, and dies as at a power cut: at once and
without a last word on the cable. The file system is what they share.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ADDRESSES = {"first": "10.77.0.1", "second": "10.77.0.2"}
_CABLE = "eth0"


def can_make_hosts() -> bool:
    """True for root on a system that makes network namespaces."""
    if os.geteuid() != 0 or not all(shutil.which(name) for name in ("ip", "tc", "unshare")):
        return False
    name = f"trial-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        return False
    subprocess.run(["ip", "netns", "delete", name], check=True)
    return True


class Host:
    """One of the two hosts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.namespace = f"recsys-{name}-{os.getpid()}"
        self._names = Path("/etc/netns", self.namespace)  # what `ip netns exec` lays over /etc
        self._jobs: list[subprocess.Popen] = []

    def start(self, command: list[str], log: Path) -> subprocess.Popen:
        """Starts a command on this host; what it says goes to `log`."""
        inner = f'mount --bind {self._names}/hosts /etc/hosts; hostname {self.name}; exec "$@"'
        enter = ["ip", "netns", "exec", self.namespace, "unshare", "--uts", "--pid", "--mount-proc", "--fork"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        with log.open("a") as sink:
            job = subprocess.Popen(
                [*enter, "--kill-child", "sh", "-c", inner, "sh", *command],
                cwd=ROOT,
                stdout=sink,
                stderr=sink,
                env=environment,
            )
        self._jobs.append(job)
        return job

    def cut(self) -> None:
        """Pulls the cable."""
        self._ip("link", "set", _CABLE, "down")

    def mend(self) -> None:
        """Plugs the cable in again."""
        self._ip("link", "set", _CABLE, "up")

    def slow(self, rate: str) -> None:
        """Lets no more than `rate` (as of tc, `2mbit`) out on the cable."""
        shape = ["tbf", "rate", rate, "burst", "16kb", "latency", "400ms"]
        inside = ["ip", "netns", "exec", self.namespace]
        subprocess.run([*inside, "tc", "qdisc", "replace", "dev", _CABLE, "root", *shape], check=True)

    def die(self) -> None:
        """Pulls the cable and kills every process, so that the other host hears nothing of it."""
        self.cut()
        for job in self._jobs:
            if job.poll() is None:
                job.send_signal(signal.SIGKILL)
            job.wait()
        self._jobs.clear()

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", "-n", self.namespace, *arguments], check=True)

    def _build(self) -> None:
        self._names.mkdir(parents=True)
        lines = [f"{address} {name}" for name, address in ADDRESSES.items()]
        (self._names / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        subprocess.run(["ip", "netns", "add", self.namespace], check=True)
        self._ip("link", "set", "lo", "up")

    def _remove(self) -> None:
        for job in self._jobs:
            job.kill()
            job.wait()
        subprocess.run(["ip", "netns", "delete", self.namespace], check=False)
        shutil.rmtree(self._names, ignore_errors=True)


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Yields two hosts with a cable between them, and takes them down again."""
    first, second = Host("first"), Host("second")
    try:
        for host in (first, second):
            host._build()
        ends = [["netns", host.namespace] for host in (first, second)]
        command = ["ip", "link", "add", _CABLE, *ends[0], "type", "veth", "peer", "name", _CABLE, *ends[1]]
        subprocess.run(command, check=True)
        for host in (first, second):
            host._ip("address", "add", f"{ADDRESSES[host.name]}/24", "dev", _CABLE)
            host.mend()
        yield first, second
    finally:
        for host in (first, second):
            host._remove()


def wait_for(happened, job: subprocess.Popen, log: Path, *, seconds: float = 180) -> None:
    """Waits until `happened()` is true, while `job` runs."""
    end = time.monotonic() + seconds
    while not happened():
        assert job.poll() is None, f"ended early with {job.returncode}:\n{log.read_text()[-4000:]}"
        assert time.monotonic() < end, f"nothing for {seconds} s:\n{log.read_text()[-4000:]}"
        time.sleep(0.05)
