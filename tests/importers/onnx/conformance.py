"""The operator test cases that ship inside the `onnx` package, run through the importer."""

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from edgepress.errors import UserError
from edgepress.importers.onnx.lower import lower, stored_tensor
from edgepress.importers.onnx.module import OnnxModule
from edgepress.importers.onnx.read import to_ir
from edgepress.importers.onnx.values import Unsupported
