import itertools

import pytest
import torch

from edgepress.errors import UserError
from edgepress.ir import Program
from edgepress.quantize.mixed import Option, allocate, explain, sensitivities
from edgepress.quantize.options import Mixed, QuantOptions
from edgepress.quantize.place import place
from edgepress.quantize.post_training import prepare, quantize
from edgepress.targets.capability import Capability, load_capability

SIZES = {"a": 10, "b": 40, "c": 5, "d": 20}


def table(seed: int = 0) -> tuple[Option, ...]:
    draw = torch.Generator().manual_seed(seed)
    found = []
    for name, size in SIZES.items():
        weight = float(torch.rand((), generator=draw)) * 5
        found += [Option(name, bits, weight * 4.0**-bits, float(bits * size)) for bits in (2, 3, 4, 8)]
    return tuple(found)


@pytest.mark.parametrize("seed", range(5))
def test_the_allocation_is_the_best_of_all(seed: int) -> None:
    wish, options = Mixed(average_bits=3.3), table(seed)
    chosen = allocate(options, wish)
    limit = 3.3 * sum(SIZES.values())
    assert sum(o.cost for o in chosen.values()) <= limit
    by_name = [[o for o in options if o.tensor == name] for name in SIZES]
    feasible = (c for c in itertools.product(*by_name) if sum(o.cost for o in c) <= limit)
    best = min(sum(o.error for o in c) for c in feasible)
    assert sum(o.error for o in chosen.values()) == pytest.approx(best, rel=1e-4)


def test_a_limit_on_the_loss_takes_the_fewest_bits() -> None:
    options, wish = table(), Mixed(max_loss=0.02)
    chosen = allocate(options, wish)
    assert sum(o.error for o in chosen.values()) <= 0.02
    by_name = [[o for o in options if o.tensor == name] for name in SIZES]
    feasible = (c for c in itertools.product(*by_name) if sum(o.error for o in c) <= 0.02)
    assert sum(o.cost for o in chosen.values()) == pytest.approx(min(sum(o.cost for o in c) for c in feasible))


def test_budgets_that_cannot_be_met_say_so() -> None:
    with pytest.raises(UserError, match="no widths meet the budget"):
        allocate(table(), Mixed(max_loss=1e-9))


def test_every_choice_is_explained() -> None:
    wish = Mixed(average_bits=3.3)
    for _, bits, why in explain(table(), allocate(table(), wish), wish):
        assert ("would add" in why) == (bits > 2) and ("would take" in why) == (bits < 8)


@pytest.mark.parametrize("wrong", [{}, {"average_bits": 3.0, "max_loss": 0.1}, {"max_loss": 0.1, "widths": (1, 4)}])
def test_wishes_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Mixed(**wrong)  # type: ignore[arg-type]


def test_wider_weights_err_less(residual: Program, images: torch.Tensor, x86: Capability) -> None:
    prepared = prepare(residual)
    found = sensitivities(prepared, place(prepared, x86), [(images,)], Mixed(average_bits=3, samples=32))
    for name in {o.tensor for o in found}:
        errors = [o.error for o in found if o.tensor == name]
        assert len(errors) == 4 and errors[0] > errors[-1] >= 0


def test_a_mixed_plan_has_the_widths_and_reasons(residual: Program, images: torch.Tensor, x86: Capability) -> None:
    result = quantize(residual, QuantOptions(mixed=Mixed(average_bits=3.5, samples=32)), x86, [(images,)])
    widths = {w.tensor: (w.grid.high + 1).bit_length() for w in result.plan.weights}
    sizes = {name: result.reference.state()[name].numel() for name in widths}
    assert sum(widths[n] * sizes[n] for n in widths) <= 3.5 * sum(sizes.values())
    assert len(set(widths.values())) > 1 and all(w.why for w in result.plan.weights)
    assert "would add" in result.plan.to_text() or "would take" in result.plan.to_text()


def test_seven_bits_are_the_most_where_sums_saturate(residual: Program, images: torch.Tensor) -> None:
    options = QuantOptions(mixed=Mixed(average_bits=8, samples=32))
    result = quantize(residual, options, load_capability("onnxruntime-x86-avx2"), [(images,)])
    assert {w.grid.high for w in result.plan.weights} == {63}
