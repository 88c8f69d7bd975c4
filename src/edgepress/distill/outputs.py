"""Whether what a student gives can be compared with what a teacher gives."""

from collections.abc import Sequence

from torch import Tensor

from edgepress.distill.term import OUTPUT_LOSSES, Term
from edgepress.errors import UserError
from edgepress.ir.program import Program


def check_comparable(student: Program, teacher: Program, terms: Sequence[Term]) -> None:
    """Every output that a loss compares is there on both sides and of one shape.

    Raises:
        UserError: naming the first that is not.
    """
    ours, theirs = output_shapes(student), output_shapes(teacher)
    for term in terms:
        if term.loss in OUTPUT_LOSSES:
            found = [shapes[term.output] if term.output < len(shapes) else "none" for shapes in (ours, theirs)]
            if found[0] != found[1] or "none" in found:
                raise UserError(
                    f"the loss {term.loss} cannot compare output {term.output} of student and teacher",
                    found=f"student {found[0]}, teacher {found[1]}",
                    expected="the same shape",
                    fix="correct `output`, or use losses on features",
                )


def output_shapes(program: Program) -> list[str]:
    """Each output's shape without the batch, e.g. "10x32x32"; "?" for free sizes."""
    output = next(node for node in reversed(program.graph.nodes) if node.op == "output")
    return [_text(node.meta["val"]) for node in output.args[0]]


def _text(value: Tensor) -> str:
    return "x".join(str(size) if isinstance(size, int) else "?" for size in value.shape[1:]) or "scalar"
