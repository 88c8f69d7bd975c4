"""The guard: quantized networks that are not faster on the target are found out, mended, or left float.

Both networks are exported and profiled kernel by kernel. From what every node took, and what the conversions between
integers and floats took, the cheapest split is computed (`quantize.profit`), quantized, exported and measured again.
Layers that are still float and that the target quantizes dynamically are tried so. In the end all versions run in
turns, and the fastest wins whose outputs are still those of the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from statistics import quantiles
from tempfile import TemporaryDirectory
from time import perf_counter

import torch

from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program, Refusal
from edgepress.ir.text import op_name
from edgepress.passes.mark_dynamic import mark_dynamic
from edgepress.pipeline.first_samples import first_feed
from edgepress.pipeline.kernels import Profile, profile
from edgepress.quantize.diagnose import Ratio
from edgepress.quantize.place import fusions
from edgepress.quantize.post_training import QuantizeResult, prepare
from edgepress.quantize.profit import Costs, losing_nodes
from edgepress.targets import Target
from edgepress.targets.capability import Capability, load_capability
from edgepress.targets.runtimes import Array, Session, open_session

ROUNDS = 4
CAUTION = (1.0, 4.0)
"""Conversions cost more than their own kernels: layouts change around them. Dearer ones leave only large gains."""
CLEARLY = 0.97
"""A quantized network counts as faster below this share of the float time."""
SMALLER = 0.8
"""One that is only as fast pays below this share of the float bytes."""
LEAST_SNR_DB = 10.0
"""Outputs with more noise than this (a third of the signal) are no answers: speed does not redeem such a version."""
ALIKE = 1.02
"""Times that differ by less are the same."""
SECONDS, LEAST, MOST = 2.0, 5, 300
"""About how long all versions are timed in turns, and in how many rounds."""
Make = Callable[[Mapping[str, str]], QuantizeResult]
FLOAT, SOURCE = "float", "source"


@dataclass(frozen=True)
class Version:
    """One form of the network, as it was measured.

    Attributes:
        program: what is exported. path: its file, of `size` bytes. profile: its kernels. ms: its latency.
        result: what quantization gave; `None` where nothing is quantized statically.
        slow: nodes that were left float, and why. dynamic: layers that are quantized dynamically.
        snr_db: signal above the noise of its worst output, against the float network on this runtime.
    """

    program: Program
    path: Path
    profile: Profile
    result: QuantizeResult | None = None
    slow: Mapping[str, str] = field(default_factory=dict)
    dynamic: tuple[str, ...] = ()
    ms: float = 0.0
    snr_db: float = math.inf

    @property
    def size(self) -> int:
        """Bytes of the file, kept as long as the guard works."""
        return self.path.stat().st_size

    @property
    def integers(self) -> int:
        """How many nodes compute on integers."""
        return len(self.result.plan.quantized if self.result else ()) + len(self.dynamic)


@dataclass(frozen=True)
class Choice:
    """What the guard found.

    Attributes:
        program: the fastest network. result: its static quantization, if any. outcome: `integers`, or `float` where no
            version with integers is faster and no larger. as_it_was: the user's own file beats our float export.
        slow: nodes left float, and why. dynamic: layers quantized dynamically.
        facts: times and bytes. refusals: why integers do not pay.
    """

    program: Program
    result: QuantizeResult | None
    outcome: str
    as_it_was: bool
    facts: Mapping[str, float | int | str]
    refusals: tuple[Refusal, ...] = ()
    slow: Mapping[str, str] = field(default_factory=dict)
    dynamic: tuple[str, ...] = ()


def can_time(target: Target) -> bool:
    """Whether the guard can look at kernels there: onnxruntime on this machine's CPU."""
    return target.kind == "local" and target.runtime == "onnxruntime" and target.device == "cpu"


@dataclass
class Guard:
    """Looks for the fastest quantization of one program.

    Attributes:
        program: the float network. make: quantizes it but for the nodes given, node -> why.
        inputs: one batch; its first sample is run. target: where it is timed (see `can_time`).
        source: the user's own file, where that is what must be beaten.
        search: whether to try versions with fewer integers; otherwise the complete one is only judged.
    """

    program: Program
    make: Make
    inputs: Sequence[torch.Tensor]
    target: Target
    opset: int = 17
    source: Path | None = None
    search: bool = True
    prepared: Program = field(init=False)
    capability: Capability = field(init=False)

    def __post_init__(self) -> None:
        self.prepared = prepare(self.program)
        self.capability = load_capability(self.target.capability)
        self.feeds: dict[str, Array] = first_feed(self.program, self.inputs)

    def choose(self) -> Choice:
        """Quantize, measure, drop what loses, measure again; the fastest version and the evidence."""
        with TemporaryDirectory() as name:
            folder = Path(name)
            plain = self._version(self.prepared, folder / "float.onnx")
            versions = list(self._static(plain.profile, folder))
            if self.search:
                versions += self._dynamic(versions, plain, folder)
            return self._judge(*self._race([plain, *versions]))

    def _version(self, program: Program, path: Path, result: QuantizeResult | None = None) -> Version:
        export_onnx(program, path, opset=self.opset)
        quantized = self._on_integers(result) if result else set()
        found = profile(self.prepared, program, path, self.target, self.feeds, quantized)
        return Version(program, path, found, result)

    def _static(self, floating: Profile, folder: Path) -> Iterator[Version]:
        """The complete version, then ones without what the measurements say had better stay float."""
        integer: dict[str, float] = {}
        slow: dict[str, str] | None = {}
        tried: list[set[str]] = []
        while slow is not None and len(tried) < (ROUNDS if self.search else 1):
            result = self.make(slow)
            version = replace(self._version(result.program, folder / f"int8-{len(tried)}.onnx", result), slow=slow)
            if version.integers or not tried:
                yield version
            tried.append(set(slow))
            integer |= version.profile.compute_of(self._on_integers(result))
            costs = Costs(floating.compute, integer, *version.profile.rates())
            slow = self._untried(costs, tried)

    def _untried(self, costs: Costs, tried: Sequence[set[str]]) -> dict[str, str] | None:
        """What loses by these costs, or, if that was tried already, by dearer conversions."""
        for caution in CAUTION:
            losing = losing_nodes(self.prepared, self.capability, costs.with_conversions(caution))
            if set(losing) not in tried:
                return losing
        return None

    def _on_integers(self, result: QuantizeResult) -> set[str]:
        """Nodes on integers, and the activation functions fused into them."""
        done = set(result.plan.quantized)
        tails = fusions(self.prepared, self.capability)
        return done | {tail.name for head, tail in tails.items() if head.name in done}

    def _dynamic(self, versions: Sequence[Version], plain: Version, folder: Path) -> Iterator[Version]:
        """The float network and the last static version, with their float layers quantized dynamically."""
        for number, base in enumerate([plain, versions[-1]][: 1 + bool(versions[-1].integers)]):
            taken = set(base.result.plan.quantized) if base.result else set()
            able = [n for n in base.program.nodes if op_name(n) in self.capability.dynamic_ops and n.name not in taken]
            layers = tuple(n.name for n in able)
            if layers:
                marked = mark_dynamic(base.program, layers).program
                version = self._version(marked, folder / f"dynamic-{number}.onnx", base.result)
                yield replace(version, slow=base.slow, dynamic=layers)

    def _race(self, versions: Sequence[Version]) -> tuple[list[Version], dict[str, float]]:
        """All versions, and the user's own file, in turns: (versions with times, times by name)."""
        paths = {str(i): version.path for i, version in enumerate(versions)}
        if self.source is not None:
            paths[SOURCE] = self.source
        sessions = {name: open_session(path, self.target) for name, path in paths.items()}
        times = _turns(sessions, self.feeds)
        batch = {n: v.numpy() for n, v in zip(self.program.input_names, self.inputs, strict=True)}
        answers = {name: session.run(batch) for name, session in sessions.items()}
        for session in sessions.values():
            session.close()
        heard = [_worst_snr_db(answers["0"], answers[str(i)]) for i in range(len(versions))]
        return [replace(v, ms=times[str(i)], snr_db=heard[i]) for i, v in enumerate(versions)], times

    def _judge(self, versions: Sequence[Version], times: Mapping[str, float]) -> Choice:
        plain, *others = versions
        float_ms = min(plain.ms, times.get(SOURCE, plain.ms))
        float_bytes = min(plain.size, self.source.stat().st_size if self.source else plain.size)
        best = _best([v for v in others if v.snr_db >= LEAST_SNR_DB] or others, float_bytes)
        pays = best.integers > 0 and _pays(best.ms / float_ms, best.size / float_bytes)
        pays = pays and best.snr_db >= LEAST_SNR_DB
        chosen = best if pays else plain
        facts: dict[str, float | int | str] = {
            "float_ms": round(float_ms, 4), "int8_ms": round(best.ms, 4), "float_bytes": float_bytes,
            "int8_bytes": best.size, "versions_tried": len(others), "dynamic_layers": len(chosen.dynamic),
            "int8_snr_db": round(min(best.snr_db, 999.0), 1),
        }  # fmt: skip
        return Choice(
            program=chosen.program,
            result=chosen.result,
            outcome="integers" if pays else FLOAT,
            as_it_was=not pays and SOURCE in times and times[SOURCE] <= plain.ms,
            facts=facts,
            slow=chosen.slow,
            dynamic=chosen.dynamic,
            refusals=() if pays else tuple(reasons(best, plain, float_ms, float_bytes)),
        )


def _turns(sessions: Mapping[str, Session], feeds: Mapping[str, Array]) -> dict[str, float]:
    """Milliseconds per session, taken in turns of two runs: the first brings its weights back into the caches.

    The lower quartile, since whatever else the machine does only adds to a time.
    """
    seen: dict[str, list[float]] = {name: [] for name in sessions}
    order, random, started = list(sessions), Random(0), perf_counter()
    while len(seen[order[0]]) < LEAST or (perf_counter() - started < SECONDS and len(seen[order[0]]) < MOST):
        random.shuffle(order)
        for name in order:
            sessions[name].run(feeds)
            begin = perf_counter()
            sessions[name].run(feeds)
            seen[name].append((perf_counter() - begin) * 1e3)
    return {name: quantiles(found, n=4)[0] for name, found in seen.items()}


def _worst_snr_db(truth: Sequence[Array], answers: Sequence[Array]) -> float:
    """Signal power over noise power of the worst output, in dB; outputs that are no floats do not count."""
    return min((_snr_db(a, b) for a, b in zip(truth, answers, strict=True) if a.dtype.kind == "f"), default=math.inf)


def _snr_db(truth: Array, answer: Array) -> float:
    ratio = Ratio()
    ratio.add(torch.from_numpy(truth), torch.from_numpy(answer))
    return ratio.unbounded_db()


def _best(versions: Sequence[Version], float_bytes: int) -> Version:
    """The fastest, or the smallest of those that are as fast within the noise."""
    able = [v for v in versions if v.integers and v.size <= float_bytes] or list(versions)
    least = min(v.ms for v in able)
    return min((v for v in able if v.ms <= ALIKE * least), key=lambda v: v.size)


def _pays(time: float, size: float) -> bool:
    """Whether shares of the float time and bytes are worth the change: clearly faster, or as fast and much smaller."""
    return size <= 1 and (time < CLEARLY or (time <= 1 and size < SMALLER))


def reasons(version: Version, plain: Version, float_ms: float, float_bytes: int) -> Iterator[Refusal]:
    """Why a version with integers does not pay."""
    if version.snr_db < LEAST_SNR_DB:
        yield Refusal("the network on integers", f"its worst output is {version.snr_db:.1f} dB above the noise",
                      f"{LEAST_SNR_DB:g} dB; `edgepress compare RUN --layers` shows where it is lost")  # fmt: skip
    found = f"int8 {version.ms:.4g} ms, float {float_ms:.4g} ms"
    if version.size > float_bytes:
        found += f"; int8 {version.size:,} bytes, float {float_bytes:,}"
    yield Refusal("the network on integers", found, "clearly less time than in float, and no more bytes")
    taken, floating = version.profile, plain.profile.compute
    conversions = sum(taken.conversions.values())
    if conversions:
        yield Refusal(
            "conversions between integers and floats",
            f"{len(taken.conversions)} of them take {conversions:.0f} of {taken.total:.0f} us",
            "neighbours that compute on integers as well",
        )
    for node in taken.fell_back:
        yield Refusal(node, "its kernel computes in float between conversions", "a form that the runtime fuses")
    planned = version.result.plan.quantized if version.result else ()
    losses = {node: us - floating.get(node, us) for node, us in taken.compute.items() if node in planned}
    for node in sorted(losses, key=losses.__getitem__, reverse=True)[:5]:
        if losses[node] > 0:
            yield Refusal(node, f"{losses[node]:.0f} us more on integers than in float", "a faster kernel")
