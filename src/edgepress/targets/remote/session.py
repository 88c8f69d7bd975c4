"""A session on a far side: the same from outside as one in this process, except that it is timed where it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepress.errors import UserError
from edgepress.targets.remote.far_side import FarSide
from edgepress.targets.runtimes.inputs import Array, Described, InputSpec, check_inputs
from edgepress.targets.worker import wire
from edgepress.targets.worker.turns import Turns
from edgepress.targets.worker.warmup import Warmup
from edgepress.targets.worker.windows import Window

# Rounds per request: what is lost when the connection breaks.
ROUNDS_PER_REQUEST = 50
OWN_NAME = "session"


class RemoteSession(Described):
    """One artifact on a far side of its own.

    Attributes:
        machine: what the far side says of itself. why_untimed: why times from there mean nothing; empty if they do.
    """

    def __init__(self, artifact: Path, far_side: FarSide, why_untimed: str = "") -> None:
        self.artifact, self.far_side, self.why_untimed = artifact, far_side, why_untimed
        described = far_side.open(OWN_NAME, artifact)
        self._specs = {name: InputSpec(*spec) for name, spec in described["inputs"].items()}
        self._output_names = tuple(described["outputs"])
        self.machine = far_side.hello()
        self._description = f"{described['description']} on {self.machine['machine']}"

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        check_inputs(inputs, self._specs)
        outputs = self.far_side.ask("run", name=OWN_NAME, inputs=wire.pack_all(inputs))
        return [wire.unpack(output) for output in outputs]

    def calls_per_second(self, inputs: Mapping[str, Array], callers: int, seconds: float) -> float:
        """Runs per second of several callers over there, each with a session of its own."""
        names = [f"caller {number}" for number in range(callers)]
        for name in names:
            self.far_side.open(name, self.artifact)
        return float(self.far_side.ask("rate", names=names, inputs=wire.pack_all(inputs), seconds=seconds))

    def metered(self, inputs: Mapping[str, Array]) -> MeteredThere:
        """Energy windows over there.

        Raises:
            NoMeter: none of the target's meters answers there.
        """
        return MeteredThere(self.far_side, wire.pack_all(inputs))

    def close(self) -> None:
        self.far_side.close()


class MeteredThere:
    """The meter of a far side, and windows of the session's inferences between its readings."""

    def __init__(self, far_side: FarSide, packed: Mapping[str, Any]) -> None:
        described = far_side.open_meter()
        self._far_side, self._packed = far_side, packed
        self.name, self.covers, self.period_s = described["name"], described["covers"], described["period_s"]

    def idle(self, seconds: float) -> Window:
        return Window(*self._far_side.ask("window", seconds=seconds, name="", inputs={}))

    def busy(self, seconds: float) -> Window:
        return Window(*self._far_side.ask("window", seconds=seconds, name=OWN_NAME, inputs=self._packed))

    def close(self) -> None:
        """The meter ends with its worker."""


def take_turns_there(
    sessions: Mapping[str, RemoteSession],
    feeds: Mapping[str, Mapping[str, Array]],
    *,
    runs: int,
    warmup: int,
    seed: int,
) -> Turns:
    """Time sessions in turns in one process on the far side of the first of them.

    Rounds that are done stay done when the connection breaks; the rest follows after a new warm-up.
    """
    place = next(iter(sessions.values())).far_side
    for name, session in sessions.items():
        place.open(_turn_name(name), session.artifact)
    packed = {_turn_name(name): wire.pack_all(feed) for name, feed in feeds.items()}
    parts = []
    for start in range(0, runs, ROUNDS_PER_REQUEST):
        rounds = min(ROUNDS_PER_REQUEST, runs - start)
        part = place.ask("turns", feeds=packed, runs=rounds, warmup=warmup if start == 0 else 1, seed=seed + start)
        parts.append(part)
    return _joined(list(sessions), parts, place.reconnections)


def _turn_name(name: str) -> str:
    return f"turn {name}"


def _joined(names: list[str], parts: list[dict[str, Any]], reconnections: int) -> Turns:
    seconds = {name: [s for part in parts for s in part["seconds"][_turn_name(name)]] for name in names}
    warmups = {name: Warmup(*parts[0]["warmups"][_turn_name(name)]) for name in names}
    disturbances = dict.fromkeys(text for part in parts for text in part["disturbances"])
    lost = (f"the connection broke {reconnections} time(s) while it was measured",) if reconnections else ()
    return Turns(seconds, warmups, (*disturbances, *lost))


def same_place(sessions: Mapping[str, object]) -> bool:
    """Whether the sessions are all elsewhere (and not all here).

    Raises:
        UserError: some are here and some elsewhere: their times cannot be taken in turns.
    """
    elsewhere = {name for name, session in sessions.items() if isinstance(session, RemoteSession)}
    if elsewhere and elsewhere != set(sessions):
        raise UserError(
            "sessions in different places cannot be compared",
            found=f"{', '.join(sorted(elsewhere))} elsewhere, the others in this process",
            expected="one target for all of them",
        )
    return bool(elsewhere)
