"""Evidence of a made-up run that has something to say in every section of the report."""

import base64
import math
import random
import struct
import zlib
from typing import Any

import pytest

from edgepress.gate.budget import Budget
from edgepress.gate.judge import judge
from edgepress.gate.verdict import Judgement
from edgepress.measure.record import (
    ClassOutcome,
    Environment,
    Evidence,
    ForgottenSample,
    LayerCost,
    Measurement,
    PairedOutcomes,
    Parity,
    Picture,
    RefusalRecord,
    StepRecord,
    Subject,
)

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DRAWING = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><rect width="9" height="9"/></svg>'
WIDTHS = (16,) * 7 + (32,) * 6 + (64,) * 6


def _png(seed: int, size: int = 16) -> str:
    """A small colour gradient as base64 PNG."""
    rows = b"".join(
        b"\0" + bytes(c for x in range(size) for c in ((seed * 40 + x * 9) % 256, (y * 15) % 256, (x * y + seed) % 256))
        for y in range(size)
    )
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    packed = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(packed)).decode()


def _layers(kept: float) -> tuple[LayerCost, ...]:
    chance = random.Random(0)
    layers, side = [], 32
    for index, width in enumerate(WIDTHS):
        side = {16: 32, 32: 12, 64: 5}[width]
        now = max(4, round(width * (kept + (1 - kept) * chance.random()))) if kept < 1 else width
        params = 9 * now * now
        layers.append(
            LayerCost(
                name=f"layer{index // 6 + 1}.{index % 6 // 2}.conv{index % 2 + 1}",
                op="aten.conv2d",
                params=params,
                macs=params * side * side,
                activation_bytes=4 * now * side * side,
                output_shape=("batch", now, side, side),
            )
        )
    return tuple({layer.name: layer for layer in layers}.values())


def _measurements(
    size: int, scale: float, right: int, layers: tuple[LayerCost, ...], seed: int
) -> tuple[Measurement, ...]:
    chance = random.Random(seed)
    samples = tuple(scale * (1 + 0.0266 * chance.gauss(0, 1)) for _ in range(1200))
    host: dict[str, Any] = {"unit": "ms", "n": 1200, "target": "local-cpu"}
    method = "median; onnxruntime 1.31, 1 thread, batch 1; interleaved with 1 other(s)"
    return (
        Measurement(
            name="accuracy",
            value=right / 1000,
            unit="ratio",
            n=1000,
            better="higher",
            low=right / 1000 - 0.018,
            high=right / 1000 + 0.017,
            method="1,000 held-out images",
        ),
        Measurement(name="size_bytes", value=size, unit="bytes", source="counted", method="1 file(s)"),
        Measurement(
            name="latency_ms",
            value=scale,
            low=scale * 0.998,
            high=scale * 1.002,
            samples=samples,
            method=method,
            **host,
        ),
        Measurement(
            name="params",
            value=sum(la.params for la in layers),
            unit="count",
            source="counted",
            method="counted on the graph",
        ),
        Measurement(
            name="macs",
            value=sum(la.macs for la in layers),
            unit="count",
            source="counted",
            method="counted on the graph",
        ),
        Measurement(
            name="energy_mj", value=None, unit="mJ", reason="no energy meter: RAPL is not readable, no NVML device"
        ),
    )


def _classes() -> tuple[ClassOutcome, ...]:
    lost = (2, 1, 5, 14, 3, 6, 0, 2, 1, 1)
    gained = (1, 2, 3, 1, 2, 3, 2, 1, 2, 2)
    classes = tuple(
        ClassOutcome(
            label=name,
            outcomes=PairedOutcomes(both=86 - b, only_first=b, only_second=c, neither=14 - c, flips=b + c + 1),
        )
        for name, b, c in zip(NAMES, lost, gained, strict=True)
    )
    night = ClassOutcome(
        label="dark images",
        kind="slice",
        outcomes=PairedOutcomes(both=180, only_first=9, only_second=4, neither=30, flips=20),
    )
    return (*classes, night)


def _steps() -> tuple[StepRecord, ...]:
    costs = [
        (40_813_184, 268_336, 1_073_344, 0.915),
        (20_100_000, 141_000, 564_000, 0.861),
        (20_100_000, 141_000, 564_000, 0.909),
        (20_100_000, 141_000, 148_000, 0.908),
    ]
    keys = ("macs", "params", "weight_bytes", "accuracy")
    around = [dict(zip(keys, row, strict=True)) for row in costs]
    refusal = RefusalRecord(
        step="01-prune", node="layer2.0.shortcut", found="zero padding of 16 channels", needed="a convolution to cut"
    )
    other = RefusalRecord(
        step="03-quantize",
        node="classifier & <softmax>",
        found="float32 only on local-cpu",
        needed="int8 kernels for softmax",
    )
    texts = (
        ("01-prune", "prune", "cut 212 of 688 channels in 19 groups", (refusal,)),
        ("02-recover", "distill", "6 epochs against the baseline's logits", ()),
        ("03-quantize", "quantize", "int8 weights per channel, uint8 activations, 21 of 22 operators", (other,)),
    )
    return tuple(
        StepRecord(
            name=name,
            kind=kind,
            changed=True,
            summary=summary,
            seconds=12.5 * (i + 1),
            before=around[i],
            after=around[i + 1],
            refusals=refused,
        )
        for i, (name, kind, summary, refused) in enumerate(texts)
    )


@pytest.fixture(scope="session")
def evidence() -> Evidence:
    before, after = _layers(1.0), _layers(0.6)
    ratios = ("0.1", "0.3", "0.5", "0.7")
    groups = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1, 2)]
    chance = random.Random(3)
    sensitivity = {
        group: {
            ratio: round(float(ratio) ** 2 * chance.uniform(0.02, 0.5) * math.exp(-rank / 6), 4) for ratio in ratios
        }
        for rank, group in enumerate(groups)
    }
    return Evidence(
        name="resnet20-cifar10-edge",
        created="2026-03-14T09:26:53+00:00",
        edgepress_version="0.1.0",
        command="edgepress run recipes/resnet20.yaml --seed 7",
        seed=7,
        recipe={
            "name": "resnet20-cifar10-edge",
            "steps": [{"prune": {"reduce": {"macs": 0.5}}}, {"quantize": {"bits": 8}}],
        },
        environment=Environment(
            machine_class="x86_64-2c-0123456789",
            os="Linux-6.1-x86_64",
            cpu="Example CPU 2.7 GHz avx2 avx512_vnni",
            cores=2,
            memory_bytes=8 << 30,
            python="3.11.9",
            tools={"torch": "2.13.0", "onnxruntime": "1.31.1", "numpy": "2.4.6"},
            warnings=("the clock frequency was not fixed",),
        ),
        baseline=Subject(
            name="baseline",
            format="onnx",
            artifact="baseline.onnx",
            digest="5e" * 32,
            layers=before,
            measurements=_measurements(1_098_240, 0.613, 915, before, 1),
        ),
        compressed=Subject(
            name="compressed",
            format="onnx",
            artifact="compressed.onnx",
            digest="a7" * 32,
            layers=after,
            measurements=_measurements(187_853, 0.214, 908, after, 2),
        ),
        paired=PairedOutcomes(both=895, only_first=20, only_second=13, neither=72, flips=51),
        classes=_classes(),
        parity=(
            Parity(
                first="program",
                second="onnxruntime",
                n=1000,
                max_abs=0.0031,
                mean_abs=0.00021,
                flip_rate=0.002,
                first_divergent_layer="layer1.0.conv1",
            ),
        ),
        steps=_steps(),
        forgotten=tuple(
            ForgottenSample(
                index=37 * i + 11, label=NAMES[i % 10], predicted=NAMES[(i * 3 + 1) % 10], image_png=_png(i)
            )
            for i in range(14)
        ),
        sensitivity=sensitivity,
        pictures=(Picture(title="Memory of the result on cortex-m4", svg=DRAWING),),
        notes=("evaluation data: CIFAR-10 test, 1,000 samples",),
    )


BUDGETS = (
    Budget(metric="size_bytes", max=256_000),
    Budget(metric="latency_ms", max_ratio=0.5, max=0.3),
    Budget(metric="latency_p99_ms", max=0.25, name="tail latency"),
    Budget(metric="accuracy", max_drop=0.02),
    Budget(metric="worst_class_accuracy", max_drop=0.05),
    Budget(metric="churn", max=0.08, severity="warn"),
    Budget(metric="energy_mj", max=1.0, severity="warn"),
)


@pytest.fixture(scope="session")
def judgement(evidence: Evidence) -> Judgement:
    return judge(evidence, BUDGETS)
