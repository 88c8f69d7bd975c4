"""Torch-Pruning (MIT, Fang et al. 2023) driven as its documentation recommends: global, iterative, grouped importance.

pip install torch-pruning        # 1.6
"""

import copy
from collections.abc import Callable, Iterator, Sequence

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

    importance = {"l2": tp.importance.GroupMagnitudeImportance, "bn_scale": tp.importance.BNScaleImportance,
                  "taylor": tp.importance.GroupTaylorImportance, "hessian": tp.importance.GroupHessianImportance}[criterion]()  # fmt: skip
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
    import torch_pruning

    return f"torch-pruning {torch_pruning.__version__}"


# -- any network ---------------------------------------------------------------------------------------------------


def shrink(build: Callable[[], tuple[nn.Module, tuple[Tensor, ...]]], share: float) -> dict[str, object]:
    """Take `share` of the MACs from any module by magnitude, in steps, until the network gives outputs of the same shape.

    Layers whose pruning alone breaks the network or changes the shape of its outputs are put on `ignored_layers`, as
    a user would do by hand after seeing the error.
    """
    import torch_pruning as tp

    model, inputs = build()
    model.eval()
    before, _ = tp.utils.count_ops_and_params(copy.deepcopy(model), _packed(inputs))
    shapes = _shapes(model(*inputs))
    outlets, broken = _fragile(model, inputs, shapes)
    last = "no step reached the goal"
    for ratio in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        trial = copy.deepcopy(model)
        names = dict(trial.named_modules())
        try:
            tp.pruner.BasePruner(trial, _packed(inputs), importance=tp.importance.GroupMagnitudeImportance(),
                                 pruning_ratio=ratio, ignored_layers=[names[n] for n in (*outlets, *broken)]).step()  # fmt: skip
            outputs = trial(*inputs)
            after, _ = tp.utils.count_ops_and_params(trial, _packed(inputs))
        except Exception as error:  # whatever a stranger's network makes it raise is the result
            return {"valid": False, "why": f"{type(error).__name__}: {error}"[:200], "ignored": len(broken)}
        if _shapes(outputs) != shapes:
            return {"valid": False, "why": "the outputs changed shape", "ignored": len(broken)}
        last = f"at most {1 - after / before:.0%} of the MACs went" if before else "no MACs it can count"
        if before and after <= (1 - share) * before:
            finite = all(bool(torch.isfinite(o).all()) for o in _tensors(outputs) if o.is_floating_point())
            return {
                "valid": finite,
                "macs_share": after / before,
                "ignored": len(broken),
                "why": "" if finite else "nan",
            }
    return {"valid": False, "why": last, "ignored": len(broken)}


def _fragile(model: nn.Module, inputs: tuple[Tensor, ...], shapes: list[torch.Size]) -> tuple[list[str], list[str]]:
    """Layers that make outputs of the network, and layers whose pruning breaks it."""
    import torch_pruning as tp

    outlets, broken = [], []
    for name, layer in model.named_modules():
        prune = {nn.Linear: tp.prune_linear_out_channels}.get(type(layer))
        prune = tp.prune_conv_out_channels if isinstance(layer, nn.modules.conv._ConvNd) else prune
        if prune is None:
            continue
        trial = copy.deepcopy(model)
        try:
            graph = tp.DependencyGraph().build_dependency(trial, example_inputs=_packed(inputs))
            graph.get_pruning_group(trial.get_submodule(name), prune, idxs=[0]).prune()
            if _shapes(trial(*inputs)) != shapes:
                outlets.append(name)
        except Exception:  # the layer goes on the ignore list
            broken.append(name)
    return outlets, broken


def _packed(inputs: tuple[Tensor, ...]) -> Tensor | list[Tensor]:
    return inputs[0] if len(inputs) == 1 else list(inputs)


def _tensors(outputs: object) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else [t for o in outputs for t in _tensors(o)]  # type: ignore[attr-defined]


def _shapes(outputs: object) -> list[torch.Size]:
    return [t.shape for t in _tensors(outputs)]
