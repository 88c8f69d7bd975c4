"""Placement: from what the target can compute and the graph to a `QuantPlan`.

Three sweeps. Forward: which nodes can compute on integers (`compute` by their own right, `follow` when all their
inputs are integers, `same_scale` when their input is). Backward: which values somebody wants as integers. Then every
such value becomes an activation point, and points that must agree on a scale join one group.
"""

from collections.abc import Iterator

from torch.fx import Node

from edgepress.ir.program import Program
from edgepress.ir.quant_plan import ActivationPoint, BiasPoint, FloatNode, QuantPlan, WeightPoint
from edgepress.ir.text import op_name
from edgepress.quantize import chains, operands
from edgepress.quantize.obstacles import obstacle
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.qparams import grid_of
from edgepress.targets.capability import Capability, Format, Rule


def place(program: Program, capability: Capability, options: QuantOptions | None = None) -> QuantPlan:
    """Decide what is quantized on the target. Scales are left open: see `calibrate`.

    `program` should have its batch norms folded: one that is left stands between a convolution and its activation.
    """
    return _Placement(program, capability, options or QuantOptions()).plan()


def fusions(program: Program, capability: Capability) -> dict[Node, Node]:
    """Node -> the activation function that the runtime computes along with it: its only reader."""
    found: dict[Node, Node] = {}
    for node in program.nodes:
        rule, users = capability.rule(op_name(node)), list(node.users)
        if rule and len(users) == 1 and op_name(users[0]) in rule.fuses and users[0].args[0] is node:
            found[node] = users[0]
    return found


def _agreed(points: list[ActivationPoint]) -> tuple[ActivationPoint, ...]:
    """A scale that is known beforehand holds for the whole group, or for nobody if another source has none."""
    known: dict[str, set[tuple[float | None, int]]] = {}
    for point in points:
        if point.source:
            known.setdefault(point.group, set()).add((point.scale, point.zero_point))
    chosen = {group: found.pop() if len(found) == 1 else (None, 0) for group, found in known.items()}
    return tuple(
        p.model_copy(update=dict(zip(("scale", "zero_point"), chosen.get(p.group, (None, 0)), strict=True)))
        for p in points
    )


class _Placement:
    """The sweeps of `place` over one program."""

    def __init__(self, program: Program, capability: Capability, options: QuantOptions) -> None:
        self.program, self.capability, self.options = program, capability, options
        self.nodes = program.nodes
        self.tail = fusions(program, capability)  # node -> the activation function its runtime fuses into it
        self.head = {tail: head for head, tail in self.tail.items()}
        self.integer: dict[Node, Rule] = {}  # nodes that compute on integers
        self.carried: dict[Node, Rule] = {}  # nodes that only move integers
        self.stored: dict[Node, Rule] = {}  # lookups in tables of integers
        self.inside = chains.inside(program) if capability.tables else set()  # steps of functions, never rounded
        self.floats: list[FloatNode] = []

    def plan(self) -> QuantPlan:
        for node in self.nodes:
            self._decide(node)
        self._drop_idle_carriers()
        points = self._points() if self.options.activation_bits is not None else ()
        weights = tuple(self._weights({p.node for p in points}))
        return QuantPlan(
            target=self.capability.name,
            activations=points,
            weights=weights,
            biases=tuple(self._biases(weights)) if points else (),
            quantized=tuple(n.name for n in self.nodes if n in self.integer or n in self.carried),
            float_nodes=tuple(self.floats),
        )

    # -- forward -------------------------------------------------------------------------------------------------

    def _decide(self, node: Node) -> None:
        several = operands.is_several(node) and self.capability.rule(op_name(node)) is not None
        if not (operands.is_float(node) or several) or operands.is_constant(self.program, node):
            return
        if node in self.head:
            if self.head[node] not in self.integer:
                self._leave_float(node, f"it follows {self.head[node].name}, which is float", "an integer producer")
            return
        rule = self.capability.rule(op_name(node))
        if rule is None:
            self._leave_float(node, self.capability.why_float(op_name(node)), "another target, or another operator")
            return
        found, needed = obstacle(self.program, node, rule, self.options) or self._float_input(node, rule) or ("", "")
        if found:
            self._leave_float(node, found, needed)
        elif rule.role == "same_scale":
            self.carried[node] = rule
        elif rule.role == "stored":
            self.stored[node] = rule
        else:
            self.integer[node] = rule

    def _leave_float(self, node: Node, found: str, needed: str) -> None:
        self.floats.append(FloatNode(node=node.name, op=op_name(node), found=found, needed=needed))

    def _float_input(self, node: Node, rule: Rule) -> tuple[str, str] | None:
        if rule.role in ("compute", "stored"):
            return self._fixed_input(node)
        sources = operands.activations(self.program, node)
        if rule.any_form:
            sources = [s for s in sources if not operands.is_constant(self.program, s)]
        culprit = next((s for s in sources if not self._available(s)), None)
        if culprit is None:
            return None
        return f"its input {culprit.name} is float", f"{culprit.name} as integers"

    def _fixed_input(self, node: Node) -> tuple[str, str] | None:
        """A layer on what no input reaches (the first step of an unrolled recurrence, on zeros) has no range to see."""
        if operands.weighted(self.program, node) is None:
            return None
        source = operands.activations(self.program, node)[0]
        if not operands.is_constant(self.program, source):
            return None
        return "it reads what is the same for every sample", "an activation"

    def _available(self, value: Node) -> bool:
        """Whether the producer of `value` can hand it out as integers."""
        given = self.capability.all_integer and value in self.program.user_inputs()
        return given or value in self.carried or self.head.get(value, value) in self.integer

    # -- backward ------------------------------------------------------------------------------------------------

    def _drop_idle_carriers(self) -> None:
        """A reshape that no integer node reads moves floats just as well, where floats are possible."""
        if self.capability.all_integer:
            return
        for node in reversed(self.nodes):
            if node in self.carried and not self._demanders(node):
                del self.carried[node]

    def _demanders(self, value: Node) -> list[Node]:
        """The users that want `value` as integers."""
        return [
            user
            for user in value.users
            if (user in self.integer or user in self.carried) and value in operands.activations(self.program, user)
        ]

    # -- points --------------------------------------------------------------------------------------------------

    def _points(self) -> tuple[ActivationPoint, ...]:
        candidates = [*self.program.user_inputs(), *self.nodes]
        points = [p for p in map(self._point, candidates) if p is not None]
        groups = self._groups({p.node for p in points})
        return _agreed([p.model_copy(update={"group": groups[p.node]}) for p in points])

    def _point(self, value: Node) -> ActivationPoint | None:
        if value in self.inside or (value in self.tail and value in self.integer):
            return None  # quantized after the activation function that is fused into it
        producer = self.head.get(value, value)
        rule = self.integer.get(producer) or self.carried.get(value)
        demanders = self._demanders(value)
        if operands.is_several(value) or operands.is_constant(self.program, value):
            return None  # each part that is picked has a point of its own; a weight has a weight point, or none
        must = rule is not None and rule.output == "required"
        if not demanders and not must:
            return None
        everyone = must or len(demanders) == len(value.users)
        fixed = rule.fixed_output if rule else None
        return ActivationPoint(
            node=value.name,
            group=value.name,
            grid=grid_of(self.capability.activation, self.options.activation_bits),
            source=self._is_source(value),
            readers=() if everyone else tuple(user.name for user in demanders),
            scale=fixed[0] if fixed else None,
            zero_point=fixed[1] if fixed else 0,
        )

    def _is_source(self, value: Node) -> bool:
        """Whether the value has to be looked at: it is computed, joined, or a part of something computed."""
        if value not in self.carried or op_name(value) in ("aten.cat", "aten.mean.dim"):
            return True
        return any(operands.is_several(s) and s in self.integer for s in operands.activations(self.program, value))

    def _groups(self, pointed: set[str]) -> dict[str, str]:
        """Point -> name of its group; the members of a group share one scale."""
        leader = {name: name for name in pointed}

        def find(name: str) -> str:
            while leader[name] != name:
                name = leader[name]
            return name

        for node in self.nodes:
            if node in self.carried and node.name in pointed:
                for source in map(self._whole, operands.activations(self.program, node)):
                    if source.name in pointed:
                        leader[find(node.name)] = find(source.name)
        return {name: find(name) for name in pointed}

    def _whole(self, value: Node) -> Node:
        """What a value was split from, or itself."""
        if value in self.carried and operands.is_several(value):
            return self._whole(operands.activations(self.program, value)[0])
        return value

    # -- weights -------------------------------------------------------------------------------------------------

    def _weights(self, pointed: set[str]) -> Iterator[WeightPoint]:
        owners = [n for n in self.nodes if n in self.integer and operands.weighted(self.program, n)]
        names, found = self.program.state_names(), dict[str, WeightPoint]()
        for node in owners:
            here = operands.weighted(self.program, node)
            assert here is not None
            tensor = names[operands.argument(node, here.weight).name]
            if tensor in found:  # shared by several layers: one grid for all
                found[tensor] = found[tensor].model_copy(update={"nodes": (*found[tensor].nodes, node.name)})
                continue
            form = self.integer[node].weight or self.capability.weight
            axis = operands.weight_axis(self.program, node, here) if form.granularity == "channel" else None
            bits, why = self._bits(tensor, node, owners, form)
            source = operands.activations(self.program, node)[0].name
            found[tensor] = WeightPoint(
                tensor=tensor,
                nodes=(node.name,),
                axis=axis,
                grid=grid_of(form, bits),
                block=self._block(node),
                input=source if source in pointed else "",
                why=why,
            )
        yield from found.values()
        yield from self._tables(names)

    def _tables(self, names: dict[str, str]) -> Iterator[WeightPoint]:
        """Tables are rounded to nearest: nobody multiplies with them, so no product says which way."""
        readers: dict[str, list[Node]] = {}
        for node in self.stored:
            readers.setdefault(names[operands.argument(node, 0).name], []).append(node)
        for tensor, nodes in readers.items():
            grid = grid_of(self.stored[nodes[0]].weight or self.capability.weight)
            yield WeightPoint(tensor=tensor, nodes=tuple(n.name for n in nodes), axis=None, grid=grid, why="a table")

    def _bits(self, tensor: str, node: Node, owners: list[Node], form: Format) -> tuple[int, str]:
        """(width, reason)."""
        for name, bits, why in self.options.layer_bits:
            if name == tensor:
                return min(bits, form.bits), why
        at_edge = node in (owners[0], owners[-1]) and self.options.edge_bits is not None
        bits = (self.options.edge_bits if at_edge else self.options.weight_bits) or form.bits
        return min(bits, form.bits), "first or last layer" if at_edge else ""

    def _block(self, node: Node) -> int | None:
        """How many neighbours of a row share a scale: matrices only, and only what divides their rows."""
        block = self.options.weight_block
        if block is None or op_name(node) != "aten.linear":
            return None
        columns = int(node.args[1].meta["val"].shape[1])  # type: ignore[union-attr]
        return block if columns % block == 0 and columns > block else None

    def _biases(self, weights: tuple[WeightPoint, ...]) -> Iterator[BiasPoint]:
        if self.capability.bias != "int32":
            return
        names = self.program.state_names()
        by_name = {node.name: node for node in self.nodes}
        for weight in weights:
            for node in (by_name[name] for name in weight.nodes):
                place_ = operands.weighted(self.program, node)
                bias = operands.argument(node, place_.bias) if place_ else None
                if isinstance(bias, Node) and bias.name in names:
                    yield BiasPoint(tensor=names[bias.name], node=node.name, weight=weight.tensor)
