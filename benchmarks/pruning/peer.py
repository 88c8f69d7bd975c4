"""Torch-Pruning (MIT, Fang et al. 2023) driven as its documentation recommends: global, iterative, grouped importance.

pip install torch-pruning        # 1.6
"""

import copy
from collections.abc import Iterator, Sequence
from importlib import metadata

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS = 100
CRITERIA = ("l2", "bn_scale", "taylor", "hessian")


def prune_to(
    model: nn.Module,
    criterion: str,
    goals: Sequence[float],
    data: tuple[Tensor, Tensor],
    ignored: Sequence[nn.Module],
    round_to: int | None = None,
) -> Iterator[tuple[float, nn.Module, int, int]]:
    """Prune a classifier in place, yielding (goal, model, MACs, parameters) as each ratio of MACs is reached.

    Args:
        goals: MACs before over MACs after, ascending. data: images and labels for gradients. ignored: layers whose
            outputs stay.
    """
    import torch_pruning as tp

    kinds = {"l2": "GroupMagnitude", "bn_scale": "BNScale", "taylor": "GroupTaylor", "hessian": "GroupHessian"}
    importance = getattr(tp.importance, kinds[criterion] + "Importance")()
    example = data[0][:1]
    before, _ = tp.utils.count_ops_and_params(model, example)
    pruner = tp.pruner.BasePruner(model, example, importance=importance, global_pruning=True, pruning_ratio=0.95,
                                  iterative_steps=STEPS, ignored_layers=list(ignored), round_to=round_to)  # fmt: skip
    waiting = list(goals)
    for _ in range(STEPS):
        _gradients(model, criterion, importance, data)
        pruner.step()
        macs, params = tp.utils.count_ops_and_params(model, example)
        while waiting and before / macs >= waiting[0]:
            yield waiting.pop(0), model, int(macs), int(params)
        if not waiting:
            return


def _gradients(model: nn.Module, criterion: str, importance: object, data: tuple[Tensor, Tensor]) -> None:
    x, y = data
    if criterion == "taylor":
        model.zero_grad()
        F.cross_entropy(model(x[:256]), y[:256]).backward()
    elif criterion == "hessian":  # its example accumulates squared gradients image by image
        importance.zero_grad()
        for loss in F.cross_entropy(model(x[:64]), y[:64], reduction="none"):
            model.zero_grad()
            loss.backward(retain_graph=True)
            importance.accumulate_grad(model)


def version() -> str:
    return "torch-pruning " + metadata.version("torch-pruning")


# -- any network ---------------------------------------------------------------------------------------------------


def shrink(model: nn.Module, inputs: tuple[Tensor, ...], shares: Sequence[float]) -> Iterator[dict[str, object]]:
    """Take shares of the MACs from any module by magnitude, in steps; one result per share.

    Layers whose pruning alone breaks the network or changes the shape of its outputs are put on `ignored_layers`, as
    a user would do by hand after seeing the error.
    """
    import torch_pruning as tp

    model.eval()
    before, _ = tp.utils.count_ops_and_params(copy.deepcopy(model), _packed(inputs))
    shapes, fragile = _shapes(model(*inputs)), _fragile(model, inputs)
    waiting, why = list(shares), "no MACs it can count"
    for ratio in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9) if before else ():
        try:
            after, outputs = _attempt(model, inputs, ratio, fragile)
        except Exception as error:  # whatever a stranger's network makes it raise is the result
            why = f"{type(error).__name__}: {error}"[:200]
            break
        if _shapes(outputs) != shapes:
            why = "the outputs changed shape"
            break
        while waiting and after <= (1 - waiting[0]) * before:
            finite = all(bool(torch.isfinite(o).all()) for o in _tensors(outputs) if o.is_floating_point())
            waiting.pop(0)
            yield {"valid": finite, "macs_share": after / before, "ignored": len(fragile)}
        why = f"at most {1 - after / before:.0%} of the MACs went"
    yield from ({"valid": False, "why": why, "ignored": len(fragile)} for _ in waiting)


def _attempt(
    model: nn.Module, inputs: tuple[Tensor, ...], ratio: float, ignored: Sequence[str]
) -> tuple[float, object]:
    """MACs and outputs of a copy that lost `ratio` of its channels."""
    import torch_pruning as tp

    trial = copy.deepcopy(model)
    importance = tp.importance.GroupMagnitudeImportance()
    layers = [trial.get_submodule(name) for name in ignored]
    tp.pruner.BasePruner(
        trial, _packed(inputs), importance=importance, pruning_ratio=ratio, ignored_layers=layers
    ).step()
    outputs = trial(*inputs)
    return tp.utils.count_ops_and_params(trial, _packed(inputs))[0], outputs


def _fragile(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[str]:
    """Layers that make outputs of the network, and layers whose pruning breaks it."""
    shapes = _shapes(model(*inputs))
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.modules.conv._ConvNd | nn.Linear)]
    return [name for name in layers if not _survives(model, name, inputs, shapes)]


def _survives(model: nn.Module, name: str, inputs: tuple[Tensor, ...], shapes: list[torch.Size]) -> bool:
    import torch_pruning as tp

    trial = copy.deepcopy(model)
    layer = trial.get_submodule(name)
    cut = tp.prune_linear_out_channels if isinstance(layer, nn.Linear) else tp.prune_conv_out_channels
    try:
        graph = tp.DependencyGraph().build_dependency(trial, example_inputs=_packed(inputs))
        graph.get_pruning_group(layer, cut, idxs=[0]).prune()
        return _shapes(trial(*inputs)) == shapes
    except Exception:  # the layer goes on the ignore list
        return False


def _packed(inputs: tuple[Tensor, ...]) -> Tensor | list[Tensor]:
    return inputs[0] if len(inputs) == 1 else list(inputs)


def _tensors(outputs: object) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else [t for o in outputs for t in _tensors(o)]  # type: ignore[attr-defined]


def _shapes(outputs: object) -> list[torch.Size]:
    return [t.shape for t in _tensors(outputs)]
