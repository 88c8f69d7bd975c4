"""Which families of networks become C for a Cortex-M4, what they need there, and what refuses the others.

    python benchmarks/embedded/families.py [NAME ...] [--out FILE]

The networks of recipes/families with seeded weights, quantized for the C target with noise for calibration (sizes and
instructions do not depend on training), exported, built, and run on the emulated core. `steps` is the largest
difference between the C and the quantized network in PyTorch, in steps of the output; `onnxruntime` compares with what
that makes of the same file, over more inputs; `wrong` counts bytes that differ between the core and the integer
reference. Families that are not named stay in the file as they are.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import differences
import numpy as np
import torch

from edgepress.errors import EdgepressError, UserError
from edgepress.exporters.c import Options, export
from edgepress.exporters.c.export import read_graph, reference
from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program
from edgepress.pipeline.firmware import quantize_input
from edgepress.pipeline.model import import_model
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.recipe import load
from edgepress.targets.capability import load_capability
from edgepress.targets.emulate import deploy

HERE = Path(__file__).parent
RECIPES = HERE.parents[1] / "recipes" / "families"
CORE = "cortex-m4"
SAMPLES = 4
COMPARED = 16  # inputs in onnxruntime


def noise(example: torch.Tensor) -> torch.Tensor:
    return torch.randn(example.shape) if example.is_floating_point() else example


def measure(name: str) -> dict[str, Any]:
    """The row of one family; a refusal is a row too."""
    torch.manual_seed(0)
    recipe = load(RECIPES / f"{name}.yaml")
    program = import_model(recipe.model.model_copy(update={"weights": None}))
    batches = [tuple(noise(x) for x in program.example_inputs) for _ in range(SAMPLES)]
    found = quantize(program, QuantOptions(), load_capability("mcu-c"), batches)
    try:
        return {"family": name, **deployed(found.program, batches)}
    except UserError as error:
        return {"family": name, "refused": str(error)}


def deployed(program: Program, batches: list[tuple[torch.Tensor, ...]]) -> dict[str, Any]:
    """Costs on the core, and how far the C is from the program."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(program, path)
        graph = read_graph(path)
        artifact = export(path, Path(folder) / "c", options=Options(target=CORE, golden=1, keep_dead=True))
        borders = artifact.manifest["inputs"]
        columns = [quantize_input(x[:1], border) for x, border in zip(batches[0], borders, strict=True)]
        row = np.concatenate(columns, axis=1)
        ran = deploy(Path(folder) / "c", row)
        apart = beside_onnxruntime(path, row)
    expected = reference(graph, row[0])
    return {
        "macs": sum(layer["macs"] for layer in artifact.manifest["layers"]),
        "instructions": ran.total.instructions,
        "flash_bytes": ran.flash_bytes,
        "arena_bytes": ran.arena_bytes,
        "arena_lower_bound_bytes": artifact.manifest["arena_lower_bound_bytes"],
        "stack_bytes": ran.stack_bytes,
        "stack_bound_bytes": ran.stack_bound_bytes,
        "onnxruntime": apart,
        "wrong": int((ran.outputs[0] != expected).sum()),
        "steps": round(_steps(program, batches[0], expected, artifact.manifest["outputs"][0]), 1),
    }


def beside_onnxruntime(path: Path, row: np.ndarray) -> dict[str, Any]:
    """Inputs drawn anew; numbers of tokens are those of `row` in another order."""
    graph, draw = read_graph(path), np.random.default_rng(0)
    tokens = [graph.tensor(name).dtype == "int32" for name in graph.inputs]
    rows = draw.integers(-128, 128, (COMPARED, row.shape[1])).astype(np.int8)
    if any(tokens):
        words = row[0].view(np.int32)
        rows = np.stack([draw.permutation(words) for _ in range(COMPARED)]).view(np.int8)
    size = graph.tensor(graph.outputs[0]).size
    ours = np.stack([reference(graph, one)[:size] for one in rows])
    theirs = differences.onnxruntime_runner(path, graph)(rows)
    return differences.difference(ours, theirs, classes=False)


def _steps(program: Program, batch: tuple[torch.Tensor, ...], outputs: np.ndarray, border: dict[str, Any]) -> float:
    with torch.no_grad():
        results = program.exported.module()(*batch)
    first = results[0] if isinstance(results, tuple | list) else results
    real = first[:1].reshape(-1).double().numpy()
    ours = (outputs[: border["bytes"]].astype(float) - border["zero_point"]) * border["scale"]
    return float(np.abs(ours - real).max()) / border["scale"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=sorted(path.stem for path in RECIPES.glob("*.yaml")))
    parser.add_argument("--out", type=Path, default=HERE / "families.json")
    options = parser.parse_args()
    known = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    rows = {row["family"]: row for row in known}
    for name in options.names:
        try:
            rows[name] = measure(name)
        except EdgepressError as error:
            rows[name] = {"family": name, "skipped": str(error)}
        print(rows[name], flush=True)
        ordered = [rows[family] for family in sorted(rows)]
        options.out.write_text(json.dumps({"core": CORE, "rows": ordered}, indent=1) + "\n")


if __name__ == "__main__":
    main()
