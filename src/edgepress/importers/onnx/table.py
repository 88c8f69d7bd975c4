"""The operator table: every ONNX operator the importer takes."""

from edgepress.importers.onnx import classical, integer_blocks, qoperators
from edgepress.importers.onnx.entry import ByVersion, Operator, Operators
from edgepress.importers.onnx.ops import (
    attention,
    control,
    conv,
    einsum,
    elementwise,
    index,
    microsoft,
    norm,
    pool,
    quant,
    recurrent,
    reduce,
    resize,
    sampling,
    sequence,
    shape,
    spectral,
    transformers,
    vision,
)

FAMILIES: dict[str, Operators] = {
    "elementwise": elementwise.OPERATORS,
    "shape": shape.OPERATORS,
    "reduce": reduce.OPERATORS,
    "index": index.OPERATORS,
    "conv": conv.OPERATORS,
    "einsum": einsum.OPERATORS,
    "pool": pool.OPERATORS,
    "norm": norm.OPERATORS,
    "resize": resize.OPERATORS,
    "recurrent": recurrent.OPERATORS,
    "attention": attention.OPERATORS,
    "spectral": spectral.OPERATORS,
    "vision": vision.OPERATORS,
    "sequence": sequence.OPERATORS,
    "sampling": sampling.OPERATORS,
    "control": control.OPERATORS,
    "quant": quant.OPERATORS,
    "qoperators": qoperators.OPERATORS,
    "integer blocks": integer_blocks.OPERATORS,
    "microsoft": microsoft.OPERATORS,
    "transformers": transformers.OPERATORS,
    "classical": classical.OPERATORS,
}


def find(kind: str) -> Operator | ByVersion | None:
    """The operator called `domain::Name`, or `Name` in the default domain."""
    return next((family[kind] for family in FAMILIES.values() if kind in family), None)


def claimed() -> list[str]:
    """Every ONNX operator in the table (those made by the importer itself left out)."""
    return sorted(kind for family in FAMILIES.values() for kind in family if not kind.startswith("edgepress::"))
