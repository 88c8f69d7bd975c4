"""Where the preprocessing happens: before the network, or baked into its graph."""

from __future__ import annotations

from edgepress.data.preprocess import from_options
from edgepress.errors import UserError
from edgepress.ir import Program
from edgepress.passes.bake_preprocess import bake_preprocess
from edgepress.recipe import Recipe
from edgepress.recipe.data import Data, Preprocess


def placed(recipe: Recipe, original: Program) -> tuple[Program, Data]:
    """The network, and the data section that fits it: without scale, mean and std once these are in the graph.

    Raises:
        UserError: the recipe asks to bake what is not there or does not fit.
    """
    if not recipe.model.bake_preprocess:
        return original, recipe.data
    outside = Preprocess(layout=recipe.data.preprocess.layout)
    return baked(recipe, original), recipe.data.model_copy(update={"preprocess": outside})


def baked(recipe: Recipe, program: Program) -> Program:
    """`program` with the preprocessing in its graph, where the recipe asks for that.

    Raises:
        UserError: there is none, or it does not fit the first input.
    """
    if not recipe.model.bake_preprocess:
        return program
    numbers = recipe.data.preprocess
    result = bake_preprocess(program, *from_options(numbers.model_dump()).affine())
    if not _has_numbers(numbers) or not result.changed:
        found = "; ".join(map(str, result.refusals)) or "no scale, mean or std"
        raise UserError("the preprocessing cannot be baked into the graph", found=found,
                        expected="data.preprocess with scale, mean or std for the first input",
                        fix="correct data.preprocess, or remove model.bake_preprocess")  # fmt: skip
    return result.program


def preprocess_note(recipe: Recipe) -> list[str]:
    """What a reader who deploys the artifact should know about its input."""
    preprocess = recipe.data.preprocess
    layout = ["the artifact takes channels first; the data stores them last"] if preprocess.layout == "nhwc" else []
    if not _has_numbers(preprocess):
        return layout
    if recipe.model.bake_preprocess:
        return ["preprocessing is baked into the graph: the artifact takes raw values", *layout]
    formula = f"(x * {preprocess.scale:g} - {list(preprocess.mean) or 0}) / {list(preprocess.std) or 1}"
    return [f"preprocessing is not baked into the graph: feed {formula}", *layout]


def _has_numbers(preprocess: Preprocess) -> bool:
    return preprocess.scale != 1 or bool(preprocess.mean) or bool(preprocess.std)
