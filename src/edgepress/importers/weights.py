"""Read a state dict: safetensors, or a torch file holding nothing but tensors. Pickles that hold code are refused."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch

from edgepress.errors import UserError

TORCH_SUFFIXES = {".pt", ".pth", ".th", ".bin", ".ckpt", ".tar"}


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name.

    A file that nests them (`{"state_dict": ...}`, `{"model": ...}`) is unwrapped; `module.` prefixes of
    `DataParallel` are dropped.

    Raises:
        UserError: no such file, an unknown kind of file, a pickle with anything but tensors, or no tensors in it.
    """
    if not path.is_file():
        raise UserError(f"no weights at {path}", found="no such file", expected="a .safetensors or state-dict file",
                        fix="check `model.weights` in the recipe")  # fmt: skip
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not tensors:
        raise UserError(f"{path} holds no tensors", expected="parameter name -> tensor")
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def load_into(module: torch.nn.Module, weights: Mapping[str, torch.Tensor], source: Path) -> None:
    """Load weights strictly.

    Raises:
        UserError: names or shapes that do not fit, with the first few of each.
    """
    own = module.state_dict()
    # Checkpoints older than torch 0.4.1 have no batch counters; torch itself forgives that, and nothing here uses them.
    missing = sorted(n for n in set(own) - set(weights) if not n.endswith("num_batches_tracked"))
    surplus = sorted(set(weights) - set(own))
    wrong = [n for n in own if n in weights and own[n].shape != weights[n].shape]
    if missing or surplus or wrong:
        found = [
            *(f"missing {n}" for n in missing[:3]),
            *(f"unexpected {n}" for n in surplus[:3]),
            *(f"{n} has shape {list(weights[n].shape)}, the model wants {list(own[n].shape)}" for n in wrong[:3]),
        ]
        raise UserError(
            f"the weights in {source} do not fit {type(module).__name__}",
            found="; ".join(found),
            expected=f"{len(own)} tensors with the model's names and shapes",
            fix="check `model.factory`, its `kwargs`, and that the weights were saved from this network",
        )
    module.load_state_dict({**own, **weights})


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except Exception as error:
        hint = "it is a torch file: name it .pt" if _is_torch_file(path) else str(error).splitlines()[0]
        raise UserError(f"cannot read {path}", found=hint, expected="a safetensors file",
                        fix="save it with safetensors.torch.save_file") from error  # fmt: skip


def _read_torch(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix not in TORCH_SUFFIXES:
        raise UserError(f"cannot read weights from {path}", found=f"suffix {path.suffix or '(none)'}",
                        expected=".safetensors, " + ", ".join(sorted(TORCH_SUFFIXES)))  # fmt: skip
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except Exception as error:
        raise UserError(
            f"refused to unpickle {path}",
            found="Python objects beside tensors: reading them would run code",
            expected="a safetensors file or a plain state dict",
            fix="in a place you trust: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')",
        ) from error
    return _tensors(content)


def _tensors(content: object) -> dict[str, torch.Tensor]:
    """The mapping of names to tensors inside `content`, searched through the usual wrappers."""
    if isinstance(content, torch.nn.Module) or not isinstance(content, Mapping):
        return {}
    for key in ("state_dict", "model_state_dict", "model", "net", "ema"):
        if isinstance(content.get(key), Mapping):
            return _tensors(content[key])
    return {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}


def _is_torch_file(path: Path) -> bool:
    return zipfile.is_zipfile(path) or path.read_bytes()[:2] == b"\x80\x02"
