"""Where the preprocessing happens: before the network, or baked into its graph."""

from __future__ import annotations

from edgepress.data.preprocess import from_options
from edgepress.errors import UserError
from edgepress.ir import Program
from edgepress.passes.bake_preprocess import bake_preprocess
from edgepress.recipe import Recipe
from edgepress.recipe.data import Data, Preprocess


def placed(recipe: Recipe, original: Program) -> tuple[Program, Data]:
    """The network, and the data section that fits it: without preprocessing once that is in the graph.

    Raises:
        UserError: the recipe asks to bake what is not there or does not fit.
    """
    if not recipe.model.bake_preprocess:
        return original, recipe.data
    return baked(recipe, original), recipe.data.model_copy(update={"preprocess": Preprocess()})


def baked(recipe: Recipe, program: Program) -> Program:
    """`program` with the preprocessing in its graph, where the recipe asks for that.

    Raises:
        UserError: there is none, or it does not fit the first input.
    """
    if not recipe.model.bake_preprocess:
        return program
    numbers = from_options(recipe.data.preprocess.model_dump())
    result = bake_preprocess(program, *numbers.affine(), channels_last=numbers.layout == "nhwc")
    if not result.changed:
        found = "; ".join(map(str, result.refusals)) or "no scale, mean, std or layout: nhwc"
        raise UserError("the preprocessing cannot be baked into the graph", found=found,
                        expected="data.preprocess with scale, mean, std or layout for the first input",
                        fix="correct data.preprocess, or remove model.bake_preprocess")  # fmt: skip
    return result.program


def preprocess_note(recipe: Recipe) -> list[str]:
    """What a reader who deploys the artifact should know about its input."""
    preprocess, baked = recipe.data.preprocess, recipe.model.bake_preprocess
    return [*_numbers_note(preprocess, baked), *_layout_note(preprocess, baked)]


def _numbers_note(preprocess: Preprocess, baked: bool) -> list[str]:
    if preprocess.scale == 1 and not preprocess.mean and not preprocess.std:
        return []
    if baked:
        return ["preprocessing is baked into the graph: the artifact takes raw values"]
    formula = f"(x * {preprocess.scale:g} - {list(preprocess.mean) or 0}) / {list(preprocess.std) or 1}"
    return [f"preprocessing is not baked into the graph: feed {formula}"]


def _layout_note(preprocess: Preprocess, baked: bool) -> list[str]:
    if preprocess.layout != "nhwc":
        return []
    if baked:
        return ["the layout is baked into the graph: the artifact takes channels last (nhwc), as the data stores them"]
    return ["the layout is not baked into the graph: the artifact takes channels first; the data stores them last"]
