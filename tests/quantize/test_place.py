import pytest

from edgepress.ir import Program
from edgepress.ir.quant_plan import QuantPlan
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.place import place
from edgepress.quantize.post_training import prepare
from edgepress.targets.capability import Capability, capability_names, load_capability


def test_activations_are_quantized_behind_what_the_runtime_fuses(residual: Program, x86: Capability) -> None:
    plan = place(prepare(residual), x86)
    pointed = [p.node for p in plan.activations]
    assert "relu" in pointed and "conv2d" not in pointed, "conv + relu is one kernel"
    assert "relu_2" in pointed and "add" not in pointed, "the sum and its relu are one kernel"
    assert "conv2d_2" in pointed, "the branch that enters the sum needs integers"
    assert "linear" not in pointed, "the last layer can hand out float"
    assert not plan.float_nodes


def test_moves_share_the_scale_of_their_source(residual: Program, x86: Capability) -> None:
    groups = place(prepare(residual), x86).groups()
    assert {p.node for p in groups["relu_2"]} == {"relu_2", "max_pool2d"}
    assert [p.source for p in groups["relu_2"]] == [True, False]


def test_biases_sit_on_the_accumulators_grid(residual: Program, x86: Capability) -> None:
    plan = place(prepare(residual), x86)
    assert {b.weight for b in plan.biases} == {w.tensor for w in plan.weights}
    assert not place(prepare(residual), load_capability("tensorrt")).biases


def test_what_stays_float_says_why(mixed: Program, x86: Capability) -> None:
    plan = place(mixed, x86)
    reasons = {n.node: n.found for n in plan.float_nodes}
    assert "normalization" in reasons["layer_norm"]
    assert reasons["add"] == "its input layer_norm is float"
    # The float reader keeps the float value, the linear layer reads integers.
    point = plan.activation("layer_norm")
    assert point is not None and point.readers == ("linear_1",)


def test_a_target_of_integers_alone_keeps_nothing_float(mixed: Program) -> None:
    plan = place(mixed, load_capability("mcu-c"))
    assert not plan.float_nodes
    assert {"x", "linear", "layer_norm", "linear_1", "add", "layer_norm_1"} == {p.node for p in plan.activations}


@pytest.mark.parametrize("name", ["head", "linear"])
def test_layers_the_user_keeps_float(residual: Program, x86: Capability, name: str) -> None:
    plan = place(prepare(residual), x86, QuantOptions(keep_float=(name,)))
    assert plan.weight("head.weight") is None
    assert any("keep_float" in n.needed for n in plan.float_nodes)


def test_weights_only(residual: Program, x86: Capability) -> None:
    plan = place(prepare(residual), x86, QuantOptions(activation_bits=None, weight_bits=4, edge_bits=8))
    assert not plan.activations and not plan.biases
    assert [w.grid.high for w in plan.weights] == [127, 7, 7, 127]


@pytest.mark.parametrize("name", capability_names())
def test_every_target_places_and_the_plan_survives_json(residual: Program, name: str) -> None:
    plan = place(prepare(residual), load_capability(name))
    assert len(plan.weights) == 4
    assert QuantPlan.model_validate_json(plan.model_dump_json()) == plan
    assert name in plan.to_text() and "not calibrated" in plan.to_text()


def test_reduced_range_without_vnni(residual: Program) -> None:
    plan = place(prepare(residual), load_capability("onnxruntime-x86-avx2"))
    assert {w.grid.high for w in plan.weights} == {63}


def test_symmetric_targets_have_no_zero_points(residual: Program) -> None:
    plan = place(prepare(residual), load_capability("tensorrt"))
    assert {(p.grid.dtype, p.grid.low, p.grid.symmetric) for p in plan.activations} == {("int8", -127, True)}
