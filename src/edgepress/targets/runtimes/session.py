"""What every runtime looks like from outside: open an artifact, feed arrays, take arrays."""

from collections.abc import Mapping
from typing import Protocol

from edgepress.targets.runtimes.inputs import Array, InputSpec


class Session(Protocol):
    """One loaded artifact, ready to run.

    `run` blocks until the outputs are in host memory: what it takes is what a caller waits.
    """

    @property
    def input_names(self) -> tuple[str, ...]: ...

    @property
    def input_specs(self) -> Mapping[str, InputSpec]: ...

    @property
    def output_names(self) -> tuple[str, ...]: ...

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Outputs in the order of `output_names`, each owned by the caller.

        Raises:
            UserError: an input is missing, unknown, or of another shape or type than the artifact takes.
        """
        ...

    def describe(self) -> str:
        """Runtime, version and settings in a few words, for the `method` of a measurement."""
        ...

    def close(self) -> None:
        """Free what the session holds. A closed session cannot run."""
        ...
