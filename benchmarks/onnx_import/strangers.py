"""Write networks of many trades as small `.onnx` files, as a stranger would bring them: old opsets and new ones.

    python benchmarks/onnx_import/strangers.py FOLDER [NAME...]
    python benchmarks/onnx_import/files.py FOLDER --name strangers

Networks are in `trades_vision.py`, `trades_signals.py` and `trades_text.py`; graphs that no exporter of torch writes
are in `odd_graphs.py`. Weights are random. Names of files begin with `vision_`, `signals_`, `text_` or `odd_`.
"""

import argparse
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import odd_graphs
import torch
import trades_signals
import trades_text
import trades_vision
from zoo import Entry, write

TRADES = {"vision": trades_vision, "signals": trades_signals, "text": trades_text}


def entries() -> Iterator[Entry]:
    """Every network with its inputs and forms."""
    for trade, module in TRADES.items():
        for name, (make, inputs, *forms) in module.NETWORKS.items():
            named = {f"input_{i}" if i else "input": value for i, value in enumerate(inputs)}
            yield Entry(f"{trade}_{name}", make, named, {0: "batch"}, tuple(forms))


def wanted(name: str, asked: list[str]) -> bool:
    """Whether a network was asked for; all of them without names."""
    return not asked or name.startswith(tuple(asked))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="starts of names; all of them without")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.backends.mha.set_fastpath_enabled(False)  # it has no counterpart in ONNX
    asked.folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for entry in entries():
        for form in entry.forms if wanted(entry.name, asked.names) else ():
            path = asked.folder / f"{entry.name}.{form.replace(' ', '-')}.onnx"
            try:
                write(entry, form, path)
            except Exception as error:  # what an exporter of torch does not take
                failed += 1
                print(path.name, type(error).__name__, str(error).partition("\n")[0][:200], file=sys.stderr)
    for name, make in odd_graphs.GRAPHS.items():
        if wanted(f"odd_{name}", asked.names):
            odd_graphs.save(make(), asked.folder / f"odd_{name}.opset.onnx")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
