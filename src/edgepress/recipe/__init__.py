"""Recipes: strict YAML that says what to do with which model, on what data, for which targets and budgets."""

from edgepress.recipe.loader import load, only_steps, parse_recipe, resolved_yaml
from edgepress.recipe.schema import Recipe, json_schema

__all__ = ["Recipe", "json_schema", "load", "only_steps", "parse_recipe", "resolved_yaml"]
