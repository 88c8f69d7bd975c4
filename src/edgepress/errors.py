"""Every error a user can meet, each with what failed, what was found, what was expected, and how to fix it.

Each class owns the exit code of the process it ends (see `ExitCode`).
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """The meaning of the process exit status; the contract with shells and CI."""

    PASS = 0
    BUDGET_FAILED = 1
    WRONG_USE = 2
    INCONCLUSIVE = 3
    TOOL_FAILED = 4
    DEFECT = 70


class EdgepressError(Exception):
    """Base of all errors raised on purpose.

    Args:
        what: what failed, naming the file, field or node.
        found: what was there.
        expected: what should have been there.
        fix: one command or one edit that mends it.
    """

    exit_code: ExitCode = ExitCode.WRONG_USE

    def __init__(self, what: str, *, found: str = "", expected: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.found = found
        self.expected = expected
        self.fix = fix

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The message as it is printed: what failed, then found / expected, then the fix."""
        facts = [f"{label}: {text}" for label, text in (("found", self.found), ("expected", self.expected)) if text]
        lines = [self.what]
        if facts:
            lines.append("  " + " | ".join(facts))
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return lines


class UserError(EdgepressError):
    """Wrong use: a flag, a file, a recipe or a model that cannot be taken as it is."""


class ToolError(EdgepressError):
    """A tool or device that is needed failed (a full disk, a lost connection, a compiler's error)."""

    exit_code = ExitCode.TOOL_FAILED


class MissingTool(ToolError):
    """A tool that is needed is not installed.

    Args:
        tool: its name.
        needed_for: what cannot be done without it.
        install: the command that installs it.
    """

    def __init__(self, tool: str, *, needed_for: str, install: str) -> None:
        super().__init__(f"{needed_for} needs {tool}", found="not installed", expected=tool, fix=install)
        self.tool = tool


class NotFaster(EdgepressError):
    """A network on integers is not faster than in float, and the recipe says that this fails."""

    exit_code = ExitCode.BUDGET_FAILED


class Inconclusive(EdgepressError):
    """The evidence does not decide: too noisy, too few samples, another machine."""

    exit_code = ExitCode.INCONCLUSIVE
