"""Networks beside the recipe's own, students and other teachers: inputs and outputs are those of the original."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from edgepress.distill import output_shapes
from edgepress.errors import UserError
from edgepress.ir import Program
from edgepress.pipeline.model import import_network
from edgepress.pipeline.preprocessing import baked
from edgepress.recipe import Recipe
from edgepress.recipe.model import InputSpec, Network
from edgepress.train.randomness import seed_of

Networks = Mapping[str, Program]
"""`Network.model_dump_json()` -> the program."""


def import_networks(recipe: Recipe, original: Program) -> dict[str, Program]:
    """Every network that the recipe's steps name.

    Args:
        original: the recipe's own network as imported, before any preprocessing was baked into it.

    Raises:
        UserError: one cannot be imported, or its inputs or outputs are not those of `original`.
    """
    named = {source.model_dump_json(): source for item in recipe.steps for source in item.config.networks()}
    return {key: baked(recipe, _imported(source, original, recipe.seed)) for key, source in named.items()}


def _imported(source: Network, original: Program, seed: int) -> Program:
    # A network without weights of its own starts from random ones: they follow from the seed, too.
    torch.manual_seed(seed_of(seed, "network", 0))
    complete = source if source.inputs else source.model_copy(update={"inputs": _inputs_of(original)})
    program = import_network(complete)
    _check_fits(source.reference, program, original)
    names = original.output_names if len(program.output_names) == len(original.output_names) else program.output_names
    return replace(program, input_names=original.input_names, output_names=names)


def _inputs_of(program: Program) -> dict[str, InputSpec]:
    free = program.dynamic_batch()
    return {
        name: InputSpec(
            shape=tuple(t.shape[1:]),
            dtype=str(t.dtype).removeprefix("torch."),  # type: ignore[arg-type]  # pydantic checks it
            batch=None if free else int(t.shape[0]),
        )
        for name, t in zip(program.input_names, program.example_inputs, strict=True)
    }


def _check_fits(name: str, program: Program, original: Program) -> None:
    for what, shapes in (("inputs", _input_shapes), ("outputs", _judged_output)):
        found, expected = shapes(program), shapes(original)
        if found != expected:
            raise UserError(
                f"{name} has other {what} than the recipe's network",
                found=", ".join(found),
                expected=", ".join(expected),
                fix=f"give it the {what} of the recipe's network",
            )


def _input_shapes(program: Program) -> list[str]:
    return ["x".join(map(str, t.shape[1:])) or "scalar" for t in program.example_inputs]


def _judged_output(program: Program) -> list[str]:
    """The first output: what the task is judged by."""
    return output_shapes(program)[:1]
