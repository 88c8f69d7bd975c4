"""The part of edgepress that runs where the artifact runs: on a board, in an emulator, in a fresh process here.

Standard library, numpy and a runtime are all it needs, Python 3.10 or later. `remote.bundle` packs it for the journey.
"""
