"""Works off a small chain of steps in a run directory, and can kill itself at the n-th touch of the disk.

    python store_driver.py ROOT [--kill-at N] [--pause SECONDS]

Prints `made KIND` or `reused KIND` per step, and at the end `touches N`: how many touches there were. A touch is
counted just before every file opened, renamed, removed, flushed or written to below ROOT.
"""

import argparse
import hashlib
import os
import signal
import sys
import time
from pathlib import Path

from edgepress.pipeline.digest import data_digest
from edgepress.pipeline.store import RECIPE, RunStore

WATCHED = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}
KINDS = ("import", "prune", "train", "export")


class Killer:
    """Counts touches of the disk below a folder and dies, without a chance to clean up, at a given one."""

    def __init__(self, root: Path, kill_at: int | None, pause: float) -> None:
        self.root, self.kill_at, self.pause, self.touches = str(root), kill_at, pause, 0
        sys.addaudithook(self._audit)
        self._fsync = os.fsync
        os.fsync = self._counted_fsync

    def touch(self) -> None:
        self.touches += 1
        if self.touches == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.pause)

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in WATCHED and str(arguments[0]).startswith(self.root):
            self.touch()

    def _counted_fsync(self, descriptor: int) -> None:
        self.touch()
        self._fsync(descriptor)


def write_slowly(path: Path, seed: str, killer: Killer) -> None:
    with path.open("wb", buffering=0) as file:
        for part in range(3):
            killer.touch()
            file.write(hashlib.sha256(f"{seed}/{path.name}/{part}".encode()).digest() * 100)


def work(store: RunStore, killer: Killer) -> None:
    store.put(RECIPE, "name: driver\n")
    digest = data_digest("the model")
    for kind in KINDS:
        slot = store.step(kind, {"input": digest, "settings": {"kind": kind}})
        if slot.load():
            print("reused", kind, flush=True)
        else:
            with slot.write() as folder:
                (folder / "deep").mkdir()
                for name in ("weights.bin", "deep/graph.bin"):
                    write_slowly(folder / name, digest, killer)
            print("made", kind, flush=True)
        digest = slot.digest()
        store.set_best(slot.path, {"digest": digest})
        store.log("step", kind=kind)
    store.put("evidence.json", digest)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--kill-at", type=int)
    parser.add_argument("--pause", type=float, default=0)
    options = parser.parse_args()
    killer = Killer(options.root.absolute(), options.kill_at, options.pause)
    with RunStore(options.root) as store:
        work(store, killer)
    print("touches", killer.touches)


if __name__ == "__main__":
    main()
