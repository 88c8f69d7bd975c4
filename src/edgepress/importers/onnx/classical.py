"""The domain `ai.onnx.ml`, as far as it computes with numbers: what scikit-learn's scalers and linear models become.

Linear models become a Gemm with constant weights, so that they can be trained, pruned and quantized like any layer.
Trees, strings and dictionaries stay outside: a label that is text is left out, and so is the dictionary around scores.
"""

from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from torch import Tensor

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.graph import Step
from edgepress.importers.onnx.ops.conv import OPERATORS as LAYERS
from edgepress.importers.onnx.values import Constant, Unsupported

ML = "ai.onnx.ml"


# -- outputs that are no tensors ---------------------------------------------------------------------------------------


def without_text(model: ir.Model) -> tuple[str, ...]:
    """Take dictionaries off scores and leave out outputs that are text, in place; a note for each.

    Outputs stay as they are where nothing else would be left.
    """
    graph = model.graph
    notes = []
    for index, value in enumerate(graph.outputs):
        node = value.producer()
        if node is not None and node.domain == ML and node.op_type == "ZipMap" and node.inputs[0] is not None:
            name, scores = value.name, node.inputs[0]
            graph.outputs[index] = scores
            value.name, scores.name = f"{name}::map", name
            notes.append(f"output {name!r} is the tensor of scores, without the dictionary that names its columns")
    text = [value for value in graph.outputs if value.dtype == ir.DataType.STRING]
    if text and len(text) < len(graph.outputs):
        for value in text:
            graph.outputs.remove(value)
            notes.append(f"output {value.name!r} is text and was left out")
    if notes:
        RemoveUnusedNodesPass()(model)
    return tuple(notes)


# -- linear models -----------------------------------------------------------------------------------------------------


def expand_linear(step: Step) -> tuple[tuple[Step, ...], tuple[Constant, ...]] | None:
    """The layer and what follows it, for a linear regressor or classifier; `None` for any other step.

    Raises:
        Unsupported: a form without a weight row for each class.
    """
    kind = step.kind.removeprefix(f"{ML}::")
    if step.kind not in (f"{ML}::LinearRegressor", f"{ML}::LinearClassifier"):
        return None
    given, base = step.attributes, next(name for name in reversed(step.outputs) if name)
    bias = torch.tensor(given.get("intercepts", ()), dtype=torch.float32)
    weight = torch.tensor(given["coefficients"], dtype=torch.float32).reshape(_rows(step), -1)
    constants = [Constant(f"{base}::weight", weight), Constant(f"{base}::bias", bias)][: 2 if len(bias) else 1]
    names = (f"{base}::x", *(constant.name for constant in constants))
    steps = [
        Step(f"{step.name}_cast", "edgepress::Float", FLOAT, step.inputs, names[:1]),
        Step(step.name, "Gemm", GEMM, names, (f"{base}::raw",), {"transB": 1}),
    ]
    how = {"post_transform": given.get("post_transform", "NONE")}
    scores = step.outputs[-1] if kind == "LinearRegressor" or len(step.outputs) > 1 else f"{base}::scores"
    steps.append(Step(f"{step.name}_scores", "edgepress::Scores", SCORES, (f"{base}::raw",), (scores,), how))
    if kind == "LinearClassifier" and step.outputs[0]:
        labels = {"labels": tuple(given.get("classlabels_ints", ()))}
        steps.append(
            Step(f"{step.name}_labels", "edgepress::Labels", LABELS, (f"{base}::raw",), step.outputs[:1], labels)
        )
    return tuple(steps), tuple(constants)


def _rows(step: Step) -> int:
    given = step.attributes
    if step.kind.endswith("Regressor"):
        return int(given.get("targets", 1))
    classes = len(given.get("classlabels_ints", ())) or len(given.get("classlabels_strings", ()))
    rows = len(given.get("intercepts", ())) or classes
    if rows != classes:
        raise Unsupported(
            f"node {step.name!r} (LinearClassifier)",
            found=f"{rows} rows of weights for {classes} classes",
            expected="one row for each class",
        )
    return rows


def scores(raw: Tensor, post_transform: str = "NONE") -> Tensor:
    """What the classifier makes of weighted sums (N, C)."""
    if post_transform == "SOFTMAX":
        return torch.softmax(raw, -1)
    if post_transform == "LOGISTIC":
        return torch.sigmoid(raw)
    if post_transform != "NONE":
        raise Unsupported(
            "a linear model", found=f"post_transform {post_transform}", expected="NONE, SOFTMAX, LOGISTIC"
        )
    return raw


def class_labels(raw: Tensor, labels: tuple[int, ...] = ()) -> Tensor:
    """The label of the largest score of each row; its position where labels are text."""
    best = raw.argmax(-1)
    return best if labels in ((), tuple(range(len(labels)))) else torch.tensor(labels)[best]


# -- scaling -----------------------------------------------------------------------------------------------------------


def scaler(x: Tensor, offset: tuple[float, ...] = (0.0,), scale: tuple[float, ...] = (1.0,)) -> Tensor:
    """(x - offset) scale, per column or for all."""
    return (x.float() - torch.tensor(offset)) * torch.tensor(scale)


def normalizer(x: Tensor, norm: str = "MAX") -> Tensor:
    """Each row over its largest value, sum of magnitudes, or length; a row of zeros stays."""
    x = x.float()
    if norm == "MAX":
        size = x.amax(-1, keepdim=True)
    else:
        size = x.abs().sum(-1, keepdim=True) if norm == "L1" else x.square().sum(-1, keepdim=True).sqrt()
    return x / torch.where(size == 0, torch.ones_like(size), size)


def binarizer(x: Tensor, threshold: float = 0.0) -> Tensor:
    """1 above the threshold, else 0."""
    return (x > threshold).to(x.dtype)


def feature_vectorizer(*inputs: Tensor, inputdimensions: Any = None) -> Tensor:
    """Columns side by side, as float."""
    return torch.cat([x.float().reshape(len(x), -1) for x in inputs], 1)


def imputer(
    x: Tensor, imputed_value_floats: tuple[float, ...] = (), replaced_value_float: float = float("nan"), **_: Any
) -> Tensor:
    """Other numbers where one stands for what is missing."""
    missing = torch.isnan(x) if replaced_value_float != replaced_value_float else x == replaced_value_float
    return torch.where(missing, torch.tensor(imputed_value_floats, dtype=x.dtype), x)


def _refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("linear models are expanded before they run")


FLOAT, SCORES, LABELS = Operator(lambda x: x.float()), Operator(scores), Operator(class_labels)
GEMM: Operator = LAYERS["Gemm"] if isinstance(LAYERS["Gemm"], Operator) else LAYERS["Gemm"][max(LAYERS["Gemm"])]
OPERATORS: Operators = {
    f"{ML}::Scaler": Operator(scaler),
    f"{ML}::Normalizer": Operator(normalizer),
    f"{ML}::Binarizer": Operator(binarizer),
    f"{ML}::FeatureVectorizer": Operator(feature_vectorizer),
    f"{ML}::Imputer": Operator(imputer),
    f"{ML}::LinearRegressor": Operator(_refuse, foldable=False),
    f"{ML}::LinearClassifier": Operator(_refuse, foldable=False),
}
