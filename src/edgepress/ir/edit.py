"""The only file that changes a graph.

An `Editor` works on its own copy of the graph, with tensors shared; `finish()` gives back a new, verified `Program`
whose shapes have been propagated again. A pass is policy-free code that drives an editor.
"""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export.graph_signature import (
    ConstantArgument,
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputSpec,
    TensorArgument,
)
from torch.fx import Graph, GraphModule, Interpreter, Node
from torch.fx.node import map_arg

from edgepress.ir.program import Program, rebuild
from edgepress.ir.recurrent import recurrent_shapes
from edgepress.ir.verify import verify

Op = Callable[..., Any]


class Editor:
    """Edits a copy of `program`; the program itself stays as it is.

    Attributes:
        graph: the copy; read it freely, change it through the methods here.
        state: parameters, buffers and constants by name, as they will be.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._signature = program.exported.graph_signature
        self.graph, self._nodes = _copy_graph(program.graph)
        self.state = dict(program.state())
        self._kinds = {s.target: s.kind for s in self._signature.input_specs if s.target is not None}
        self._placeholders = {target: self._nodes[name] for name, target in program.state_names().items()}
        self._examples, self._example_kwargs = program.exported.example_inputs
        self._fakes: dict[object, FakeTensor] = {}

    # -- looking -------------------------------------------------------------------------------------------------

    def node(self, name: str) -> Node:
        """The node of that name. Node names survive editing, so plans can refer to them."""
        return self._nodes[name]

    def has_node(self, name: str) -> bool:
        return name in self._nodes

    # -- tensors -------------------------------------------------------------------------------------------------

    def set_tensor(self, name: str, tensor: torch.Tensor) -> None:
        """Replace a parameter, buffer or constant; shape and dtype may change."""
        old = self.state[name]
        fresh = tensor.detach().contiguous()
        is_parameter = isinstance(old, torch.nn.Parameter)
        self.state[name] = torch.nn.Parameter(fresh, old.requires_grad) if is_parameter else fresh

    def add_tensor(self, name: str, tensor: torch.Tensor, *, parameter: bool = False) -> Node:
        """A new parameter or buffer, and the placeholder node that stands for it.

        `name` may be dotted; it must not exist yet.
        """
        if name in self.state:
            raise ValueError(f"tensor {name} exists already")
        before = next(iter(self.graph.nodes))
        with self.graph.inserting_before(before):
            node = self.graph.placeholder(("p_" if parameter else "b_") + name.replace(".", "_"))
        self._nodes[node.name] = node
        fresh = tensor.detach().contiguous()
        self.state[name] = torch.nn.Parameter(fresh) if parameter else fresh
        self._kinds[name] = InputKind.PARAMETER if parameter else InputKind.BUFFER
        self._placeholders[name] = node
        return node

    # -- inputs --------------------------------------------------------------------------------------------------

    def permute_input(self, node: Node, order: Sequence[int]) -> Node:
        """Let users give an input with its axes in another order; free sizes stay free.

        Args:
            node: placeholder of an input. order: axis i of the new input is axis `order[i]` of the old one.

        Returns:
            The node in the old order, which all readers of the input read now.
        """
        position = [n.name for n in self._program.user_inputs()].index(node.name)
        examples = list(self._examples)
        examples[position] = examples[position].permute(*order).contiguous()
        self._examples = tuple(examples)
        value = node.meta["val"]
        with value.fake_mode:
            node.meta["val"] = value.permute(*order).contiguous()
        back = [list(order).index(axis) for axis in range(len(order))]
        restored = self.call(torch.ops.aten.permute.default, (node, back), after=node)
        self.replace_uses(node, restored)
        return restored

    # -- nodes ---------------------------------------------------------------------------------------------------

    def call(
        self,
        op: Op,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None = None,
        *,
        before: Node | None = None,
        after: Node | None = None,
        name: str = "",
    ) -> Node:
        """Insert a call of `op` before or after a node."""
        anchor = self.graph.inserting_after(after) if after is not None else self.graph.inserting_before(before)
        with anchor:
            node = self.graph.create_node("call_function", op, tuple(args), dict(kwargs or {}), name or None)
        self._nodes[node.name] = node
        return node

    def set_arg(self, node: Node, position: int, value: Any) -> None:
        """Set the positional argument of `node`; arguments in between must exist."""
        node.update_arg(position, value)

    def set_kwarg(self, node: Node, name: str, value: Any) -> None:
        """Set an argument of `node` that is given by name."""
        node.update_kwarg(name, value)

    def set_target(self, node: Node, op: Op, args: Sequence[Any]) -> None:
        """Make `node` a call of another operator with other arguments."""
        node.target, node.args, node.kwargs = op, tuple(args), {}

    def replace_input(self, node: Node, old: Node, new: Node) -> None:
        """Let `node` read `new` where it read `old`."""
        node.replace_input_with(old, new)

    def replace_uses(self, old: Node, new: Node, *, keep: Sequence[Node] = ()) -> None:
        """Let every user of `old` read `new`, except `new` itself and the nodes in `keep`."""
        spared = {new, *keep}
        old.replace_all_uses_with(new, delete_user_cb=lambda user: user not in spared)

    def erase(self, node: Node) -> None:
        """Remove a node that has no users."""
        self.graph.erase_node(node)
        self._nodes.pop(node.name, None)

    # -- done ----------------------------------------------------------------------------------------------------

    def finish(self, *, note: str = "", plans: Mapping[str, Any] | None = None) -> Program:
        """The edited program: dead nodes and unused weights dropped, shapes propagated, rules verified.

        Raises:
            EdgepressError: the edited graph breaks a rule of the IR (a defect of the pass).
        """
        self._drop_dead()
        signature = self._new_signature()
        self.graph.lint()
        self._propagate()
        live = {s.target for s in signature.input_specs if s.target is not None}
        constants = {n for n, kind in self._kinds.items() if kind == InputKind.CONSTANT_TENSOR}
        others = {k: v for k, v in self._program.exported.constants.items() if not isinstance(v, torch.Tensor)}
        non_persistent = {s.target for s in signature.input_specs if s.persistent is False}
        outside = constants | non_persistent
        exported = rebuild(
            self._program.exported,
            graph=self.graph,
            signature=signature,
            state_dict={k: v for k, v in self.state.items() if k in live and k not in outside},
            constants={**others, **{k: v for k, v in self.state.items() if k in live and k in outside}},
            example_inputs=(self._examples, self._example_kwargs),
        )
        program = replace(
            self._program,
            exported=exported,
            plans={**self._program.plans, **(plans or {})},
            history=(*self._program.history, note) if note else self._program.history,
        )
        verify(program)
        return program

    def _drop_dead(self) -> None:
        for node in reversed(list(self.graph.nodes)):
            if node.op == "call_function" and not node.users and not node.is_impure():
                self.erase(node)
        for target, node in list(self._placeholders.items()):
            if not node.users:
                self.erase(node)
                del self._placeholders[target]
                self.state.pop(target, None)

    def _new_signature(self) -> ExportGraphSignature:
        old = {s.arg.name: s for s in self._signature.input_specs}
        targets = {node.name: target for target, node in self._placeholders.items()}
        inputs = [
            old.get(node.name) or self._new_spec(node, targets[node.name])
            for node in self.graph.nodes
            if node.op == "placeholder"
        ]
        return ExportGraphSignature(inputs, [self._output_spec(s, i) for i, s in self._outputs()])

    def _new_spec(self, node: Node, target: str) -> InputSpec:
        kind = self._kinds[target]
        persistent = True if kind == InputKind.BUFFER else None
        return InputSpec(kind, TensorArgument(node.name), target, persistent)

    def _outputs(self) -> list[tuple[int, OutputSpec]]:
        return list(enumerate(self._signature.output_specs))

    def _output_spec(self, spec: OutputSpec, index: int) -> OutputSpec:
        output = next(n for n in reversed(self.graph.nodes) if n.op == "output")
        value = output.args[0][index]
        arg = TensorArgument(value.name) if isinstance(value, Node) else ConstantArgument("", value)
        return OutputSpec(spec.kind, arg, spec.target)

    def _propagate(self) -> None:
        """Recompute `meta["val"]` of every node on fake tensors; symbolic batch sizes survive."""
        mode = _fake_mode(self._program)
        targets = {node: target for target, node in self._placeholders.items()}
        inputs = [
            self._placeholder_value(mode, n, targets[n]) if n in targets else n.meta["val"]
            for n in self.graph.nodes
            if n.op == "placeholder"
        ]
        with recurrent_shapes(), mode, enable_python_dispatcher(), torch.no_grad():
            _Propagate(self._program.exported.graph_module, self.graph, self._program.graph).run(*inputs)

    def _placeholder_value(self, mode: FakeTensorMode, node: Node, target: str) -> Any:
        tensor, value = self.state[target], node.meta.get("val")
        if value is not None and value.dtype == tensor.dtype and tuple(value.shape) == tuple(tensor.shape):
            return value
        if isinstance(tensor, torch.nn.Parameter):
            return mode.from_tensor(tensor, static_shapes=True)
        kind = tensor.dtype, tensor.shape, tensor.stride()  # hundreds of scales are of a few types
        if kind not in self._fakes:
            self._fakes[kind] = mode.from_tensor(tensor, static_shapes=True)
        return self._fakes[kind]


class _Propagate(Interpreter):
    """Runs a graph on fake tensors and notes each result.

    An operator that met operands of the same types before, in this run or in the graph as it was, gives the same type
    again: running operators on symbolic sizes is what an edit would spend most of its time on.
    """

    def __init__(self, module: GraphModule, graph: Graph, before: Graph) -> None:
        super().__init__(module, graph=graph)
        self._types: dict[int, object] = {}
        self._known: dict[object, Any] = {}
        for node in before.nodes:
            if node.op == "call_function":
                self._remember(self._signature(node), node.meta.get("val"))

    def run_node(self, n: Node) -> Any:
        signature = self._signature(n) if n.op == "call_function" else None
        result = self._known.get(signature)
        if result is None:
            result = self._run(n)
        if n.op != "output":
            n.meta["val"] = result
        if signature is not None:
            self._remember(signature, result)
        return result

    def _remember(self, signature: object, result: Any) -> None:
        # Sizes that depend on data (u0, u1, ...) are new in every call.
        if not re.search(r"\bu\d", str(self._type(result))):
            self._known[signature] = result

    def _run(self, node: Node) -> Any:
        try:
            return super().run_node(node)
        except Exception as error:
            raise _shape_error(node, error) from error

    def _signature(self, node: Node) -> tuple[object, ...]:
        """Operator and arguments, with every operand replaced by its type."""

        def described(operand: Node) -> Any:
            return _Type(self._type(operand.meta.get("val")))

        arguments: tuple[Any, ...] = (node.args, node.kwargs)
        if getattr(node.target, "namespace", "") == "quantized_decomposed":
            # No type depends on the numbers of a grid: on operands and dtypes alone.
            arguments = tuple(a for a in node.args if not isinstance(a, int | float))
        return node.target, str(map_arg(arguments, described))

    def _type(self, value: object) -> object:
        """Dtype, sizes and strides; computed once per value, since printing symbolic sizes is slow."""
        if id(value) not in self._types:
            self._types[id(value)] = _describe(value)
        return self._types[id(value)]


@dataclass(frozen=True)
class _Type:
    """Stands for an operand in a signature."""

    description: object


def _describe(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return value.dtype, value.device, tuple(map(str, value.shape)), tuple(map(str, value.stride()))
    if isinstance(value, list | tuple):
        return tuple(_describe(v) for v in value)
    return str(value)


def _shape_error(node: Node, error: Exception) -> Exception:
    shapes = [tuple(a.meta["val"].shape) for a in node.all_input_nodes if hasattr(a.meta.get("val"), "shape")]
    return ValueError(f"{node.name} = {node.target} no longer fits its inputs {shapes}: {error}")


def _copy_graph(graph: Graph) -> tuple[Graph, dict[str, Node]]:
    """A copy with the same node names and its own metadata."""
    copied: dict[Node, Node] = {}
    fresh = Graph()
    outputs = fresh.graph_copy(graph, copied)
    old_output = next(n for n in reversed(graph.nodes) if n.op == "output")
    output = fresh.output(outputs)
    output.meta = copy.copy(old_output.meta)
    for old, new in copied.items():
        new.meta = copy.copy(old.meta)
        new.name = old.name  # fx renames what shadows a Python builtin (`input`); torch.export does not
    return fresh, {new.name: new for new in copied.values()}


def _fake_mode(program: Program) -> FakeTensorMode:
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, FakeTensor):
            return value.fake_mode
    return FakeTensorMode()
