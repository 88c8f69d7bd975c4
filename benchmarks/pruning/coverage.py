"""Which real ONNX files can be pruned by 20 and 50 % of their MACs, with finite outputs; and why not the others.

EDGEPRESS_DATA=... python benchmarks/pruning/coverage.py --out coverage.json
"""

import argparse
import json
import os
from collections import Counter
from pathlib import Path

import torch

from edgepress.errors import EdgepressError
from edgepress.importers.onnx import load
from edgepress.ir import Program
from edgepress.prune import PruneOptions, prune

SHARES = (0.2, 0.5)


def attempt(program: Program, share: float) -> dict[str, object]:
    """What pruning by magnitude without data comes to."""

    def unused(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        raise AssertionError("magnitudes need no loss")

    try:
        result = prune(program, PruneOptions({"macs": share}, criterion="l2", reconstruct=False), [], unused)
    except EdgepressError as error:
        return {"share": share, "valid": False, "why": f"{error.what}: {error.found}"}
    outputs = result.program(*result.program.example_inputs)
    floats = [o for o in (outputs if isinstance(outputs, list | tuple) else [outputs]) if o.is_floating_point()]
    finite = all(bool(torch.isfinite(o).all()) for o in floats)
    reasons = Counter(r.found.split(": ")[-1] for r in result.refusals)
    return {"share": share, "valid": finite, "macs_after": result.facts["macs_after"], "refusals": dict(reasons)}


def rows_of(path: Path) -> list[dict[str, object]]:
    try:
        program = load(path)
    except EdgepressError as error:
        return [{"file": path.name, "valid": False, "why": f"not imported: {error.what}"}]
    return [{"file": path.name, **attempt(program, share)} for share in SHARES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="ONNX files; all of the data folder if none")
    parser.add_argument("--out", type=Path, help="write JSON here")
    given = parser.parse_args()
    rows: list[dict[str, object]] = []
    for path in given.files or sorted(Path(os.environ["EDGEPRESS_DATA"], "onnx").glob("*.onnx")):
        for row in rows_of(path):
            rows.append(row)
            print(json.dumps(row), flush=True)
        if given.out:
            given.out.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
