"""Where a network can be refitted: layers, and the places behind them whose values are matched."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Node

from edgepress.analysis.coupling import arguments
from edgepress.ir.program import Program
from edgepress.prune.regression import can_refit, channel_dim

aten = torch.ops.aten
ADDITIONS = (aten.add.Tensor, aten.add_.Tensor)


@dataclass(frozen=True)
class Site:
    """A layer to refit.

    Attributes:
        layer: the convolution or linear node. norm: batch norm that alone reads it, if any.
        anchor: last node of the chain layer, norm, residual addition; its value is what is matched.
    """

    layer: Node
    norm: Node | None
    anchor: Node

    @property
    def chain(self) -> list[str]:
        nodes = [self.layer, self.norm, self.anchor]
        return list(dict.fromkeys(n.name for n in nodes if n is not None))

    @property
    def held(self) -> list[str]:
        """The nodes whose values a refit reads: the chain and what it is computed from."""
        nodes = [n for n in (self.layer, self.norm, self.anchor) if n is not None]
        return list(dict.fromkeys(n.name for node in nodes for n in (*node.all_input_nodes, node)))

    @property
    def source(self) -> Node:
        """What the layer reads."""
        source = arguments(self.layer)["input"]
        assert isinstance(source, Node)
        return source

    def scale(self, state: Mapping[str, Tensor], names: Mapping[str, str]) -> Tensor:
        """a, (out,): γ / √(σ² + ε), or ones."""
        if self.norm is None:
            return torch.ones(self.layer.meta["val"].shape[channel_dim(self.layer)], dtype=torch.float64)
        gamma, variance = self.norm.args[1], self.norm.args[4]
        scale = (state[names[variance.name]].double() + self.norm.args[7]).rsqrt()  # type: ignore
        return scale if gamma is None else scale * state[names[gamma.name]].double()  # type: ignore

    def shift_name(self, names: Mapping[str, str]) -> str | None:
        """The tensor that can take a shift per channel: the batch norm's, else the layer's bias."""
        node = self.norm.args[2] if self.norm is not None else arguments(self.layer)["bias"]
        return names[node.name] if isinstance(node, Node) and len(node.users) == 1 else None


def find_sites(program: Program) -> list[Site]:
    """Convolutions of all kinds and linear layers with stored weights, in order of their anchors."""
    names = program.state_names()
    sites = [_site(node) for node in program.nodes if can_refit(node, names)]
    order = {node: i for i, node in enumerate(program.nodes)}
    return sorted(sites, key=lambda site: order[site.anchor])


def _site(layer: Node) -> Site:
    norm, anchor = None, layer
    reader = _only_reader(layer)
    if reader is not None and reader.target == aten.batch_norm.default and len(reader.args[0].users) == 1:  # type: ignore[union-attr]
        norm, anchor = reader, reader
        reader = _only_reader(reader)
    if reader is not None and _is_residual(reader, anchor):
        anchor = reader
    return Site(layer, norm, anchor)


def _only_reader(node: Node) -> Node | None:
    readers = list(node.users)
    return readers[0] if len(readers) == 1 else None


def _is_residual(addition: Node, branch: Node) -> bool:
    """Whether a node adds something else of the same shape to `branch`, once."""
    if addition.target not in ADDITIONS or addition.kwargs.get("alpha", 1) != 1:
        return False
    others = [a for a in addition.args if isinstance(a, Node) and a is not branch]
    return len(others) == 1 and all(
        str(n.meta["val"].shape) == str(branch.meta["val"].shape) for n in (*others, addition)
    )
