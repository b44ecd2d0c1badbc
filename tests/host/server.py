"""Starts the real ComfyUI as a process of its own, with a copy of this pack in its `custom_nodes`."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.host.api import Client

# Unlike any name in the code. Without a blank: for such a folder the host itself serves neither templates nor help.
MODULE = "Ada.diff-SR_pack(v0.1)"
FLAGS = ["--cpu", "--disable-auto-launch", "--disable-api-nodes", "--preview-method", "latent2rgb"]
BROKEN = re.compile(r"\berror|exception|traceback|failed", re.IGNORECASE)
START_SECONDS, STOP_SECONDS = 120, 10


class Server:
    """A running host.

    Attributes:
        folder: its base directory, with `input`, `output`, `models` and `custom_nodes`.
        address: where it listens, `http://127.0.0.1:<port>`.
        pack: the copy of the pack that it loaded.
        startup: what it printed until it answered.
    """

    def __init__(self, host: Path, pack: Path, folder: Path, model_paths: Path | None = None):
        """Start it and wait until it answers.

        Args:
            host: a checkout of ComfyUI.
            pack: the repository of this pack.
            folder: an empty folder for all that the host writes.
            model_paths: an `extra_model_paths.yaml`, or None.

        Raises:
            RuntimeError: it ended, or did not answer in time; with its log.
        """
        self.folder, self.pack = folder, folder / "custom_nodes" / MODULE
        for name in ("input", "output", "models", "user", "temp"):
            (folder / name).mkdir()
        copy_pack(pack, self.pack)
        port = find_free_port()
        self.address = f"http://127.0.0.1:{port}"
        flags = [*FLAGS, "--port", str(port), "--base-directory", str(folder), "--database-url", "sqlite:///:memory:"]
        if model_paths is not None:
            flags += ["--extra-model-paths-config", str(model_paths)]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "main.py", *flags], cwd=host, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        self.startup = self.log()

    @property
    def _log_file(self) -> Path:
        return self.folder / "server.log"

    def log(self, since: int = 0) -> str:
        """What it printed after the first `since` characters."""
        return self._log_file.read_text(encoding="utf-8", errors="replace")[since:]

    def complaints(self, since: int = 0) -> list[str]:
        """Lines of the log, after its first `since` characters, that tell of something broken."""
        return find_complaints(self.log(since))

    def stop(self) -> None:
        """Ask it to end, then make it."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """End it as a failing machine would, at once."""
        self._process.kill()
        self._process.wait()

    def _wait_until_ready(self) -> None:
        client, deadline = Client(self.address), time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended with {self._process.returncode}:\n{self.log()}")
            try:
                client.get("/system_stats")
            except OSError:
                time.sleep(0.2)
            else:
                return
        raise RuntimeError(f"ComfyUI did not answer within {START_SECONDS} s:\n{self.log()}")


def find_complaints(log: str) -> list[str]:
    """Lines that tell of something broken."""
    return [line for line in log.splitlines() if BROKEN.search(line)]


def copy_pack(pack: Path, target: Path) -> None:
    """Copy the files that git knows or would take, so that nothing outside them can help."""
    listing = ["git", "-C", str(pack), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if not (pack / ".git").exists():
        shutil.copytree(pack, target, ignore=shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info"))
        return
    names = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split("\0")
    for file in (pack / name for name in names if name):
        if file.is_file():  # git also lists files that are deleted but not yet committed so
            copy = target / file.relative_to(pack)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def find_free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
