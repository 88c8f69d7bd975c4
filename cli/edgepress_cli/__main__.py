"""`python -m edgepress_cli`."""

from edgepress_cli.main import entry

entry()
