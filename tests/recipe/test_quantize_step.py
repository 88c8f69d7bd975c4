import pytest
from pydantic import ValidationError

from edgepress.recipe.steps import Quantize


def test_settings_of_weights_alone() -> None:
    step = Quantize(activation_bits=None, weight_bits=4, weight_block=32, awq=True)
    assert step.weight_block == 32 and step.mixed is None


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"weight_block": 32}, "weight_block is for weights alone"),
        ({"awq": True}, "awq is for weights alone"),
        ({"weight_block": 24, "activation_bits": None}, "multiple of 16"),
        ({"mixed": {}}, "exactly one"),
        ({"mixed": {"average_bits": 3, "max_loss": 0.1}}, "exactly one"),
        ({"mixed": {"average_bits": 3, "widths": (4,)}}, "at least 2 items"),
        ({"mixed": {"average_bits": 3, "widths": (1, 4)}}, "greater than or equal to 2"),
        ({"smooth": 1.5}, "less than or equal to 1"),
    ],
)
def test_contradictions_are_refused(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Quantize(**settings)
