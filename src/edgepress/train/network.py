"""A network in training: its weights by name, how it is called, and how it is put to the test."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from edgepress.ir.program import Program
from edgepress.train.engine import Engine
from edgepress.train.options import TrainOptions
from edgepress.train.tapping import plain, tapped

AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Network:
    """A program's graph with its own weights.

    Attributes:
        weights: parameters and buffers by the program's names; live, they change as training goes on.
        parameters: those of them that are trained.
    """

    def __init__(
        self, program: Program, options: TrainOptions, taps: tuple[str, ...], engine: Engine, *, tap: bool
    ) -> None:
        self._options = options
        module = placed(program.trainable(), options)
        self._module = module
        self.weights = weights_of(module, program)
        self.parameters = {
            n: t for n, t in self.weights.items() if isinstance(t, torch.nn.Parameter) and t.requires_grad
        }
        call = tapped(module, taps) if tap else module
        self._call: Any = engine.prepare(torch.compile(call) if options.compile else call)
        self._examiner: GraphModule | None = None
        self._program = program

    def __call__(self, inputs: tuple[Tensor, ...]) -> Any:
        """Outputs in float32 with gradients; with taps the pair (outputs, values)."""
        with autocast(self._options):
            outputs = self._call(*inputs)
        return to_float(outputs)

    def examiner(self, weights: Mapping[str, Tensor]) -> GraphModule:
        """A module in evaluation mode with a copy of `weights`, in full precision."""
        if self._examiner is None:
            self._examiner = self._program.detached_module().to(self._options.device)
            self._examined = weights_of(self._examiner, self._program)
        with torch.no_grad():
            for name, tensor in self._examined.items():
                tensor.copy_(weights[name])
        return self._examiner


def autocast(options: TrainOptions) -> AbstractContextManager[Any]:
    """Mixed precision as the options ask for."""
    kind = torch.device(options.device).type
    return torch.autocast(kind, dtype=AMP_TYPES.get(options.amp, torch.bfloat16), enabled=options.amp != "off")


def weights_of(module: torch.nn.Module, program: Program) -> dict[str, Tensor]:
    """The module's parameters and buffers that the program has under the same name."""
    known = program.state()
    named = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    return {name: tensor for name, tensor in named.items() if name in known}


def to_float(outputs: Any) -> Any:
    """Flat outputs with half-precision tensors widened to float32."""
    if isinstance(outputs, tuple) and len(outputs) == 2 and isinstance(outputs[1], dict):
        return _widened(plain(outputs[0])), {name: _widened(value) for name, value in outputs[1].items()}
    return _widened(plain(outputs))


def _widened(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_widened(v) for v in value)
    half = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value


def placed(module: GraphModule, options: TrainOptions) -> GraphModule:
    """The module on its device and in the memory layout that the options ask for."""
    module = module.to(options.device)
    return module.to(memory_format=torch.channels_last) if options.channels_last else module  # type: ignore[call-overload]
