"""Operator coverage of the ONNX importer, measured on the test cases that ship inside the `onnx` package.

    python benchmarks/onnx_import/coverage.py [--out benchmarks/onnx_import]

Writes `coverage.json` and `coverage.md`: for each operator how many cases passed, were refused or failed. A case runs
eagerly on the module that `torch.export` would trace, with the tolerances of the `onnx` test runner, except for half
types (two units in the last place) and for random operators (shape and type only).
"""

import argparse
import json
import platform
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx.backend.test.loader import load_model_tests

from edgepress.errors import UserError
from edgepress.importers.onnx.fold import fold
from edgepress.importers.onnx.layers import recognise_layers
from edgepress.importers.onnx.lower import lower, stored_tensor
from edgepress.importers.onnx.module import OnnxModule
from edgepress.importers.onnx.read import check_opsets, to_ir
from edgepress.importers.onnx.table import claimed
from edgepress.importers.onnx.values import Unsupported

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")
RELATIVE, ABSOLUTE = 1e-3, 1e-6
HALF = {torch.bfloat16: 2.0**-6, torch.float16: 2.0**-9}

# Where this importer knowingly gives another answer than the case.
DIVERGENT = {
    "test_resize_downsample_scales_linear_align_corners": "as onnxruntime and torch: whole output sizes",
    "test_resize_downsample_scales_cubic_align_corners": "as onnxruntime and torch: whole output sizes",
}


@dataclass(frozen=True)
class Outcome:
    """What became of one case. `operators` are those of its graph; `status` is passed, refused or failed."""

    case: str
    operators: tuple[str, ...]
    status: str
    reason: str = ""


@cache
def cases() -> tuple[Any, ...]:
    """All cases that need no download."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return tuple(case for kind in KINDS for case in load_model_tests(kind=kind))


def model_of(case: Any) -> onnx.ModelProto:
    """The case's model, from memory or from its folder."""
    return case.model if case.model is not None else onnx.load(Path(case.model_dir) / "model.onnx")


def operators_of(model: onnx.ModelProto) -> tuple[str, ...]:
    """The operators of a model, with their domain unless it is the default one."""
    return tuple(sorted({f"{n.domain}::{n.op_type}" if n.domain else n.op_type for n in _nodes(model.graph)}))


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def run_case(case: Any) -> Outcome:
    """Import a case and compare its outputs."""
    model = model_of(case)
    operators = operators_of(model)
    try:
        check_opsets(model, case.name)
        network = recognise_layers(fold(lower(to_ir(model, case.name), widen_half=False)))
        module = OnnxModule(network)
        reason = next((r for inputs, wanted in data_sets(case) if (r := compare(module, inputs, wanted))), "")
    except Unsupported as error:
        return Outcome(case.name, operators, "refused", f"{error.what} {error.found}")
    except UserError as error:
        return Outcome(case.name, operators, "failed", f"{error.what} {error.found}")
    return Outcome(case.name, operators, "failed" if reason else "passed", reason)


def data_sets(case: Any) -> Iterator[tuple[list[Any], list[Any]]]:
    """(inputs, expected outputs) of a case."""
    if case.data_sets is not None:
        for inputs, outputs in case.data_sets:
            yield [as_tensor(value) for value in inputs], [as_tensor(value) for value in outputs]
        return
    for folder in sorted(Path(case.model_dir).glob("test_data_set_*")):
        yield _stored(folder, "input"), _stored(folder, "output")


def _stored(folder: Path, what: str) -> list[Any]:
    files = sorted(folder.glob(f"{what}_*.pb"), key=lambda file: int(file.stem.split("_")[1]))
    return [as_tensor(onnx.TensorProto.FromString(file.read_bytes())) for file in files]


def as_tensor(value: Any) -> Any:
    """Test data as tensors; sequences stay lists, an empty optional stays `None`."""
    if value is None or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, list):
        return [as_tensor(item) for item in value]
    if isinstance(value, onnx.TensorProto):
        return stored_tensor(ir.from_proto(value))
    return stored_tensor(ir.tensor(np.asarray(value)))


def compare(module: OnnxModule, inputs: list[Any], wanted: list[Any]) -> str:
    """Why the outputs differ, or ""."""
    random = any(step.operator.stochastic for step in module.network.body.all_steps())
    with torch.no_grad():
        outputs = module(*inputs[: len(module.network.inputs)])
    for found, expected in zip(outputs, wanted, strict=False):
        reason = difference(found, expected, only_shape=random)
        if reason:
            return reason
    return ""


def difference(found: Any, expected: Any, *, only_shape: bool = False) -> str:
    """Why a value differs from the expected one, or ""."""
    if isinstance(expected, list):
        pairs = zip(found, expected, strict=True) if len(found) == len(expected) else [(None, 0)]
        return next((reason for a, b in pairs if (reason := difference(a, b, only_shape=only_shape))), "")
    if expected is None or found is None:
        return "" if found is expected else f"{found} instead of {expected}"
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        return f"{found.dtype}{list(found.shape)} instead of {expected.dtype}{list(expected.shape)}"
    if only_shape:
        return ""
    relative = HALF.get(found.dtype, RELATIVE)
    a, b = (value.float() if "float8" in str(value.dtype) else value for value in (found, expected))
    wide = torch.complex128 if a.is_complex() else torch.float64
    same = torch.isclose(a.to(wide), b.to(wide), rtol=relative, atol=ABSOLUTE, equal_nan=True)
    return "" if bool(same.all()) else f"{int((~same).sum())} of {same.numel()} elements differ"


def claimed_outcomes() -> Iterator[Outcome]:
    """The outcome of every case whose operators are all claimed."""
    known = {*claimed(), "Constant"}
    for case in cases():
        if set(operators_of(model_of(case))) <= known:
            yield run_case(case)


@dataclass(frozen=True)
class Row:
    """Counts of one operator."""

    operator: str
    passed: int
    refused: int
    failed: int


def table(outcomes: Iterable[Outcome]) -> list[Row]:
    """One row per operator with cases of its own; graphs of several operators are counted together."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        own = outcome.operators[0] if len(outcome.operators) == 1 else "(several operators)"
        counts[own][outcome.status] += 1
    return [Row(name, *(counts[name][s] for s in ("passed", "refused", "failed"))) for name in sorted(counts)]


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """What is written to JSON."""
    statuses = Counter(outcome.status for outcome in outcomes)
    tested = sorted({operator for outcome in outcomes for operator in outcome.operators})
    unclaimed = Counter(
        op for case in cases() for op in operators_of(model_of(case)) if op not in {*claimed(), "Constant"}
    )
    return {
        "operators_claimed": len(claimed()) + 1,
        "operators_with_cases": len(tested),
        "cases": len(outcomes),
        **{status: statuses[status] for status in ("passed", "refused", "failed")},
        "pass_rate": statuses["passed"] / len(outcomes),
        "claimed_without_cases": sorted(set(claimed()) - set(tested)),
        "unclaimed": dict(unclaimed.most_common()),
        "rows": [asdict(row) for row in table(outcomes)],
        "not_passed": [asdict(outcome) for outcome in outcomes if outcome.status != "passed"],
        "divergent": DIVERGENT,
        "environment": {"onnx": onnx.__version__, "torch": torch.__version__, "python": platform.python_version()},
    }


def markdown(facts: dict[str, Any]) -> str:
    """The coverage table."""
    lines = [
        f"{facts['operators_claimed']} operators claimed, {facts['operators_with_cases']} of them met by cases of "
        f"onnx {facts['environment']['onnx']}; {facts['passed']} of {facts['cases']} cases passed "
        f"({facts['pass_rate']:.1%}), {facts['refused']} refused, {facts['failed']} failed.",
        "",
        "| operator | passed | refused | failed |",
        "|---|---:|---:|---:|",
        *(f"| {r['operator']} | {r['passed']} | {r['refused']} | {r['failed']} |" for r in facts["rows"]),
        "",
        "Not passed:",
        "",
        *(f"- `{o['case']}`: {o['status']}, {o['reason']}" for o in facts["not_passed"]),
        "",
        "Claimed, but without cases in the package: " + ", ".join(facts["claimed_without_cases"]) + ".",
        "",
        "Met by cases, not claimed: " + ", ".join(f"{op} ({n})" for op, n in facts["unclaimed"].items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    facts = summary(list(claimed_outcomes()))
    text = markdown(facts)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "coverage.json").write_text(json.dumps(facts, indent=1) + "\n")
    (arguments.out / "coverage.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
