"""TensorRT engines: a check of the ONNX graph that needs no GPU, and a thin builder for machines that have one."""

from edgepress.exporters.tensorrt.build import TensorrtArtifact, build_engine
from edgepress.exporters.tensorrt.lint import Finding, lint
from edgepress.exporters.tensorrt.options import EngineOptions, Profile
from edgepress.exporters.tensorrt.refit import refit_engine

__all__ = ["EngineOptions", "Finding", "Profile", "TensorrtArtifact", "build_engine", "lint", "refit_engine"]
