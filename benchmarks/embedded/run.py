"""The four MLPerf Tiny networks as generated C on emulated cores, beside what other engines need for the same files.

    EDGEPRESS_DATA=... python benchmarks/embedded/run.py [--cores cortex-m4,cortex-m55] [--specialise] [--out FILE]

Cores that are not named stay in the file as they are.

Everything is exact and repeats: instructions are counted, bytes are linked, mismatches are against the integer
reference. Cycles are modelled (targets/emulate/cycles.py). Peers' instruction counts were taken the same way (gcc 12.2,
the same counting) from TFLM 90b983c + CMSIS-NN 99f736a and onnx2c ea045cc; cycles of closed engines are published.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import differences
import numpy as np
from networks import FILES

from edgepress.exporters.c import Options, export
from edgepress.exporters.c.export import read_graph, reference
from edgepress.targets.emulate import CORES, Deployment, deploy, why_not

HERE = Path(__file__).parent
VECTORS = 20


def peers() -> dict[str, Any]:
    """Figures of other engines, by core and network."""
    return json.loads((HERE / "peers.json").read_text())


def measure(core: str, network: str, path: Path, *, specialise: bool, keep_dead: bool = False) -> dict[str, Any]:
    """Export, build, run and count one network on one core."""
    graph = read_graph(path)
    rows = np.random.default_rng(0).integers(-128, 128, (VECTORS, graph.tensor(graph.inputs[0]).size)).astype(np.int8)
    expected = np.stack([reference(graph, row) for row in rows])
    with tempfile.TemporaryDirectory() as folder:
        options = Options(target=core, name=network, specialise=specialise, keep_dead=keep_dead)
        artifact = export(path, Path(folder), options=options)
        found = deploy(Path(folder), rows)
    plan = {key: artifact.manifest[key] for key in ("arena_lower_bound_bytes", "arena_without_overlap_bytes")}
    layers = [
        {"name": layer["name"], "kernel": layer["kernel"], "macs": layer["macs"], **cost_of(found, layer["name"])}
        for layer in artifact.manifest["layers"]
    ]
    return {
        "instructions": found.total.instructions,
        "cycles_modelled": found.total.cycles or None,
        "flash_bytes": found.flash_bytes,
        "constant_bytes": found.constant_bytes,
        "code_bytes": found.code_bytes,
        "arena_bytes": found.arena_bytes,
        **plan,
        "dead_channels": artifact.manifest["dead_channels"],
        "static_ram_bytes": found.static_ram_bytes,
        "stack_bytes": found.stack_bytes,
        "vectors": VECTORS,
        "mismatches": int((found.outputs != expected).sum()),
        "engine": found.engine,
        "compiler": found.compiler,
        "layers": layers,
    }


def both(core: str, network: str, path: Path, *, specialise: bool) -> dict[str, Any]:
    """The row of a network; where channels were taken out, with the row of all of them inside."""
    row = measure(core, network, path, specialise=specialise)
    if row["dead_channels"]:
        row["with_all_channels"] = measure(core, network, path, specialise=specialise, keep_dead=True)
    return row


def cost_of(found: Deployment, layer: str) -> dict[str, Any]:
    cost = found.layers.get(layer)
    return {"instructions": cost.instructions, "cycles_modelled": cost.cycles or None} if cost else {}


def environment() -> dict[str, str]:
    tools = {"python": platform.python_version(), "machine": platform.machine()}
    for program in ("arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(program):
            tools[program] = subprocess.run(
                [program, "--version"], capture_output=True, text=True, check=True
            ).stdout.splitlines()[0]
    return tools


def summary(results: dict[str, Any], compared: dict[str, Any]) -> list[str]:
    """One line per core and network, the best peer beside it."""
    lines = ["core        network     M insn      peer M cycles*    flash   arena wrong"]
    for core, networks in results.items():
        for network, row in networks.items():
            if "skipped" in row:
                lines.append(f"{core:11s} {network:8s} skipped: {row['skipped']}")
                continue
            peer = compared["instructions"].get(core, {}).get("cmsis-nn", {}).get(network)
            cycles = row["cycles_modelled"]
            lines.append(
                f"{core:11s} {network:8s} {row['instructions'] / 1e6:9.3f} {peer / 1e6 if peer else float('nan'):9.3f} "
                f"{cycles / 1e6 if cycles else float('nan'):9.3f} {row['flash_bytes']:8d} {row['arena_bytes']:7d} "
                f"{row['mismatches']:5d}"
            )
    return [*lines, "peer: CMSIS-NN on the same core.  *modelled, Cortex-M4 only"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", default=",".join(CORES))
    parser.add_argument("--specialise", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    options = parser.parse_args()
    models = Path(os.environ["EDGEPRESS_DATA"]) / "mlperf_tiny" / "models"
    known = json.loads(options.out.read_text())["results"] if options.out.exists() else {}
    record: dict[str, Any] = {"environment": environment(), "peers": peers(), "results": known}
    for core in options.cores.split(","):
        reason = why_not(core)
        record["results"][core] = {
            network: {"skipped": reason}
            if reason
            else both(core, network, models / f"{file}.tflite", specialise=options.specialise)
            for network, file in FILES.items()
        }
        options.out.write_text(json.dumps(record, indent=1) + "\n")  # core by core: a run that is cut short is not lost
    record["differences"] = differences.measured(["quickstart", *FILES])
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(summary(record["results"], record["peers"]) + differences.summary(record["differences"])))


if __name__ == "__main__":
    main()
