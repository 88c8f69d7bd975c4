"""Chains of functions of one quantized value: whatever stands between two quantizations becomes one table.

An int8 value has 256 states, so any chain (a clip, SiLU written as x * sigmoid(x), GELU written with erf) is followed
with 256 real numbers, and written as a table where it is quantized again.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgepress.exporters.c import graph as g
from edgepress.exporters.c import onnx_reader
from edgepress.exporters.c.onnx_reader import IMAGE, PLAIN, Model, Node, Value
from edgepress.exporters.c.staircases import Sum, staircase
from edgepress.exporters.c.tables import FUNCTIONS, Reals, codes


@dataclass(frozen=True, eq=False)
class Chain:
    """A float tensor that is a function of one int8 value, or of one sum (see staircases).

    reals: its result for each of the 256 integers, or for each sum.
    """

    source: Value | Sum
    reals: Reals
    label: str


def _leaky(node: Node) -> Callable[[Reals], Reals]:
    slope = float(node.attributes.get("alpha", 0.01))
    return lambda x: np.where(x < 0, slope * x, x)


def _elu(node: Node) -> Callable[[Reals], Reals]:
    alpha = float(node.attributes.get("alpha", 1.0))
    return lambda x: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def _hard_sigmoid(node: Node) -> Callable[[Reals], Reals]:
    alpha, beta = float(node.attributes.get("alpha", 0.2)), float(node.attributes.get("beta", 0.5))
    return lambda x: np.clip(alpha * x + beta, 0.0, 1.0)


PLAIN_UNARY = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "HardSwish": "hard_swish", "Gelu": "gelu", "Erf": "erf",
    "Softplus": "softplus", "Abs": "abs", "Neg": "negate", "Exp": "exp", "Sqrt": "sqrt", "Log": "log",
    "Reciprocal": "reciprocal", "Mish": "mish", "Sin": "sin", "Cos": "cos",
}  # fmt: skip
WITH_ATTRIBUTES = {"LeakyRelu": _leaky, "Elu": _elu, "HardSigmoid": _hard_sigmoid}
BINARY: dict[str, Callable[[Reals, Reals], Reals]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power,
    "Min": np.minimum, "Max": np.maximum,
}  # fmt: skip
UNARY = {*PLAIN_UNARY, *WITH_ATTRIBUTES, "Clip"}


def follow(model: Model, node: Node) -> bool:
    """Take an element-wise node into a chain; False if it has more than one computed operand."""
    if node.kind in UNARY:
        chain = _chain(model, node, 0)
        _keep(model, node, chain, _unary(model, node)(chain.reals))
        return True
    if node.kind not in BINARY:
        return False
    chains = [_maybe(model, node, position) for position in (0, 1)]
    shape = next((chain.source.shape for chain in chains if chain is not None), ())
    numbers = [_number(model, node, position, shape) for position in (0, 1)]
    known = [chain for chain in chains if chain is not None]
    if len(known) + sum(n is not None for n in numbers) < 2 or not known or _differ(known):
        return False
    operands: list[Reals] = []
    for number, held in zip(numbers, chains, strict=True):
        operands += [number] if number is not None else [held.reals] if held is not None else []
    with np.errstate(all="ignore"):
        _keep(model, node, known[0], BINARY[node.kind](operands[0], operands[1]))
    return True


def _differ(chains: list[Chain]) -> bool:
    return len(chains) == 2 and chains[0].source != chains[1].source


def _keep(model: Model, node: Node, chain: Chain, reals: Reals) -> None:
    label = node.kind.lower() if chain.label in ("", "identity") else f"{chain.label}, {node.kind.lower()}"
    model.chains[node.outputs[0]] = Chain(chain.source, np.asarray(reals, np.float64), label)


def _unary(model: Model, node: Node) -> Callable[[Reals], Reals]:
    if node.kind == "Clip":
        low, high = onnx_reader.limits(model, node)
        return lambda x: np.clip(x, low, high)
    if node.kind in WITH_ATTRIBUTES:
        return WITH_ATTRIBUTES[node.kind](node)
    return FUNCTIONS[PLAIN_UNARY[node.kind]]


def _chain(model: Model, node: Node, position: int) -> Chain:
    held = model.chains.get(node.inputs[position])
    if held is not None:
        return held
    value = model.value(node, position)
    x = model.tensor(value)
    return Chain(value, (np.arange(-128, 128) - x.zero_point) * float(x.scale[0]), "")


def _maybe(model: Model, node: Node, position: int) -> Chain | None:
    name = node.inputs[position]
    value = model.values.get(name)
    computed = name in model.chains or (value is not None and model.tensor(value).data is None)
    return _chain(model, node, position) if computed else None


def _number(model: Model, node: Node, position: int, shape: tuple[int, ...]) -> Reals | None:
    """A constant operand of one element, or of equal ones that widen no value of `shape`."""
    data = model.constant(node, position)
    value = model.values.get(node.inputs[position])
    if data is None and value is not None and model.tensor(value).data is not None:
        tensor = model.tensor(value)
        data = (np.asarray(tensor.data, np.float64) - tensor.zero_point) * tensor.scale[0]
    if data is None or not data.size or (data != data.flat[0]).any():
        return None
    widens = data.size > 1 and np.broadcast_shapes(data.shape, shape) != shape
    return None if widens else np.asarray(data, np.float64).reshape(-1)[0]


def write(model: Model, chain: Chain, name: str, scale: float, zero: int, label: str) -> None:
    """A chain that is quantized: its table, or its staircase."""
    if isinstance(chain.source, Sum):
        found = chain.source
        y = onnx_reader.result(model, name, found.shape, PLAIN, scale, zero)
        steps = staircase(label, found.sums, codes(chain.reals, scale, zero))
        model.ops.append(g.Contract(name=label, inputs=found.names, output=y.name, loops=found.loops, staircase=steps))
        return
    value = chain.source if chain.source.layout == IMAGE else onnx_reader.as_plain(model, chain.source)
    x = model.tensor(value)
    y = onnx_reader.result(model, name, value.shape, value.layout, scale, zero)
    table = tuple(int(code) for code in codes(chain.reals, scale, zero))
    if table == tuple(range(-128, 128)) and (x.scale, x.zero_point) == ((scale,), zero):
        model.values[name] = value
        return
    function = chain.label or "identity"
    model.ops.append(g.Lookup(name=label, inputs=(x.name,), output=y.name, function=function, table=table))
