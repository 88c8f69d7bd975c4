"""How deep the stack can get: the longest path through the call graph that gcc writes (-fcallgraph-info=su).

Functions that are all assembly say their depth in a comment of their kernel ("stack NAME BYTES"): the compiler cannot.
Integer helpers of the compiler's library are leaves or nearly so; LIBRARY_BYTES is more than the deepest of them takes
(64-bit division in libgcc 12 for Armv6-M).
"""

import re
from functools import cache
from pathlib import Path

LIBRARY_BYTES = 96
LIBRARY = re.compile(r"__aeabi_\w+|__(u?div|u?mod|mul|ashl|ashr|lshr|clz)\w*|mem(cpy|set|move)")
NODE = re.compile(r'node: \{ title: "([^"]+)" label: "([^"]*)"')
FRAME = re.compile(r"(\d+) bytes \(static\)")
EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')
ASSEMBLY = re.compile(r"\bstack (ep_\w+) (\d+)\b")


def bound(build: Path, sources: Path, entry: str) -> int | None:
    """Most bytes of stack below (and with) `entry`; None if it is unknown: another compiler, recursion, open calls.

    build: the folder with gcc's .ci files. sources: the artifact, whose kernels declare what assembly takes.
    """
    frames, calls = _read(build)
    assembly = {name: int(size) for kernel in sorted((sources / "kernels").glob("*.h"))
                for name, size in ASSEMBLY.findall(kernel.read_text())}  # fmt: skip
    active: set[str] = set()

    @cache
    def depth(name: str) -> int | None:
        short = name.rpartition(":")[2].partition(".")[0]
        if short in assembly:
            return assembly[short]
        if frames.get(name) is None:
            return LIBRARY_BYTES if LIBRARY.fullmatch(name) else None
        if name in active:
            return None
        active.add(name)
        below = [depth(target) for target in sorted(calls.get(name, set()))]
        active.discard(name)
        known = [size for size in below if size is not None]
        return None if len(known) < len(below) else (frames[name] or 0) + max(known, default=0)

    found = [name for name in frames if name.rpartition(":")[2] == entry]
    return depth(found[0]) if found else None


def _read(build: Path) -> tuple[dict[str, int | None], dict[str, set[str]]]:
    """Frame of each function (None: not known, or not of fixed size), and whom it calls."""
    frames: dict[str, int | None] = {}
    calls: dict[str, set[str]] = {}
    for path in sorted(build.glob("*.ci")):
        text = path.read_text()
        for name, label in NODE.findall(text):
            size = FRAME.search(label)
            if size or name not in frames:  # a function defined in another file appears without its size
                frames[name] = int(size.group(1)) if size else None
        for source, target in EDGE.findall(text):
            calls.setdefault(source, set()).add(target)
    return frames, calls
