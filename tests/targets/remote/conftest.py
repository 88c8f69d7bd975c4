"""A real OpenSSH server on the loopback interface, for this user, with keys of its own."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgepress import targets

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


@dataclass
class Server:
    """The running server and what a client needs to know of it."""

    folder: Path
    process: subprocess.Popen[bytes]
    port: int

    @property
    def config(self) -> Path:
        return self.folder / "client_config"

    def target(self, **remote: object) -> targets.Target:
        """A target on this server, reached through an OpenSSH configuration as a user would have one."""
        return targets.Target.model_validate(
            {
                "name": "board",
                "kind": "ssh",
                "capability": "onnxruntime-x86",
                "remote": {
                    "host": "board",
                    "python": sys.executable,
                    "directory": str(self.folder / "far"),
                    "config": str(self.config),
                    "connect_timeout_s": 5,
                    **remote,
                },
            }
        )

    def sessions(self) -> list[int]:
        """Process ids of the server's open connections."""
        return children(self.process.pid)

    def workers(self) -> list[int]:
        """Process ids of workers that run from this server's folder, whoever their parent is by now."""
        start = f"{sys.executable}\0-c\0".encode()
        commands = {int(p.name): read(p / "cmdline") for p in Path("/proc").glob("[0-9]*")}
        needle = str(self.folder / "far").encode()
        return [pid for pid, command in commands.items() if command.startswith(start) and needle in command]


def children(pid: int) -> list[int]:
    return [int(p.name) for p in Path("/proc").glob("[0-9]*") if f"PPid:\t{pid}\n" in read(p / "status").decode()]


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process ended meanwhile
        return b""


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


@pytest.fixture
def eventually() -> Callable[..., bool]:
    """Whether a condition comes true within some seconds."""
    return wait_for


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    if not Path(SSHD).exists() or shutil.which("ssh") is None:
        pytest.skip("needs OpenSSH: apt-get install openssh-server openssh-client")
    folder = Path(tempfile.mkdtemp(prefix="ep-ssh-"))
    process = None
    try:
        port = free_port()
        write_files(folder, port)
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        log = (folder / "log").open("wb")
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
        if not wait_for(lambda: answers(port), 30):
            pytest.fail("sshd does not answer: " + (folder / "log").read_text())
        yield Server(folder, process, port)
    finally:
        if process is not None:
            process.terminate()
            process.wait(5)
        shutil.rmtree(folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 0.2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def write_files(folder: Path, port: int) -> None:
    for name in ("host_key", "client_key", "other_host_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True, capture_output=True
        )
    shutil.copy(folder / "client_key.pub", folder / "authorized_keys")
    host = f"[127.0.0.1]:{port}"
    (folder / "known_hosts").write_text(f"{host} {(folder / 'host_key.pub').read_text()}")
    (folder / "wrong_known_hosts").write_text(f"{host} {(folder / 'other_host_key.pub').read_text()}")
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host_key\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n"
    )
    for name, known in (("client_config", "known_hosts"), ("wrong_client_config", "wrong_known_hosts")):
        (folder / name).write_text(client_config(folder, port, known))


def client_config(folder: Path, port: int, known_hosts: str, key: str = "client_key") -> str:
    return (
        f"Host board\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n"
        f"  IdentityFile {folder}/{key}\n  IdentitiesOnly yes\n  StrictHostKeyChecking yes\n"
        f"  UserKnownHostsFile {folder}/{known_hosts}\n  GlobalKnownHostsFile /dev/null\n"
    )
