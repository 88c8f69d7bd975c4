"""Writes the tables of docs/embedded.md from the JSON files beside this one: nothing there is typed by hand.

python benchmarks/embedded/tables.py [--check]
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "embedded.md"
NETWORKS = ("resnet8", "dscnn", "vww", "ad")
HEAD = "| | ResNet-8 | DS-CNN | VWW | VWW, dead channels kept | AD |\n|---|---|---|---|---|---|"
NAMES = {"resnet8": "ResNet-8", "dscnn": "DS-CNN", "vww": "VWW", "ad": "AD", "quickstart": "quickstart"}
Row = dict[str, Any]


def millions(value: float) -> str:
    return f"{value / 1e6:.3f}" if value < 1e6 else f"{value / 1e6:.2f}"


def kilo(value: float) -> str:
    return f"{value / 1000:.1f}"


def line(label: str, cells: list[str]) -> str:
    return f"| {label} | " + " | ".join(cells) + " |"


def columns(rows: dict[str, Row]) -> list[Row]:
    """The five columns of a core: VWW twice."""
    vww = rows["vww"]
    return [rows["resnet8"], rows["dscnn"], vww, vww.get("with_all_channels", vww), rows["ad"]]


def peer(values: dict[str, float] | None, shown: Any) -> list[str]:
    """A peer's cells: other engines run the file with all channels."""
    cells = [shown(values[name]) if values and name in values else "" for name in NETWORKS]
    return [*cells[:2], "", *cells[2:]]


def pairs(first: list[str], second: list[str]) -> list[str]:
    return [f"{a} / {b}" if a and b else "" for a, b in zip(first, second, strict=True)]


def cortex_m4(rows: dict[str, Row], peers: dict[str, Any]) -> list[str]:
    found = columns(rows)
    counted, flash, ram = (peers[key]["cortex-m4"] for key in ("instructions", "flash_bytes", "ram_bytes"))
    closed = peers["published_cycles"]["cortex-m4"].values()
    bytes_of = "{:,}".format
    return [
        line("**generated C, M instructions**", [f"**{millions(r['instructions'])}**" for r in found]),
        line("TFLM + CMSIS-NN", peer(counted["tflm+cmsis-nn"], millions)),
        line("onnx2c int8", peer(counted["onnx2c int8"], millions)),
        line("**generated C, M cycles (modelled)**", [f"**{millions(r['cycles_modelled'])}**" for r in found]),
        line(
            "X-CUBE-AI 1.2 / Plumerai 1.1, M cycles (published)",
            pairs(*(peer(values, millions) for values in closed)),
        ),
        line(
            "**generated C, flash K** (of it code)",
            [f"**{kilo(r['flash_bytes'])}** ({kilo(r['code_bytes'])})" for r in found],
        ),
        line(
            "TFLM + CMSIS-NN / CMSIS-NN directly, flash K",
            pairs(peer(flash["tflm+cmsis-nn"], kilo), peer(flash["cmsis-nn"], kilo)),
        ),
        line("**generated C, arena bytes**", [f"**{r['arena_bytes']:,}**" for r in found]),
        line("no placement below", [bytes_of(r["arena_lower_bound_bytes"]) for r in found]),
        line("without overlaps", [bytes_of(r["arena_without_overlap_bytes"]) for r in found]),
        line(
            "TFLM + CMSIS-NN / CMSIS-NN directly",
            pairs(peer(ram["tflm+cmsis-nn"], bytes_of), peer(ram["cmsis-nn"], bytes_of)),
        ),
        line("stack seen, bytes", [str(r["stack_bytes"]) for r in found]),
    ]


def figures() -> str:
    record = json.loads((HERE / "results.json").read_text())
    results, peers = record["results"], record["peers"]
    others = []
    for core, rows in results.items():
        if core == "cortex-m4" or any("skipped" in row for row in rows.values()):
            continue
        beside = peer(peers["instructions"].get(core, {}).get("cmsis-nn"), millions)
        cells = [millions(row["instructions"]) for row in columns(rows)]
        others.append(line(core, [f"{c} ({b})" if b else c for c, b in zip(cells, beside, strict=True)]))
    return "\n".join(
        ["Cortex-M4:", "", HEAD, *cortex_m4(results["cortex-m4"], peers), "",
         "Both columns of VWW give the same bytes for every input. Other engines run the file as it is: the second is "
         "the one to hold\nagainst them, the first is what this file costs here.", "",
         "Other cores, M instructions, CMSIS-NN on the same core in brackets:", "", HEAD, *others]
    )  # fmt: skip


def exact() -> str:
    record = json.loads((HERE / "exact.json").read_text())
    heads = (
        "",
        "inputs on the host (saturated, real, random)",
        "bytes of layers compared",
        "Cortex-M4",
        "RV32IMC",
        "wrong",
    )
    rows = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, found in record["networks"].items():
        kinds, host = found["kinds"], found["host"]
        parts = ", ".join(f"{kinds[kind]:,}" for kind in ("saturated", "real", "random"))
        layered = found["cortex-m4, by layer"]
        wrong = [host["wrong"], host["wrong_layer_bytes"], layered["wrong_layer_bytes"]]
        wrong += [found[core]["wrong"] for core in ("cortex-m4", "rv32imc")]
        cells = [f"{host['inputs']:,} ({parts})", f"{host['layer_bytes']:,}"]
        cells += [
            f"{found['cortex-m4']['inputs']}, {layered['inputs']} layer by layer",
            str(found["rv32imc"]["inputs"]),
        ]
        rows.append(line(NAMES[name], [*cells, str(sum(wrong))]))
    drawn = record["random_graphs"]
    built = drawn["graphs"] - drawn.get("refused", 0)
    operators = drawn["operators"]
    rows += ["", f"Random graphs, as the tests draw them: {built:,} with {sum(operators.values()):,} operators of "
             f"{len(operators)} kinds, {drawn['inputs']:,} inputs, {drawn['wrong']} bytes wrong (and "
             f"{drawn.get('refused', 0)} refused, whose sums could leave 32 bits)."]  # fmt: skip
    return "\n".join(rows)


def differences() -> str:
    record = json.loads((HERE / "results.json").read_text())["differences"]
    rows = [
        "| | runtime | rounding | largest, steps | outputs that differ | top-1 changed |",
        "|---|---|---|---|---|---|",
    ]
    for network, peers in record.items():
        for runtime, roundings in peers.items():
            for rounding, found in roundings.items():
                changed = found["changed_top1"]
                top = "" if changed is None else f"{changed} of {found['inputs']}"
                share = f"{100 * found['share_different']:.2f} %"
                rows.append(line(NAMES[network], [runtime, rounding, str(found["largest_steps"]), share, top]))
    return "\n".join(rows)


def families() -> str:
    rows = json.loads((HERE / "families.json").read_text())["rows"]
    heads = ("family", "in C", "steps from PyTorch", "from onnxruntime (outputs that differ)", "flash", "arena",
             "M instructions")  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        if "steps" not in row:
            lines.append(line(row["family"], [row.get("refused") or row["skipped"], "", "", "", "", ""]))
            continue
        apart = row["onnxruntime"]
        theirs = f"{apart['largest_steps']} ({100 * apart['share_different']:.1f} %)"
        costs = [f"{row['flash_bytes']:,}", f"{row['arena_bytes']:,}", millions(row["instructions"])]
        lines.append(line(row["family"], ["yes", f"{row['steps']:g}", theirs, *costs]))
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with every table as the JSON says."""
    for name, made in (("figures", figures), ("families", families), ("exact", exact), ("differences", differences)):
        block = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end of {name} -->)", re.DOTALL)
        text, count = block.subn(lambda match, made=made: match[1] + made() + match[2], text)
        assert count == 1, f"{PAGE.name}: no block {name}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    old = PAGE.read_text()
    new = page(old)
    if parser.parse_args().check:
        sys.exit(old != new)
    PAGE.write_text(new)


if __name__ == "__main__":
    main()
