"""Import a text encoder or a small decoder from Hugging Face: a local folder, or a repository id.

Weights are read from safetensors only, and code that comes with a model is never run. The only file that imports
transformers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgepress.errors import MissingTool, UserError
from edgepress.importers.pytorch import EXAMPLE_BATCH, InputSpec
from edgepress.ir.capture import capture
from edgepress.ir.program import Program

LONGEST_DEFAULT = 128  # tokens, where the recipe names no inputs
MOST_INPUTS = 3  # input_ids, attention_mask, token_type_ids


def from_huggingface(source: str, inputs: Sequence[InputSpec] = (), *, batch: int | None = None) -> Program:
    """The network in a folder written by `save_pretrained`, or of a repository on the hub.

    Args:
        source: a folder, or a repository id ("name" or "owner/name"); only an id makes transformers use the network.
        inputs: names are those of the network's `forward` ("input_ids", "attention_mask", ...); token numbers of
            shape (N, min(128, longest)) without them.
        batch: fixed batch size; `None` leaves it free.

    Returns:
        A program with one output: logits, or the last hidden states of a network without a head.

    Raises:
        UserError: no such model, no safetensors, code of its own, an encoder-decoder, or inputs it does not take.
        MissingTool: transformers is not installed.
    """
    transformers = _transformers()
    local = Path(source).is_dir()
    config = _read(source, lambda: transformers.AutoConfig.from_pretrained(source, local_files_only=local))
    network_class = _class_of(source, config, transformers)
    network = _read(source, lambda: network_class.from_pretrained(
        source, local_files_only=local, use_safetensors=True, attn_implementation="eager", dtype=torch.float32
    ))  # fmt: skip
    specs = list(inputs) or [_tokens(config)]
    _check_inputs(source, network, specs)
    return capture(
        _OneOutput(network, [spec.name for spec in specs]),
        [spec.example(batch or EXAMPLE_BATCH) for spec in specs],
        input_names=[spec.name for spec in specs],
        dynamic_batch=batch is None,
        note=f"imported from {source} ({network_class.__name__})",
    )


class _OneOutput(nn.Module):
    """Positional arguments in, one tensor out."""

    def __init__(self, network: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.network = network
        self.names = names

    def forward(self, first: Tensor, second: Tensor | None = None, third: Tensor | None = None) -> Tensor:
        # Not *inputs: torch.export then wants the dynamic dimensions nested in another way.
        given: dict[str, Any] = dict(zip(self.names, (first, second, third), strict=False))
        if getattr(self.network.config, "use_cache", False):
            given["use_cache"] = False
        result: Tensor = self.network(**given, return_dict=False)[0]
        return result


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingTool("transformers", needed_for="models of Hugging Face",
                          install="pip install 'edgepress[hf]'") from error  # fmt: skip
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def _read(source: str, reader: Any) -> Any:
    try:
        return reader()
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().partition("\n")[0]
        raise UserError(
            f"cannot read a model from {source}",
            found=first,
            expected="a folder of save_pretrained with config.json and model.safetensors, or a repository id",
            fix=_way_out(source),
        ) from error


def _way_out(source: str) -> str:
    if Path(source).is_dir():
        return "model.save_pretrained(FOLDER), and name that folder under model.huggingface"
    return f"correct the id, or run `hf download {source}` where the hub can be reached: offline its copy is used"


def _class_of(source: str, config: Any, transformers: Any) -> Any:
    """The class that the configuration names.

    Raises:
        UserError: it names none that transformers has itself, or one with two stacks.
    """
    names = list(getattr(config, "architectures", None) or [])
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"{source} is an encoder-decoder", found=", ".join(names) or config.model_type,
                        expected="an encoder or a decoder alone")  # fmt: skip
    found = getattr(transformers, names[0], None) if names else None
    if found is None:
        raise UserError(f"{source} does not say what kind of network it is", found=", ".join(names) or "nothing",
                        expected="an architecture that transformers knows, in config.json",
                        fix="set `architectures` in config.json, e.g. BertForSequenceClassification")  # fmt: skip
    return found


def _tokens(config: Any) -> InputSpec:
    longest = getattr(config, "max_position_embeddings", None) or LONGEST_DEFAULT
    return InputSpec("input_ids", (min(longest, LONGEST_DEFAULT),), "int64")


def _check_inputs(source: str, network: nn.Module, specs: Sequence[InputSpec]) -> None:
    import inspect

    if len(specs) > MOST_INPUTS:
        raise UserError(f"too many inputs for {source}", found=str(len(specs)), expected=f"at most {MOST_INPUTS}",
                        fix="shorten model.inputs")  # fmt: skip
    known = list(inspect.signature(network.forward).parameters)
    unknown = [spec.name for spec in specs if spec.name not in known]
    if unknown:
        raise UserError(f"{source} has no input {unknown[0]}", found=", ".join(unknown), expected=", ".join(known[:8]),
                        fix="correct model.inputs")  # fmt: skip
