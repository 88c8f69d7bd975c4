"""The ONNX door: `.onnx` files become trainable programs whose outputs match onnxruntime's."""

from edgepress.importers.onnx.convert import OnnxModel, load, to_module
from edgepress.importers.onnx.values import Unsupported

__all__ = ["OnnxModel", "Unsupported", "load", "to_module"]
