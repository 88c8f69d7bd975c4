"""Example inputs: shapes for dynamic axes, values of the right kind, and a first run on shapes alone."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgepress.errors import UserError
from edgepress.importers.onnx.graph import InputSpec
from edgepress.importers.onnx.values import Unsupported, ensure_affordable, torch_dtype

Shape = tuple[int, ...]

MAX_INPUT_BYTES = 512 << 20
"""No edge network reads more at once: 40 pictures of a megapixel as floats."""

BATCH = 2
"""Example size of a dynamic batch axis: not 1, which export would take for a constant."""

# Sizes tried for a dynamic axis that is not the batch, until the network runs.
IMAGE_SIZES = (224, 320, 256, 512, 64, 32, 48)
SEQUENCE_SIZES = (16, 128, 512, 64, 256, 1024, 4000, 16000)

SEQUENCE_WORDS = ("seq", "time", "len", "frame", "past", "token", "position")
BATCH_LETTERS = ("n", "b", "bs")


def is_batch(spec: InputSpec, axis: int) -> bool:
    """Whether a dynamic axis is the batch: by its name, or because it comes first."""
    assert spec.shape is not None
    names = [size.lower() if isinstance(size, str) else "" for size in spec.shape]
    if any("batch" in name for name in names):
        return "batch" in names[axis]
    lettered = next((i for i, name in enumerate(names) if name in BATCH_LETTERS), None)
    if lettered is not None:
        return axis == lettered
    return axis == 0 and len(spec.shape) > 1 and not _is_sequence(spec.shape[axis])


def _is_sequence(size: int | str | None) -> bool:
    return isinstance(size, str) and any(word in size.lower() for word in SEQUENCE_WORDS)


def is_image(spec: InputSpec) -> bool:
    """Whether an input looks like pictures: four axes or more, none called a sequence, as in caches."""
    return len(spec.shape or ()) >= 4 and not any(map(_is_sequence, spec.shape or ()))


def dynamic_axes(specs: Sequence[InputSpec]) -> dict[str, list[int]]:
    """For each input, the axes whose size the file leaves open."""
    return {
        spec.name: [axis for axis, size in enumerate(spec.shape or ()) if not isinstance(size, int)] for spec in specs
    }


def axis_names(spec: InputSpec) -> dict[int, str]:
    """What the file calls the open axes of an input that are not the batch."""
    return {
        axis: size for axis, size in enumerate(spec.shape or ()) if isinstance(size, str) and not is_batch(spec, axis)
    }


def named_batch(specs: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """The same inputs; the name of one's batch becomes "batch" wherever it stands, as equal names are equal sizes."""
    names = {
        size
        for spec in specs
        for axis, size in enumerate(spec.shape or ())
        if isinstance(size, str) and is_batch(spec, axis)
    }
    renamed = (
        None if spec.shape is None else tuple("batch" if size in names else size for size in spec.shape)
        for spec in specs
    )
    return tuple(replace(spec, shape=shape) for spec, shape in zip(specs, renamed, strict=True))


def candidate_shapes(specs: Sequence[InputSpec], given: Mapping[str, Sequence[int]]) -> Iterator[dict[str, Shape]]:
    """Shapes to try, best guess first; what the user gave is not varied.

    Raises:
        UserError: a given shape that does not fit the file, or an input whose rank is unknown.
    """
    for spec in specs:
        _check_given(spec, given)
    images = any(map(is_image, specs))
    names = tuple(size for spec in specs for size in spec.shape or () if isinstance(size, str))
    sizes = IMAGE_SIZES if images else SEQUENCE_SIZES
    lone = any(map(_is_lone, specs)) and not all(map(_is_lone, specs))
    for batch, size, one_each in itertools.product((BATCH, 1), sizes, (True, False) if lone else (False,)):
        alone = {spec.name: (batch,) for spec in specs if one_each and _is_lone(spec) and spec.name not in given}
        yield {spec.name: _shape(spec, given, batch, size, names) for spec in specs} | alone
        if not any(_varies(spec, given) for spec in specs) and batch == 1:
            return


def _is_lone(spec: InputSpec) -> bool:
    """Whether an input is a row of integers of any length: beside others, one for each sample (a length, a step)."""
    whole = spec.onnx_type != 0 and not torch_dtype(spec.onnx_type).is_floating_point
    return whole and spec.shape is not None and len(spec.shape) == 1 and not isinstance(spec.shape[0], int)


def _check_given(spec: InputSpec, given: Mapping[str, Sequence[int]]) -> None:
    if spec.name in given:
        wanted = given[spec.name]
        fits = spec.shape is None or len(wanted) == len(spec.shape)
        fits = fits and all(
            not isinstance(s, int) or s in (w, 1) for s, w in zip(spec.shape or wanted, wanted, strict=True)
        )
        if not fits:
            raise UserError(
                f"input {spec.name!r} cannot have the given shape",
                found=str(list(wanted)),
                expected=str(list(spec.shape or ())),
                fix="give a size for each axis; fixed axes keep theirs",
            )
    elif spec.shape is None:
        raise UserError(
            f"input {spec.name!r} declares no shape",
            expected="one",
            fix=f"give one: shapes={{{spec.name!r}: (1, ...)}}",
        )


def _varies(spec: InputSpec, given: Mapping[str, Sequence[int]]) -> bool:
    """Whether the input has a dynamic axis beside the batch."""
    if spec.name in given or spec.shape is None:
        return False
    return any(not isinstance(s, int) and not is_batch(spec, axis) for axis, s in enumerate(spec.shape))


def _shape(spec: InputSpec, given: Mapping[str, Sequence[int]], batch: int, size: int, names: tuple[str, ...]) -> Shape:
    if spec.name in given:
        return tuple(given[spec.name])
    sizes = []
    for axis, declared in enumerate(spec.shape or ()):
        if isinstance(declared, int):
            sizes.append(declared)
        else:
            sizes.append(batch if is_batch(spec, axis) else _guess(declared, size, names))
    return tuple(sizes)


def _guess(name: str | None, size: int, names: tuple[str, ...] = ()) -> int:
    """A size for an open axis.

    Channels of an image are 3, what a cache holds is half a sequence, and a sum is what its parts are together:
    "past_sequence_length + 1", or the total and the length of a mask where there is a cache.
    """
    text = "" if name is None else name.lower()
    if "channel" in text:
        return 3
    if "+" in text:
        return sum(int(part) if part.strip().isdigit() else _guess(part, size) for part in text.split("+"))
    if "past" in text:
        return size // 2
    if ("total" in text or "mask" in text) and any("past" in other.lower() for other in names):
        new = any(_is_sequence(other) and not _words(other) for other in names)
        return size // 2 + (size if new else 1)
    return size


def _words(name: str) -> set[str]:
    return {word for word in ("past", "total", "mask") if word in name.lower()}


def input_type(spec: InputSpec) -> torch.dtype:
    """The type an input is held in; float where the file does not say."""
    return torch_dtype(spec.onnx_type) if spec.onnx_type else torch.float32


def stand_in(spec: InputSpec, shape: Shape) -> Tensor:
    """A tensor of an input's shape and type without anything in it, for a run on shapes (inside a fake mode).

    Raises:
        Unsupported: the shape is absurdly large, or the type is not numeric.
    """
    ensure_affordable(shape, input_type(spec), MAX_INPUT_BYTES)
    return torch.empty(shape, dtype=input_type(spec))


def example(spec: InputSpec, shape: Shape, seed: int = 0) -> Tensor:
    """Values of the input's type: normal floats, token-like small integers, true flags.

    Raises:
        Unsupported: the shape is absurdly large, or the type is not numeric.
    """
    dtype = input_type(spec)
    ensure_affordable(shape, dtype, MAX_INPUT_BYTES)
    generator = torch.Generator().manual_seed(seed + 1)
    if dtype == torch.bool:
        return torch.ones(shape, dtype=dtype)
    if dtype.is_complex:
        return torch.randn(shape, dtype=dtype, generator=generator)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 2, shape, generator=generator).to(dtype)


def check_tensors(specs: Sequence[InputSpec]) -> None:
    """Every input must be a tensor.

    Raises:
        Unsupported: an input is a sequence or an optional.
    """
    for spec in specs:
        if spec.onnx_type == 0:
            raise Unsupported(
                f"input {spec.name!r} is not a tensor",
                found="a sequence, optional or undeclared type",
                expected="a tensor",
            )


def examples(specs: Sequence[InputSpec], shapes: Mapping[str, Shape], seed: int = 0) -> tuple[Tensor, ...]:
    """One example per input."""
    return tuple(example(spec, shapes[spec.name], seed + i) for i, spec in enumerate(specs))


def given_examples(specs: Sequence[InputSpec], inputs: Mapping[str, Any] | Sequence[Any]) -> tuple[Tensor, ...]:
    """The user's example inputs, by name or in order, in the types the network takes.

    Raises:
        UserError: names or counts that do not fit.
    """
    names = [spec.name for spec in specs]
    by_name = dict(inputs) if isinstance(inputs, Mapping) else dict(zip(names, inputs, strict=False))
    if set(by_name) != set(names) or len(inputs) != len(names):
        raise UserError(
            "example inputs do not fit the model",
            found=", ".join(map(str, by_name)) or "none",
            expected=", ".join(names),
        )
    return tuple(_converted(spec, by_name[spec.name]) for spec in specs)


def _converted(spec: InputSpec, value: Any) -> Tensor:
    tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    return tensor.to(torch_dtype(spec.onnx_type)) if spec.onnx_type else tensor
