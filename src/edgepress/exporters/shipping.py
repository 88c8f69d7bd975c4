"""The form of a program that ships, whatever the format: nothing in it that only training needs."""

from edgepress.ir.program import Program
from edgepress.passes.drop_identity import drop_identity
from edgepress.passes.fold_batchnorm import fold_batchnorm
from edgepress.passes.store_integers import store_integers


def shipping_form(program: Program) -> Program:
    """Batch norms folded, dropout dropped, quantized weights stored as integers."""
    return store_integers(fold_batchnorm(drop_identity(program).program).program).program
