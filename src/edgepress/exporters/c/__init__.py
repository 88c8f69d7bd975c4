"""Quantized network -> a small, readable C library without heap, interpreter or dependencies.

The steps, each a file: a source format becomes an integer graph (`onnx_qdq`, `tflite` -> `graph`), every operator a
kernel call (`portable`, and the faster choices of `select`), the calls a memory plan (`plan`), and all of it C
(`emit`, `artifact`). `interpret` runs the integer graph in numpy and is the definition the C is held to.
"""

from edgepress.exporters.c.artifact import CArtifact
from edgepress.exporters.c.export import Options, export

__all__ = ["export", "Options", "CArtifact"]
