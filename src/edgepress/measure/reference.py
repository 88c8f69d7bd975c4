"""The ONNX standard's own evaluator as a hop: what a file means, whatever a runtime makes of it. For small networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepress.errors import ToolError

if TYPE_CHECKING:
    from edgepress.targets.runtimes import Array

# The evaluator knows DequantizeLinear from this version of the operator set on.
LEAST_OPSET = 19


class Reference:
    """An ONNX file in the reference evaluator, in numpy, with no fusion at all.

    Attributes:
        input_names, output_names: as in the file.

    Raises:
        ToolError: it does not know an operator, or cannot be brought to an operator set that it knows.
    """

    def __init__(self, artifact: Path) -> None:
        import onnx
        from onnx.reference import ReferenceEvaluator

        try:
            model = onnx.load(artifact)
            version = next(o.version for o in model.opset_import if not o.domain)
            if version < LEAST_OPSET:
                model = onnx.version_converter.convert_version(model, LEAST_OPSET)
            self._evaluator = ReferenceEvaluator(model)
        except Exception as error:  # the evaluator and the converter raise whatever went wrong
            raise ToolError(f"the ONNX reference cannot run {artifact.name}", found=_first_line(error)) from None
        self._name = artifact.name
        self.input_names = tuple(self._evaluator.input_names)
        self.output_names = tuple(self._evaluator.output_names)

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Outputs in the order of `output_names`."""
        return [self.trace(inputs)[name] for name in self.output_names]

    def trace(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Every floating-point value it computes, by name.

        Raises:
            ToolError: an operator fails on these inputs.
        """
        try:
            values = dict(self._evaluator.run(None, dict(inputs), intermediate=True))
        except Exception as error:
            raise ToolError(f"the ONNX reference failed in {self._name}", found=_first_line(error)) from None
        return {
            name: value
            for name, value in values.items()
            if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)
        }


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
