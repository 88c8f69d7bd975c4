"""The network as a torch module, ready for `torch.export`."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from edgepress.importers.onnx.executor import Executor, output_tensor
from edgepress.importers.onnx.graph import Body, Network, Step
from edgepress.importers.onnx.values import Constant, torch_dtype

Path = tuple[str, ...]


class OnnxModule(nn.Module):
    """Runs a network's steps on parameters and buffers that it owns.

    Args:
        network: the steps; what its steps read as trainable floats becomes parameters.
        new_batch: run a network written for batch 1 with another; see `batch.py`.
    """

    def __init__(self, network: Network, *, new_batch: bool = False) -> None:
        super().__init__()
        self.network = network
        self.new_batch = new_batch
        self.paths = constant_paths(network)
        trainable, wanted = trainable_constants(network), tensor_names(network)
        self.paths = {name: path for name, path in self.paths.items() if name in wanted}
        for name, path in self.paths.items():
            self._store(path, network.constants[name].tensor, name in trainable)

    def _store(self, path: Path, tensor: Tensor, trainable: bool) -> None:
        owner: nn.Module = self
        for part in path[:-1]:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        if trainable:
            owner.register_parameter(path[-1], nn.Parameter(tensor))
        else:
            owner.register_buffer(path[-1], tensor)

    def tensor_of(self, constant: Constant) -> Tensor:
        """Where a constant lies now; looked up each time, because export swaps parameters for traced ones."""
        owner: Any = self
        for part in self.paths[constant.name]:
            owner = getattr(owner, part)
        return owner

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        """The outputs for the inputs, both in the order of the file."""
        network = self.network
        executor = Executor(network.constants, self.tensor_of, new_batch=self.new_batch)
        values = dict(zip(network.body.inputs, inputs, strict=True))
        results = executor.run(network.body, values)
        return tuple(
            output_tensor(self._own(executor, value, inputs), torch_dtype(kind) if kind else None)
            for value, kind in zip(results, network.output_types, strict=True)
        )

    @staticmethod
    def _own(executor: Executor, value: Any, inputs: tuple[Any, ...]) -> Any:
        """An output that is an input or a constant as it is gets memory of its own."""
        aliased = isinstance(value, Constant) or any(value is given for given in inputs)
        tensor = executor.to_tensor(value)
        return tensor.clone() if aliased and isinstance(tensor, Tensor) else tensor


def trainable_constants(network: Network) -> set[str]:
    """Floating-point constants in places where operators have weights.

    An operand of arithmetic counts if it has several elements and does not act on a graph input directly: that is the
    normalisation of the data, not a layer.
    """
    found = set()
    for step in network.body.all_steps():
        for position in step.operator.weights:
            if position < len(step.inputs) and _is_weight(step, position, network):
                found.add(step.inputs[position])
    return found


ARITHMETIC = ("Add", "Sub", "Mul", "Div")


def _is_weight(step: Step, position: int, network: Network) -> bool:
    constant = network.constants.get(step.inputs[position])
    if constant is None or not constant.tensor.dtype.is_floating_point or constant.tensor.dtype.itemsize < 2:
        return False
    if step.kind not in ARITHMETIC:
        return True
    other = step.inputs[1 - position]
    return constant.tensor.numel() > 1 and other not in network.body.inputs and other not in network.constants


# What a constant is to the operator that reads it: the last part of its name if it has no name of its own.
ROLES: dict[str, dict[int, str]] = {
    "BatchNormalization": {1: "weight", 2: "bias", 3: "running_mean", 4: "running_var"},
    "Gather": {0: "weight"},
    "MatMul": {0: "weight", 1: "weight"},
    "Add": {0: "bias", 1: "bias"},
    "Mul": {0: "scale", 1: "scale"},
}
DEFAULT_ROLES = {1: "weight", 2: "bias", 3: "scale"}
FUSED_RECURRENT = ("edgepress::LSTM", "edgepress::GRU", "edgepress::RNN")
RECURRENT = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def constant_paths(network: Network) -> dict[str, Path]:
    """Where each constant lies in the module: its own name if it says something, else that of its reader."""
    readers = first_readers(network.body)
    taken: dict[Path, str] = {}
    groups: set[Path] = set()
    paths = {}
    for name, constant in network.constants.items():
        reader = readers.get(name)
        own = None if reader is not None and reader[0].kind in FUSED_RECURRENT else _own_path(name)
        path = own or _reader_path(reader, constant)
        base, count = path, 0
        while path in taken or path in groups or any(path[:i] in taken for i in range(1, len(path))):
            count += 1
            path = (*base[:-1], f"{base[-1]}_{count}")
            if any(base[:i] in taken for i in range(1, len(base))):  # a tensor already has the name of its group
                path = (f"{'_'.join(base)}_{count}",)
        taken[path] = name
        groups.update(path[:i] for i in range(1, len(path)))
        paths[name] = path
    return paths


def first_readers(body: Body) -> dict[str, tuple[Step, int]]:
    """The first step that reads each value, and at which position."""
    readers: dict[str, tuple[Step, int]] = {}
    for step in body.all_steps():
        for position, name in enumerate(step.inputs):
            readers.setdefault(name, (step, position))
    return readers


def _own_path(name: str) -> Path | None:
    """`backbone.0.conv.weight` is kept; `onnx::Conv_123`, `/layer/Constant_output_0` and `512` say nothing."""
    name = "" if name.startswith("onnx::") else name.split("::")[0]
    if re.fullmatch(r"[A-Za-z_][\w]*(\.\w+)+", name) and "onnx" not in name:
        return tuple(_part(part) for part in name.split("."))
    if re.fullmatch(r"[A-Za-z_]\w*[A-Za-z]\w*", name) and len(name) > 2 and "const" not in name.lower():
        return ("tensors", _part(name))
    return None


RESERVED = frozenset(dir(nn.Module())) | {"network", "paths", "new_batch"}


def _part(text: str) -> str:
    """A name that a module may have."""
    part = re.sub(r"\W+", "_", text).strip("_") or "x"
    return f"{part}_" if part in RESERVED else part


def _reader_path(reader: tuple[Step, int] | None, constant: Constant) -> Path:
    if reader is None:
        return ("tensors", _part(constant.name))
    step, position = reader
    kind = step.kind.rsplit("::", 1)[-1]
    if step.kind in FUSED_RECURRENT and position >= 4:
        parts = (len(step.inputs) - 4) // (2 if step.attributes.get("direction") == "bidirectional" else 1)
        role = RECURRENT[(position - 4) % parts] + ("_reverse" if position - 4 >= parts else "")
    else:
        role = ROLES.get(kind, DEFAULT_ROLES).get(position, f"input_{position}")
    return (_part(step.name or kind), role)


def tensor_names(network: Network) -> set[str]:
    """Constants that some step may want as tensor; the others only ever serve as numbers (shapes, axes, pads)."""
    found = set(network.body.outputs)
    for step in network.body.all_steps():
        found.update(name for index, name in enumerate(step.inputs) if index not in step.operator.numbers)
        found.update(name for body in step.bodies() for name in body.outputs)
    return found


def as_mapping(module: OnnxModule) -> Mapping[str, str]:
    """Constant's name in the file -> its name in the module."""
    return {name: ".".join(path) for name, path in module.paths.items()}
