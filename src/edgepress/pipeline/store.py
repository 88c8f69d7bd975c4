"""A run's directory: every step's result named by what went into it, whole or not there, checked when reused.

    run.lock                      held while a run works here
    recipe.resolved.yaml          what is being run, with every default
    scratch/                      checkpoints of the step at work, for the attempt after a kill
    steps/00-import-0f3a.../      one folder per result, with a `step.json` that lists the digest of every file
    best.json                     which result is the best so far; what it names is always complete
    log.jsonl                     what happened when: the only file with times in it

Killed at any moment, a run leaves finished results and at most some temporary folders, which the next run removes.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from edgepress.errors import UserError
from edgepress.pipeline.atomic import TEMPORARY, discard, disk_errors, not_writable, sync, sync_tree, write_bytes
from edgepress.pipeline.digest import code_digest, data_digest, folder_digests, tool_versions
from edgepress.pipeline.lock import RunLock

MANIFEST = "step.json"
LOCK = "run.lock"
RECIPE = "recipe.resolved.yaml"
BEST = "best.json"
LOG = "log.jsonl"

TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")
"""Their versions are part of every key: another version may give other bytes."""


class RunStore:
    """An opened run directory. Use as a context manager, or `close` it.

    Attributes:
        root: the directory. home: where its own files (recipe, evidence, best) lie: the root, but for a branch.
        notes: what a reader of the report should know (damaged results that were recomputed).
    """

    def __init__(self, root: Path) -> None:
        """Create the directory where needed, lock it, and clear what a killed run left behind.

        Raises:
            UserError: not writable, in use by another run, or a folder that holds something else.
            ToolError: the disk is full or broken.
        """
        self.root = self.home = root.absolute()
        self.notes: list[str] = []
        self._opened = 0
        try:
            with disk_errors(root):
                self._lock = _take(self.root)
        except OSError as error:
            raise not_writable(root, error) from error
        try:
            self._clear_leftovers()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "RunStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others in."""
        self._lock.release()

    def step(self, kind: str, key_parts: Mapping[str, object]) -> "StepSlot":
        """The place of the next step's result. Call it once per step, in the order of the steps.

        Args:
            kind: "import", "prune", ...
            key_parts: plain data that decides the result: digest of the input, settings, seed. edgepress's code and the
                versions of the tools it works with are added here.
        """
        slot = StepSlot(self, self._opened, kind, key_parts)
        self._opened += 1
        return slot

    def scratch(self, slot: "StepSlot") -> Path:
        """A folder for what an unfinished step wants to find again after a kill (checkpoints)."""
        path = self.root / "scratch" / slot.path.name
        with disk_errors(self.root):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def clear_scratch(self, slot: "StepSlot") -> None:
        """Remove the scratch folder of a step that is finished."""
        discard(self.scratch(slot))

    def branch(self, name: str) -> "Branch":
        """A run beside this one that shares its results, with recipe, evidence and best in a folder of its own.

        Args:
            name: of the folder, relative to the root.
        """
        return Branch(self, name)

    def put(self, name: str, content: str | bytes) -> Path:
        """Write a file at the top of the directory (recipe, report, evidence) whole or not at all."""
        path = self.home / name
        write_bytes(path, content.encode() if isinstance(content, str) else content)
        return path

    def set_best(self, result: Path, facts: Mapping[str, object]) -> None:
        """Point to the best result so far.

        Args:
            result: a folder that `StepSlot.load` returned. facts: why it is the best, e.g. {"accuracy": 0.97}.
        """
        name = self.shown(result)
        self.put(BEST, _json({"result": name, "facts": dict(facts)}))

    def best(self) -> Path | None:
        """The best result so far, `None` before there is one or where it was deleted."""
        try:
            path: Path = self.home / json.loads((self.home / BEST).read_bytes())["result"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return path if (path / MANIFEST).is_file() else None

    def best_facts(self) -> dict[str, float] | None:
        """What `set_best` was told of the best result, `None` before there is one."""
        if self.best() is None:
            return None
        return dict(json.loads((self.home / BEST).read_bytes())["facts"])

    def shown(self, path: Path) -> str:
        """A path inside the directory as the files in `home` write it."""
        return Path(os.path.relpath(path, self.home)).as_posix()

    def log(self, event: str, **facts: object) -> None:
        """Append a line to the log: {"time": ..., "event": ..., facts}."""
        entry = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts}
        with disk_errors(self.root), (self.root / LOG).open("ab") as file:
            torn = file.tell() > 0 and _last_byte(self.root / LOG) != b"\n"
            file.write((b"\n" if torn else b"") + json.dumps(entry).encode() + b"\n")

    def events(self) -> Iterator[dict[str, Any]]:
        """The log's entries in order. A line that a crash cut short is left out."""
        path = self.root / LOG
        for line in path.read_bytes().splitlines() if path.exists() else []:
            try:
                yield json.loads(line)
            except ValueError:
                continue

    def _clear_leftovers(self) -> None:
        with disk_errors(self.root):
            (self.root / "steps").mkdir(exist_ok=True)
        for folder in (self.root, self.root / "steps"):
            for path in folder.glob(f"{TEMPORARY}*"):
                discard(path)


class Branch(RunStore):
    """See `RunStore.branch`. The store it belongs to holds the lock and must stay open."""

    def __init__(self, store: RunStore, name: str) -> None:
        self.root, self.home = store.root, store.root / name
        self.notes, self._opened = [], 0
        with disk_errors(self.root):
            self.home.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Nothing is held."""


class StepSlot:
    """Where one step's result is, or will be.

    Attributes:
        number, kind: position and kind of the step. key: sha256 of everything that decides the result.
    """

    def __init__(self, store: RunStore, number: int, kind: str, key_parts: Mapping[str, object]) -> None:
        self._store = store
        self.number = number
        self.kind = kind
        self.key_parts = {**key_parts, "code": code_digest(), "tools": tool_versions(TOOLS)}
        self.key = data_digest({"kind": kind, "parts": self.key_parts})

    @property
    def path(self) -> Path:
        """The folder of the result, whether it is there or not."""
        return self._store.root / "steps" / f"{self.number:02d}-{self.kind}-{self.key[:12]}"

    @cached_property
    def _temporary(self) -> Path:
        # The same name each time, so that a path that slips into a file does not make two runs differ.
        return self.path.with_name(f"{TEMPORARY}{self.path.name}")

    def load(self) -> Path | None:
        """The finished result, every file verified against its digest; `None` if there is none.

        A damaged result counts as none; `RunStore.notes` and the log tell of it.
        """
        if not self.path.exists():
            return None
        if damage := self._damage():
            self._store.notes.append(f"the stored result {self.path.name} was damaged and is made anew: {damage}")
            self._store.log("damaged", step=self.path.name, damage=damage)
            return None
        return self.path

    @contextmanager
    def write(self) -> Iterator[Path]:
        """Yield a temporary folder; at the end of the block it becomes the result, at once and on disk.

        If the block raises, nothing is left of it.

        Raises:
            ToolError: the disk is full or broken. UserError: the directory may not be written.
        """
        discard(self._temporary)
        try:
            with disk_errors(self._store.root):  # looks at the free space, so before it is given back
                self._temporary.mkdir()
                yield self._temporary
                self._finish()
        finally:
            discard(self._temporary)

    def digest(self) -> str:
        """sha256 over the files of the finished result: what the next step names as its input."""
        return data_digest(json.loads((self.path / MANIFEST).read_bytes())["files"])

    def _finish(self) -> None:
        manifest = {
            "schema": 1,
            "kind": self.kind,
            "key": self.key,
            "key_parts": self.key_parts,
            "files": folder_digests(self._temporary),
        }
        (self._temporary / MANIFEST).write_bytes(_json(manifest))
        sync_tree(self._temporary)
        if self.path.exists():  # damaged: `load` said so
            damaged = self.path.with_name(f"{TEMPORARY}damaged-{self.path.name}")
            self.path.rename(damaged)
            discard(damaged)
        self._temporary.rename(self.path)
        sync(self.path.parent)

    def _damage(self) -> str:
        """What is wrong with the stored result, "" if nothing is."""
        try:
            manifest = json.loads((self.path / MANIFEST).read_bytes())
            expected, key = dict(manifest["files"]), manifest["key"]
            found = folder_digests(self.path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"{MANIFEST}: {error}"
        found.pop(MANIFEST, None)
        if key != self.key:
            return f"{MANIFEST} names another key"
        changed = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        return ", ".join(changed)


def _json(data: Mapping[str, object]) -> bytes:
    return json.dumps(data, indent=2, sort_keys=True).encode() + b"\n"


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)


def _take(root: Path) -> RunLock:
    root.mkdir(parents=True, exist_ok=True)
    _refuse_foreign(root)
    return RunLock(root / LOCK)


def _refuse_foreign(root: Path) -> None:
    """A folder with other things in it is not ours to write to."""
    entries = sorted(entry.name for entry in root.iterdir())
    if entries and LOCK not in entries:
        raise UserError(
            f"{root} is not a run directory",
            found=", ".join(entries[:3]) + (" ..." if len(entries) > 3 else ""),
            expected="an empty or new folder, or that of an earlier run",
            fix=f"--out {root / 'run'}",
        )
