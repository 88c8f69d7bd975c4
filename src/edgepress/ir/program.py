"""The `Program`: a captured network as a frozen value, and what a pass gives back.

A program wraps a `torch.export` training-IR graph: ATen operators at the level of `conv2d`, `linear`, `batch_norm`,
`lstm.input`, with weights as named tensors beside it. Nothing here mutates: see `ir.edit` for the only file that does.
"""

import copy
import hashlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import GraphModule, Node

STATE_KINDS = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
AXES = "axes"
"""Key of an input's metadata: its axes (as text) -> their names."""
BATCH = "batch"
# Operators with a flag that says "training": position of that flag among the arguments.
TRAINING_FLAG = {
    torch.ops.aten.batch_norm.default: 5,
    torch.ops.aten.dropout.default: 2,
    torch.ops.aten.feature_dropout.default: 2,
    torch.ops.aten.alpha_dropout.default: 2,
    torch.ops.aten.lstm.input: 6,
    torch.ops.aten.gru.input: 6,
    torch.ops.aten.rnn_tanh.input: 6,
    torch.ops.aten.rnn_relu.input: 6,
}


@dataclass(frozen=True)
class Refusal:
    """Why something was not done.

    Attributes:
        node: the node or group it concerns. found: the fact that stands in the way. needed: what would help.
    """

    node: str
    found: str
    needed: str

    def __str__(self) -> str:
        return f"{self.node}: {self.found} (needed: {self.needed})"


@dataclass(frozen=True)
class Program:
    """A captured network: graph, weights, example inputs, plans and history.

    Attributes:
        exported: the graph and its weights; treat as immutable.
        input_names, output_names: what users and exported artifacts call the inputs and outputs, in order.
        plans: plain JSON-able data a step left for later ones, by name (for instance the quantization plan).
        history: one line per change since import.
    """

    exported: ExportedProgram
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    plans: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[str, ...] = ()

    # -- looking -------------------------------------------------------------------------------------------------

    @property
    def graph(self) -> torch.fx.Graph:
        return self.exported.graph

    @property
    def nodes(self) -> list[Node]:
        """The operator nodes in order of execution."""
        return [node for node in self.graph.nodes if node.op == "call_function"]

    @property
    def example_inputs(self) -> tuple[torch.Tensor, ...]:
        args, _ = self.exported.example_inputs
        return tuple(args)

    def state_names(self) -> dict[str, str]:
        """Placeholder name -> name of the parameter, buffer or constant it stands for."""
        specs = self.exported.graph_signature.input_specs
        return {s.arg.name: s.target for s in specs if s.kind in STATE_KINDS and s.target is not None}

    def state(self) -> dict[str, torch.Tensor]:
        """Parameters, buffers and constants by name. Shared with the program: do not write to them."""
        constants = {k: v for k, v in self.exported.constants.items() if isinstance(v, torch.Tensor)}
        return {**constants, **self.exported.state_dict}

    def parameter_names(self) -> list[str]:
        return list(self.exported.graph_signature.parameters)

    def tensor_of(self, node: object) -> torch.Tensor | None:
        """The weight behind a placeholder node, or `None` for anything else."""
        if not isinstance(node, Node) or node.op != "placeholder":
            return None
        name = self.state_names().get(node.name)
        return None if name is None else self.state().get(name)

    def parameter_count(self) -> int:
        """Number of trainable elements; a tensor shared by several layers counts once."""
        state = self.state()
        return sum(state[name].numel() for name in self.parameter_names() if name in state)

    def user_inputs(self) -> list[Node]:
        """The placeholder nodes of the network's inputs, in call order."""
        state = self.state_names()
        return [n for n in self.graph.nodes if n.op == "placeholder" and n.name not in state]

    def dynamic_batch(self) -> bool:
        """Whether the first dimension of the first input is free."""
        first = self.user_inputs()[0].meta["val"]
        return first.dim() > 0 and isinstance(first.shape[0], torch.SymInt)

    def free_sizes(self) -> dict[str, str]:
        """Free size as torch writes it -> what it is called: as the imported file calls the axis, or `batch`.

        A size without a name is the batch; another one without is numbered.
        """
        found: dict[str, str] = {}
        for node in self.user_inputs():
            named = node.meta.get("custom", {}).get(AXES, {})
            for axis, size in enumerate(node.meta["val"].shape):
                if isinstance(size, torch.SymInt) and str(size) not in found:
                    taken = found.values()
                    wanted = re.sub(r"\W", "_", named.get(str(axis), BATCH))
                    found[str(size)] = wanted if wanted not in taken else f"{wanted}_{len(found)}"
        return found

    def digest(self) -> str:
        """sha256 over the printed graph and every weight: equal for equal programs, on any machine."""
        from edgepress.ir.text import to_text

        sha = hashlib.sha256(to_text(self).encode())
        for name, tensor in sorted(self.state().items()):
            sha.update(name.encode() + b"\0" + str(tensor.dtype).encode())
            flat = tensor.detach().cpu().contiguous()
            flat = flat.as_strided((flat.numel(),), (1,))  # one element counts as contiguous whatever its stride
            sha.update(flat.view(torch.uint8).numpy().tobytes())
        return sha.hexdigest()

    # -- running -------------------------------------------------------------------------------------------------

    def module(self) -> GraphModule:
        """A callable module for inference. It shares its weights with the program: train `trainable()` instead."""
        return self.exported.module(check_guards=False)

    def detached_module(self) -> GraphModule:
        """A callable module for inference with its own copy of the weights."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch copies its own deprecated tree specs
            return copy.deepcopy(self.module())

    def trainable(self) -> GraphModule:
        """A module with its own copy of the weights, set to training behaviour (batch norm, dropout)."""
        module = self.detached_module()
        set_training(module, True)
        return module

    def __call__(self, *inputs: torch.Tensor) -> Any:
        """Outputs for `inputs`, without gradients."""
        with torch.no_grad():
            return self.module()(*inputs)

    # -- deriving ------------------------------------------------------------------------------------------------

    def with_state(self, tensors: Mapping[str, torch.Tensor], *, note: str = "") -> "Program":
        """A program with the same graph and the given weights in place of its own.

        Args:
            tensors: new values by name, of unchanged shape and dtype; names left out keep their tensors.

        Raises:
            KeyError: a name that the program does not have. ValueError: a shape or dtype that differs.
        """
        state = self.state()
        for name, tensor in tensors.items():
            if tensor.shape != state[name].shape or tensor.dtype != state[name].dtype:
                raise ValueError(
                    f"{name}: {tuple(tensor.shape)} {tensor.dtype} cannot replace "
                    f"{tuple(state[name].shape)} {state[name].dtype}; use Editor to change shapes"
                )
        fresh = {name: _like(state[name], tensors[name]) for name in tensors}
        exported = rebuild(
            self.exported,
            state_dict={k: fresh.get(k, v) for k, v in self.exported.state_dict.items()},
            constants={k: fresh.get(k, v) for k, v in self.exported.constants.items()},
        )
        return replace(self, exported=exported, history=self._history(note))

    def with_plan(self, name: str, plan: Any, *, note: str = "") -> "Program":
        """A program that carries `plan` (JSON-able) under `name`."""
        return replace(self, plans={**self.plans, name: plan}, history=self._history(note))

    def _history(self, note: str) -> tuple[str, ...]:
        return (*self.history, note) if note else self.history


@dataclass(frozen=True)
class PassResult:
    """What a pass gives back: the program, whether it changed, and what was refused."""

    program: Program
    changed: bool
    refusals: tuple[Refusal, ...] = ()


def set_training(module: GraphModule, training: bool) -> None:
    """Flip the training flags of batch norm, dropout and recurrent nodes of a runnable module, in place."""
    for node in module.graph.nodes:
        position = TRAINING_FLAG.get(node.target)
        if position is not None and len(node.args) > position:
            node.update_arg(position, training)
    module.recompile()


def rebuild(
    exported: ExportedProgram,
    *,
    graph: torch.fx.Graph | None = None,
    signature: Any = None,
    state_dict: Mapping[str, Any] | None = None,
    constants: Mapping[str, Any] | None = None,
    example_inputs: Any = None,
) -> ExportedProgram:
    """An `ExportedProgram` with some parts replaced; the rest is shared with the original."""
    return ExportedProgram(
        root=exported.graph_module,
        graph=graph or exported.graph,
        graph_signature=signature or exported.graph_signature,
        state_dict=dict(exported.state_dict if state_dict is None else state_dict),
        range_constraints=dict(exported.range_constraints),
        module_call_graph=exported.module_call_graph,
        example_inputs=example_inputs or exported.example_inputs,
        constants=dict(exported.constants if constants is None else constants),
        verifiers=exported.verifiers,
    )


def _like(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """`new`, detached, as a parameter where `old` was one."""
    tensor = new.detach()
    return torch.nn.Parameter(tensor, old.requires_grad) if isinstance(old, torch.nn.Parameter) else tensor


def iter_nodes(args: object) -> Iterator[Node]:
    """The nodes inside a (nested) argument."""
    if isinstance(args, Node):
        yield args
    elif isinstance(args, Sequence) and not isinstance(args, str):
        for item in args:
            yield from iter_nodes(item)
