"""The guard: quantized networks that are not faster on the target are found out, mended, or left float.

Both networks are exported and profiled kernel by kernel. From what every node took, and what the conversions between
integers and floats took, the cheapest split is computed (`quantize.profit`), quantized, exported and measured again.
In the end all versions run in turns, and the fastest wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program, Refusal
from edgepress.measure.latency import compare_latency
from edgepress.pipeline.kernels import Profile, profile
from edgepress.quantize.place import fusions
from edgepress.quantize.post_training import QuantizeResult, prepare
from edgepress.quantize.profit import Costs, losing_nodes
from edgepress.targets import Target
from edgepress.targets.capability import load_capability
from edgepress.targets.runtimes import Array, open_session

ROUNDS = 4
CLEARLY = 0.97
"""A quantized network counts as faster below this share of the float time."""
SECONDS = 2.0
"""About how long all versions are timed in turns."""
Make = Callable[[Mapping[str, str]], QuantizeResult]


@dataclass(frozen=True)
class Version:
    """One way to quantize, as it was measured.

    Attributes:
        result: what quantization gave. profile: its kernels. ms: its latency, `float_ms`: the float network's in the
            same turns. size, float_size: bytes of the files.
    """

    result: QuantizeResult
    profile: Profile
    path: Path
    ms: float = 0.0
    float_ms: float = 0.0
    size: int = 0
    float_size: int = 0

    @property
    def pays(self) -> bool:
        """Whether it is clearly faster than float, and not larger."""
        return self.ms < CLEARLY * self.float_ms and self.size <= self.float_size


@dataclass(frozen=True)
class Choice:
    """What the guard found.

    Attributes:
        version: the fastest version. complete: the one with everything on integers that the target can.
        refusals: why integers do not pay, where they do not.
    """

    version: Version
    complete: Version
    refusals: tuple[Refusal, ...] = ()

    @property
    def facts(self) -> dict[str, float | int | str]:
        """Figures for the report."""
        v = self.version
        return {
            "float_ms": round(v.float_ms, 4),
            "int8_ms": round(v.ms, 4),
            "speedup": round(v.float_ms / v.ms, 3),
            "float_bytes": v.float_size,
            "int8_bytes": v.size,
        }


def can_time(target: Target) -> bool:
    """Whether the guard can look at kernels there: onnxruntime on this machine's CPU."""
    return target.kind == "local" and target.runtime == "onnxruntime" and target.device == "cpu"


@dataclass
class Guard:
    """Looks for the fastest quantization of one program.

    Attributes:
        program: the float network. make: quantizes it but for the nodes given, node -> why.
        inputs: one sample. target: where it is timed. source: the user's own file, where that is what must be beaten.
        search: whether to try versions with fewer integers.
    """

    program: Program
    make: Make
    inputs: Sequence[torch.Tensor]
    target: Target
    opset: int = 17
    source: Path | None = None
    search: bool = True
    _versions: list[Version] = field(default_factory=list)

    def choose(self) -> Choice:
        """Quantize, measure, drop what loses, measure again; the fastest version and the evidence."""
        with TemporaryDirectory() as name:
            folder = Path(name)
            floating = self._float(folder)
            for version in self._candidates(floating, folder):
                self._versions.append(version)
            timed = self._race(floating)
        best = min(timed, key=lambda v: (not v.pays, v.ms))
        return Choice(best, timed[0], () if best.pays else tuple(reasons(timed[0], floating)))

    def _float(self, folder: Path) -> Profile:
        path = folder / "float.onnx"
        prepared = prepare(self.program)
        export_onnx(prepared, path, opset=self.opset)
        return profile(prepared, prepared, path, self.target, self.feeds)

    @property
    def feeds(self) -> dict[str, Array]:
        """The sample, by input."""
        return {n: v.numpy() for n, v in zip(self.program.input_names, self.inputs, strict=True)}

    def _candidates(self, floating: Profile, folder: Path) -> Iterator[Version]:
        prepared, capability = prepare(self.program), load_capability(self.target.capability)
        integer: dict[str, float] = {}
        slow: dict[str, str] = {}
        for number in range(ROUNDS if self.search else 1):
            version = self._version(slow, prepared, folder / f"int8-{number}.onnx")
            yield version
            integer |= version.profile.compute_of(self._on_integers(version.result))
            costs = Costs(floating.compute, integer, *version.profile.rates())
            losing = losing_nodes(prepared, capability, costs)
            if losing.keys() == slow.keys():
                return
            slow = losing

    def _version(self, slow: Mapping[str, str], prepared: Program, path: Path) -> Version:
        result = self.make(slow)
        export_onnx(result.program, path, opset=self.opset)
        found = profile(prepared, result.program, path, self.target, self.feeds, self._on_integers(result))
        return Version(result, found, path)

    def _on_integers(self, result: QuantizeResult) -> set[str]:
        """Nodes on integers, and the activation functions fused into them."""
        done = set(result.plan.quantized)
        tails = fusions(prepare(self.program), load_capability(self.target.capability))
        return done | {tail.name for head, tail in tails.items() if head.name in done}

    def _race(self, floating: Profile) -> list[Version]:
        """All versions and the float network in turns."""
        paths = {"float": floating.path} | {str(i): v.path for i, v in enumerate(self._versions)}
        if self.source is not None:
            paths["source"] = self.source
        sessions = {name: open_session(path, self.target) for name, path in paths.items()}
        once = max(floating.total, self._versions[0].profile.total) * len(sessions) * 1e-6
        runs = int(min(300, max(15, SECONDS / once)))
        found = compare_latency(sessions, self.feeds, runs=runs, warmup=5, target=self.target.name)
        for session in sessions.values():
            session.close()
        times = {name: median(measurements[0].samples) for name, measurements in found.items()}
        best_float = min(ms for name, ms in times.items() if not name.isdigit())
        size = min(path.stat().st_size for name, path in paths.items() if not name.isdigit())
        return [
            Version(v.result, v.profile, v.path, times[str(i)], best_float, v.path.stat().st_size, size)
            for i, v in enumerate(self._versions)
        ]


def reasons(version: Version, floating: Profile) -> Iterator[Refusal]:
    """Why a version with integers is not faster than float."""
    found = f"int8 {version.ms:.4g} ms, float {version.float_ms:.4g} ms"
    if version.size > version.float_size:
        found += f"; int8 {version.size:,} bytes, float {version.float_size:,}"
    yield Refusal("the network on integers", found, "less time than in float, and no more bytes")
    taken = version.profile
    conversions = sum(taken.conversions.values())
    if conversions:
        yield Refusal(
            "conversions between integers and floats",
            f"{len(taken.conversions)} of them take {conversions:.0f} of {taken.total:.0f} us",
            "neighbours that compute on integers as well",
        )
    for node in taken.fell_back:
        yield Refusal(node, "its kernel computes in float between conversions", "a form that the runtime fuses")
    for node, us in sorted(taken.compute.items(), key=lambda item: floating.compute.get(item[0], 0.0) - item[1])[:5]:
        if node in version.result.plan.quantized and us > floating.compute.get(node, us):
            yield Refusal(node, f"{us:.0f} us on integers, {floating.compute[node]:.0f} us in float", "a faster kernel")
