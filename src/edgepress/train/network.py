"""A network in training: its weights by name, how it is called, and how it is put to the test."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from edgepress.errors import UserError
from edgepress.ir.program import Program
from edgepress.train.options import TrainOptions
from edgepress.train.tapping import plain, tapped

AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Network:
    """A program's graph with its own weights.

    Attributes:
        weights: parameters and buffers by the program's names; live, they change as training goes on.
    """

    def __init__(self, program: Program, options: TrainOptions, taps: tuple[str, ...], *, tap: bool) -> None:
        self._options = options
        module = _placed(program.trainable(), options)
        self._module = module
        self.weights = weights_of(module, program)
        call = tapped(module, taps) if tap else module
        self._call: Any = torch.compile(call) if options.compile else call
        self._examiner: GraphModule | None = None
        self._program = program

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The tensors that are trained."""
        return {name: t for name, t in self.weights.items() if isinstance(t, torch.nn.Parameter) and t.requires_grad}

    def __call__(self, inputs: tuple[Tensor, ...]) -> Any:
        """Outputs in float32 with gradients; with taps the pair (outputs, values)."""
        with autocast(self._options):
            outputs = self._call(*inputs)
        return to_float(outputs)

    def examiner(self, weights: Mapping[str, Tensor]) -> GraphModule:
        """A module in evaluation mode with a copy of `weights`, in full precision."""
        if self._examiner is None:
            self._examiner = Program.detached_module(self._program).to(self._options.device)
            self._examined = weights_of(self._examiner, self._program)
        with torch.no_grad():
            for name, tensor in self._examined.items():
                tensor.copy_(weights[name])
        return self._examiner


class Teachers:
    """Networks that are only asked: their outputs averaged, without gradients."""

    def __init__(
        self, programs: tuple[Program, ...], options: TrainOptions, taps: tuple[str, ...], *, tap: bool
    ) -> None:
        self._options = options
        modules = [_placed(Program.detached_module(p), options) for p in programs]
        self._calls = [tapped(m, taps) if tap else m for m in modules]
        if tap and len(programs) > 1:
            raise UserError("several teachers cannot be tapped", found=f"{len(programs)} teachers", expected="one",
                            fix="use losses on outputs, or one teacher")  # fmt: skip

    @torch.no_grad()
    def __call__(self, inputs: tuple[Tensor, ...]) -> Any:
        """Averaged outputs in float32, or `None` without teachers."""
        with autocast(self._options):
            answers = [call(*inputs) for call in self._calls]
        if not answers:
            return None
        answers = [to_float(a) for a in answers]
        return answers[0] if len(answers) == 1 else _mean(answers)


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


def _mean(answers: list[Any]) -> Any:
    if isinstance(answers[0], Tensor):
        return torch.stack(answers).mean(0)
    return tuple(torch.stack(parts).mean(0) for parts in zip(*answers, strict=True))


def _placed(module: GraphModule, options: TrainOptions) -> GraphModule:
    module = module.to(options.device)
    return module.to(memory_format=torch.channels_last) if options.channels_last else module  # type: ignore[call-overload]
