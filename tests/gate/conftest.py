"""Small evidence to judge: every test changes only the part it is about."""

from collections.abc import Callable
from typing import Any

import pytest

from edgepress.measure.record import Environment, Evidence, Measurement, Subject

MACHINE = Environment(
    machine_class="x86_64/2", os="Linux", cpu="test cpu", cores=2, memory_bytes=8 << 30, python="3.11"
)


def size(value: int) -> Measurement:
    return Measurement(name="size_bytes", value=value, unit="bytes", source="counted")


def latency(samples: tuple[float, ...], target: str = "host") -> Measurement:
    middle = sorted(samples)[len(samples) // 2]
    return Measurement(name="latency_ms", value=middle, unit="ms", n=len(samples), samples=samples, target=target)


def accuracy(value: float, n: int = 1000) -> Measurement:
    return Measurement(name="accuracy", value=value, unit="ratio", n=n, better="higher")


@pytest.fixture
def make_evidence() -> Callable[..., Evidence]:
    def make(baseline: list[Measurement], compressed: list[Measurement], **fields: Any) -> Evidence:
        known: dict[str, Any] = {
            "name": "tiny",
            "created": "2026-01-01T00:00:00Z",
            "edgepress_version": "0.1.0",
            "command": "edgepress run tiny.yaml",
            "seed": 0,
            "recipe": {},
            "environment": MACHINE,
            "baseline": Subject(name="baseline", measurements=tuple(baseline)),
            "compressed": Subject(name="compressed", measurements=tuple(compressed)),
        }
        return Evidence(**{**known, **fields})

    return make
