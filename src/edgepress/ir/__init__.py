"""The program: one graph from training to target, and the only code that changes it."""

from edgepress.ir.capture import adopt, capture
from edgepress.ir.edit import Editor
from edgepress.ir.program import PassResult, Program, Refusal
from edgepress.ir.serde import load, save
from edgepress.ir.text import to_text
from edgepress.ir.verify import verify, violations

__all__ = [
    "Editor",
    "PassResult",
    "Program",
    "Refusal",
    "adopt",
    "capture",
    "load",
    "save",
    "to_text",
    "verify",
    "violations",
]
