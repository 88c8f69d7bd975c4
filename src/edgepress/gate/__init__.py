"""Budgets, baselines and verdicts: evidence in, exit code out.

Nothing here imports torch: a gate must answer before a network has been loaded.
"""
