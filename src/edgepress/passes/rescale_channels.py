"""Move a factor per channel from where the channel is produced to where it is read; the network computes the same.

producer: (W, b) -> (W / s, b / s) per output channel; each consumer: W -> W s per input channel.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.fx import Node

from edgepress.analysis.coupling import arguments
from edgepress.analysis.links import Link
from edgepress.analysis.operators import CONVOLUTIONS
from edgepress.ir.program import PassResult, Program

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Rescale:
    """One link and its factors s, positive, one per channel."""

    link: Link
    factors: torch.Tensor


def rescale_channels(program: Program, rescales: Sequence[Rescale]) -> PassResult:
    """The program with every factor moved. Links may share layers: a consumer of one may be the producer of another.

    Raises:
        ValueError: factors that are not positive and finite, or too many or few of them.
    """
    if not rescales:
        return PassResult(program, changed=False)
    state, moved = program.state(), weights_along(program, [r.link for r in rescales])
    for rescale in rescales:
        move(program, moved, rescale)
    stored = {name: tensor.to(state[name].dtype) for name, tensor in moved.items()}
    note = f"moved the scales of channels along {len(rescales)} links"
    return PassResult(program.with_state(stored, note=note), changed=True)


def weights_along(program: Program, links: Sequence[Link]) -> Tensors:
    """Weights and biases of all layers of the links, by name, as float64 copies."""
    names, state = program.state_names(), program.state()
    layers = {node for link in links for node in (link.producer, *link.consumers)}
    nodes = [a for layer in layers for a in (arguments(layer)["weight"], arguments(layer)["bias"]) if a is not None]
    return {names[node.name]: state[names[node.name]].detach().double() for node in nodes}


def weight_name(program: Program, layer: Node) -> str:
    """The name of a layer's weight in the state."""
    return program.state_names()[arguments(layer)["weight"].name]


def move(program: Program, tensors: Tensors, rescale: Rescale) -> None:
    """Carry out one rescaling on `tensors`, which hold the weights of its layers (see `weights_along`)."""
    producer, names = rescale.link.producer, program.state_names()
    factors = _checked(rescale, tensors[weight_name(program, producer)])
    for node in (arguments(producer)["weight"], arguments(producer)["bias"]):
        if node is not None:
            tensor = tensors[names[node.name]]
            tensors[names[node.name]] = tensor / factors.reshape(-1, *[1] * (tensor.dim() - 1))
    for consumer in rescale.link.consumers:
        name = weight_name(program, consumer)
        tensors[name] = tensors[name] * _columns(factors, tensors[name], consumer)


def input_reach(consumer: Node, weight: torch.Tensor) -> torch.Tensor:
    """Largest magnitude of a layer's weight per input channel."""
    groups = _groups(consumer)
    split = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return split.abs().amax((1, 3)).reshape(-1)


def _checked(rescale: Rescale, weight: torch.Tensor) -> torch.Tensor:
    factors = rescale.factors.double()
    if factors.shape != weight.shape[:1] or not bool((torch.isfinite(factors) & (factors > 0)).all()):
        raise ValueError(f"{rescale.link.producer.name}: factors must be positive, finite, one per channel")
    return factors


def _columns(factors: torch.Tensor, weight: torch.Tensor, consumer: Node) -> torch.Tensor:
    """`factors`, shaped to multiply the weight; groups of a convolution read channels of their own."""
    groups = _groups(consumer)
    per_group = factors.reshape(groups, 1, -1).expand(-1, weight.shape[0] // groups, -1)
    return per_group.reshape(weight.shape[0], -1, *[1] * (weight.dim() - 2))


def _groups(consumer: Node) -> int:
    return int(arguments(consumer)["groups"]) if consumer.target in CONVOLUTIONS else 1
