"""Functions of one value: which steps of them a target with tables leaves unrounded."""

import torch
from torch import Tensor, nn

from edgepress.ir import Program, capture
from edgepress.quantize.chains import inside
from edgepress.quantize.place import place
from edgepress.targets.capability import load_capability


class Squash(nn.Module):
    """Lengths and what is made of them, beside a sum of two values, which is a function of neither."""

    def forward(self, x: Tensor) -> Tensor:
        squared = (x * x).sum(-1, keepdim=True)
        short = x * (squared / (1 + squared) / torch.sqrt(squared + 1e-7))
        agreement = torch.zeros_like(x) + x
        return short + agreement.softmax(-1)


def squash() -> Program:
    return capture(Squash(), [torch.randn(2, 6)], input_names=["x"])


def names(program: Program) -> dict[str, str]:
    return {node.name: str(node.target) for node in program.nodes}


def test_steps_of_a_function_are_inside_and_its_result_is_not() -> None:
    program = squash()
    found = {node.name for node in inside(program)}
    assert {"sum_1", "add", "div", "sqrt"} <= found
    assert "div_1" not in found, "the function's result meets another value"
    assert not found & {"x", "mul_1", "softmax"}, names(program)


def test_only_what_is_no_step_is_rounded() -> None:
    plan = place(squash(), load_capability("mcu-c"))
    pointed = {point.node for point in plan.activations}
    assert not plan.float_nodes
    assert {"div_1", "mul_1", "softmax"} <= pointed
    assert not pointed & {"mul", "sum_1", "add", "div", "sqrt", "zeros_like"}


def test_targets_without_tables_round_as_before() -> None:
    plan = place(squash(), load_capability("onnxruntime-x86"))
    assert any(node.node == "sum_1" for node in plan.float_nodes)
