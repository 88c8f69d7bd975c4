import pytest
import torch

from edgepress.errors import UserError
from edgepress.ir import Program, to_text
from edgepress.passes.insert_qdq import insert_qdq
from edgepress.passes.store_integers import store_integers
from edgepress.quantize.calibrate import calibrate
from edgepress.quantize.place import place
from edgepress.quantize.post_training import prepare
from edgepress.targets.capability import Capability


def test_only_the_readers_of_a_point_see_integers(mixed: Program, x86: Capability) -> None:
    plan = calibrate(mixed, place(mixed, x86), [(torch.randn(32, 6),)])
    text = to_text(insert_qdq(mixed, plan).program)
    assert "aten.linear(%layer_norm_dq, %p_second_weight_dq, %p_second_bias_dq)" in text
    assert "aten.add.Tensor(%layer_norm, %linear_1)" in text


def test_plans_without_scales_are_refused(residual: Program, x86: Capability) -> None:
    prepared = prepare(residual)
    with pytest.raises(UserError, match="not calibrated"):
        insert_qdq(prepared, place(prepared, x86))


def test_plans_of_another_program_are_refused(
    residual: Program, mixed: Program, x86: Capability, images: torch.Tensor
) -> None:
    prepared = prepare(residual)
    plan = calibrate(prepared, place(prepared, x86), [(images,)])
    with pytest.raises(UserError, match="another program"):
        insert_qdq(mixed, plan)


def test_an_empty_plan_changes_nothing(residual: Program, x86: Capability) -> None:
    empty = place(residual, x86).model_copy(update={"activations": (), "weights": (), "biases": ()})
    result = insert_qdq(residual, empty)
    assert not result.changed


def test_integers_compute_the_same_bit_for_bit(residual: Program, x86: Capability, images: torch.Tensor) -> None:
    prepared = prepare(residual)
    quantized = insert_qdq(prepared, calibrate(prepared, place(prepared, x86), [(images,)])).program
    stored = store_integers(quantized)
    assert stored.changed
    assert torch.equal(stored.program(images), quantized(images))
    kinds = {t.dtype for n, t in stored.program.state().items() if n.endswith("_int")}
    assert kinds == {torch.int8, torch.int32}
    assert not stored.program.parameter_names()


def test_a_float_program_has_nothing_to_store(residual: Program) -> None:
    assert not store_integers(residual).changed
