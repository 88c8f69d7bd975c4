"""Everything that can be measured about a few artifacts on one target, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepress.measure.device_time import measure_device_time
from edgepress.measure.energy import measure_session_energy
from edgepress.measure.environment import describe
from edgepress.measure.latency import compare_latency
from edgepress.measure.memory import measure_cold_start
from edgepress.measure.record import Environment, Measurement
from edgepress.measure.size import measure_size
from edgepress.measure.throughput import measure_throughput
from edgepress.targets import Target
from edgepress.targets.companions import companions
from edgepress.targets.remote.session import RemoteSession
from edgepress.targets.runtimes import made_up_inputs, open_session

if TYPE_CHECKING:
    from edgepress.targets.runtimes import Array, Session


class Survey(dict[str, tuple[Measurement, ...]]):
    """Measurements per artifact name, and where they were taken, with what was seen there that makes them doubtful."""

    def __init__(self, measurements: Mapping[str, tuple[Measurement, ...]], environment: Environment) -> None:
        super().__init__(measurements)
        self.environment = environment


def survey(
    artifacts: Mapping[str, Path],
    target: Target,
    *,
    inputs: Mapping[str, Array] | None = None,
    batch: int = 1,
    runs: int = 200,
    warmup: int = 20,
    energy: bool = True,
    cold_starts: int = 5,
    callers: int = 0,
    seed: int = 0,
) -> Survey:
    """Size, latency in turns, energy, memory and cold start of each artifact.

    Args:
        artifacts: name -> file. inputs: one batch that fits all of them; noise of size `batch` where `None`.
        runs: rounds of the latency measurement. energy: whether to look for a meter.
        cold_starts: fresh processes per artifact; 0 leaves them out.
        callers: how many at once for throughput; 0 leaves it out.

    Raises:
        UserError, MissingTool, ToolError: see `edgepress.targets.runtimes.open_session`.
    """
    with ExitStack() as stack:
        sessions = {name: open_session(path, target) for name, path in artifacts.items()}
        for session in sessions.values():
            stack.callback(session.close)
        feeds = {
            name: inputs if inputs is not None else made_up_inputs(session.input_specs, batch=batch, seed=seed)
            for name, session in sessions.items()
        }
        latencies = compare_latency(sessions, feeds, runs=runs, warmup=warmup, seed=seed, target=target.name)
        energies = {
            name: measure_session_energy(session, feeds[name], target) if energy else ()
            for name, session in sessions.items()
        }
        devices = {
            name: measure_device_time(session, feeds[name], runs=runs, target=target.name)
            for name, session in sessions.items()
        }
        environment = describe(latencies.warnings, _machine(sessions), target.power_mode)
    found = {}
    for name, path in artifacts.items():
        cold = measure_cold_start(path, target, feeds[name], repeats=cold_starts) if cold_starts else ()
        rates = _throughput(path, target, feeds[name], callers)
        found[name] = (
            *measure_size(path, *companions(path)), *latencies[name], *devices[name], *rates, *energies[name], *cold,
        )  # fmt: skip
    return Survey(found, environment)


def _throughput(path: Path, target: Target, feed: Mapping[str, Array], callers: int) -> tuple[Measurement, ...]:
    if not callers:
        return ()
    return (measure_throughput(partial(open_session, path, target), feed, callers=callers, target=target.name),)


def _machine(sessions: Mapping[str, Session]) -> dict[str, Any] | None:
    """What the far side says of itself; `None` for this machine."""
    first = next(iter(sessions.values()))
    return first.machine if isinstance(first, RemoteSession) else None
