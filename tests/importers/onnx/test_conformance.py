"""The importer against the operator cases that ship inside the `onnx` package."""

from types import ModuleType

import pytest
import torch

from edgepress.importers.onnx.table import claimed

PARTS = 8

# Cases that do not pass, each with the reason; anything else that fails is a defect.
EXPECTED = {
    "test_resize_downsample_scales_linear_align_corners": "onnxruntime and torch round the output size first",
    "test_resize_downsample_scales_cubic_align_corners": "onnxruntime and torch round the output size first",
    "test_equal_string": "strings",
    "test_equal_string_broadcast": "strings",
    "test_training_dropout": "numpy's random numbers",
    "test_training_dropout_default": "numpy's random numbers",
    "test_training_dropout_mask": "numpy's random numbers",
    "test_training_dropout_default_mask": "numpy's random numbers",
    "test_not_2d": "opset 1",
    "test_not_3d": "opset 1",
    "test_not_4d": "opset 1",
}


@pytest.fixture(scope="module")
def by_operator(coverage: ModuleType) -> dict[tuple[str, ...], list]:
    groups: dict[tuple[str, ...], list] = {}
    for case in coverage.cases():
        groups.setdefault(coverage.operators_of(coverage.model_of(case)), []).append(case)
    return groups


def check(coverage: ModuleType, cases: list) -> None:
    outcomes = [coverage.run_case(case) for case in cases]
    wrong = [o for o in outcomes if o.status != "passed" and o.case not in EXPECTED]
    assert not wrong, "\n".join(f"{o.case}: {o.status}, {o.reason}" for o in wrong[:5])
    healed = [o.case for o in outcomes if o.status == "passed" and o.case in EXPECTED]
    assert not healed, f"these pass now, take them off the list: {healed}"


@pytest.mark.parametrize("operator", ["Constant", *claimed()])
def test_cases_of_one_operator(operator: str, coverage: ModuleType, by_operator: dict) -> None:
    cases = by_operator.get((operator,), [])
    if not cases:
        pytest.skip("the package has no case of this operator alone")
    check(coverage, cases)


@pytest.mark.parametrize("part", range(PARTS))
def test_cases_of_several_operators(part: int, coverage: ModuleType, by_operator: dict) -> None:
    known = {*claimed(), "Constant"}
    cases = [case for kinds, group in by_operator.items() if len(kinds) > 1 and set(kinds) <= known for case in group]
    assert len(cases) > 300
    check(coverage, cases[part::PARTS])


def test_no_operator_is_claimed_twice() -> None:
    assert len(claimed()) == len(set(claimed()))


def test_enough_operators_and_cases(coverage: ModuleType, by_operator: dict) -> None:
    known = {*claimed(), "Constant"}
    met = {kind for kinds in by_operator if set(kinds) <= known for kind in kinds}
    count = sum(len(group) for kinds, group in by_operator.items() if set(kinds) <= known)
    assert len(met) >= 140
    assert 1 - len(EXPECTED) / count >= 0.95


# Their outputs have sizes that depend on values, or they are control flow over sequences: nothing to export.
NOT_EXPORTED = {
    "NonZero": "the output size depends on values",
    "Compress": "the output size depends on values",
    "Unique": "the output size depends on values",
}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_operators_export(part: int, coverage: ModuleType, by_operator: dict) -> None:
    """The first case of each operator goes through `torch.export` and still gives the expected outputs."""
    from edgepress.importers.onnx.convert import export_once

    refused = []
    for kind in claimed()[part::PARTS]:
        module, inputs, wanted = exportable(coverage, by_operator.get((kind,), []))
        if module is None or kind in NOT_EXPORTED:
            continue
        try:
            exported = export_once(module, tuple(inputs), tuple({} for _ in inputs))
        except Exception as error:
            refused.append(f"{kind}: {error}"[:200])
            continue
        with torch.no_grad():
            outputs = exported.module(check_guards=False)(*inputs)
        random = any(step.operator.stochastic for step in module.network.body.steps)
        for found, expected in zip(outputs, wanted, strict=False):
            assert not coverage.difference(found, expected, only_shape=random), kind
    # Shapes and axes are inputs in these cases; in networks they are constants.
    assert len(refused) <= len(claimed()[part::PARTS]) // 3, "\n".join(refused)


def exportable(coverage: ModuleType, cases: list) -> tuple:
    """Module, inputs and outputs of the first case on float tensors alone, with integer inputs bound as constants."""
    from edgepress.importers.onnx.convert import bind
    from edgepress.importers.onnx.fold import fold
    from edgepress.importers.onnx.layers import recognise_layers
    from edgepress.importers.onnx.lower import lower
    from edgepress.importers.onnx.module import OnnxModule
    from edgepress.importers.onnx.read import to_ir

    for case in cases:
        if case.name in EXPECTED:
            continue
        inputs, wanted = next(coverage.data_sets(case))
        if not inputs or not all(isinstance(v, torch.Tensor) for v in (*inputs, *wanted)):
            continue
        network = lower(to_ir(coverage.model_of(case), case.name), widen_half=False)
        floats = [v.dtype.is_floating_point for v in inputs]
        if not any(floats):
            continue
        named = zip(network.inputs, inputs, floats, strict=True)
        fixed = {spec.name: v for spec, v, is_float in named if not is_float and v.dtype == torch.int64}
        network = recognise_layers(fold(bind(network, fixed)))
        kept = [v for v, is_float in zip(inputs, floats, strict=True) if is_float or v.dtype != torch.int64]
        return OnnxModule(network), kept, wanted
    return None, [], []
