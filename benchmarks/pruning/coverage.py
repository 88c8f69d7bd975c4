"""Which networks lose 20 and 50 % of their MACs and still give valid outputs: edgepress and Torch-Pruning.

    EDGEPRESS_DATA=... python benchmarks/pruning/coverage.py --out benchmarks/pruning/coverage.json
    EDGEPRESS_DATA=... python benchmarks/pruning/coverage.py --out benchmarks/pruning/coverage.json --peer
    python benchmarks/pruning/coverage.py --timm --out benchmarks/pruning/coverage_timm.json        # also with --peer
    (--peer needs: pip install torch-pruning onnx2torch; --timm: pip install timm)

The list: every network of `recipes/families` (as made, untrained), and every file in the data folder's `onnx/`; with
--timm instead networks of other people's design, one of each kind that timm has (weights as made, untrained). Valid
outputs are finite and of the same shape as before. Both tools prune by magnitude, without data. Torch-Pruning works on
modules: it gets the family's own `nn.Module`, and for an ONNX file what onnx2torch makes of it. Layers that
Torch-Pruning cannot prune are put on its ignore list for it. Each network runs in a process of its own.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import sys
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor, nn

from edgepress.errors import EdgepressError
from edgepress.importers import factory
from edgepress.importers.onnx import load as load_onnx
from edgepress.importers.pytorch import FactorySource, from_factory
from edgepress.ir import Program, capture
from edgepress.pipeline.model import _factory_source
from edgepress.prune import PruneOptions, prune
from edgepress.recipe import load as load_recipe

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = ROOT / "recipes/families"
SHARES = (0.2, 0.5)
LIMIT_S = 600


TIMM = (
    "beit_base_patch16_224", "botnet26t_256", "cait_xxs24_224", "coat_tiny", "coatnet_nano_rw_224", "convmixer_768_32",
    "convnext_atto", "crossvit_9_240", "deit_tiny_patch16_224", "densenet121", "dla34", "edgenext_xx_small",
    "efficientformer_l1", "efficientnet_b0", "efficientvit_b0", "fastvit_t8", "ghostnet_100", "gmixer_24_224",
    "hrnet_w18_small", "inception_v4", "levit_128s", "mixer_s32_224", "mobilenetv3_small_100", "mobilenetv4_conv_small",
    "mobileone_s0", "mobilevit_xxs", "mvitv2_tiny", "nextvit_small", "nfnet_l0", "pit_ti_224", "poolformer_s12",
    "regnetx_002", "repvgg_a0", "resnest14d", "resnet18", "seresnext26d_32x4d", "skresnet18",
    "swin_tiny_patch4_window7_224", "tiny_vit_5m_224", "twins_svt_small", "vgg11", "visformer_tiny",
    "vit_relpos_small_patch16_224", "xception41",
    "xcit_nano_12_p16_224",
)  # fmt: skip


def timm_network(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A network of ten classes with example images of its own size."""
    import timm

    network = timm.create_model(name, pretrained=False, num_classes=10).eval()
    return network, (torch.randn(2, *network.default_cfg["input_size"]),)


def subjects() -> list[str]:
    """Names of all networks: recipes of families, then ONNX files."""
    recipes = sorted(p.stem for p in FAMILIES.glob("*.yaml"))
    return recipes + sorted(p.name for p in Path(os.environ["EDGEPRESS_DATA"], "onnx").glob("*.onnx"))


def family_source(name: str) -> FactorySource:
    """The factory and inputs of a family's recipe, without its weights."""
    return replace(_factory_source(load_recipe(FAMILIES / f"{name}.yaml").model), weights=None)


def ours(name: str) -> Program:
    """The network as a program."""
    torch.manual_seed(0)
    if name.endswith(".onnx"):
        return load_onnx(Path(os.environ["EDGEPRESS_DATA"], "onnx", name))
    if name in TIMM:
        return capture(*timm_network(name))
    return from_factory(family_source(name))


def theirs(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The network as a module, with example inputs."""
    torch.manual_seed(0)
    if name.endswith(".onnx"):
        return _converted(name)
    if name in TIMM:
        return timm_network(name)
    source = family_source(name)
    module = factory.call(source.reference, source.kwargs, source.base)
    return module, tuple(spec.example(2) for spec in source.inputs)


def _converted(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    if importlib.util.find_spec("torchvision") is None:  # onnx2torch needs it for two detection operators alone
        stub, operators = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
        stub.ops, operators.roi_align = operators, None  # type: ignore[attr-defined]
        sys.modules |= {"torchvision": stub, "torchvision.ops": operators}
    import onnx2torch

    path = Path(os.environ["EDGEPRESS_DATA"], "onnx", name)
    return onnx2torch.convert(str(path)), tuple(ours(name).example_inputs)


def prune_ours(name: str) -> Iterator[dict[str, object]]:
    """What edgepress makes of it, per share."""
    try:
        program = ours(name)
        for share in SHARES:
            yield attempt(program, share)
    except EdgepressError as error:
        yield from ({"valid": False, "why": f"{error.what}: {error.found}"} for _ in SHARES)


def attempt(program: Program, share: float) -> dict[str, object]:
    """Prune by magnitude, run, compare shapes."""

    def unused(outputs: Tensor, targets: Tensor) -> Tensor:
        raise AssertionError("magnitudes need no loss")

    try:
        result = prune(program, PruneOptions({"macs": share}, criterion="l2", reconstruct=False), [], unused)
    except EdgepressError as error:
        return {"valid": False, "why": f"{error.what}: {error.found}"}
    before, after = (_flat(p(*program.example_inputs)) for p in (program, result.program))
    same = [a.shape for a in before] == [a.shape for a in after]
    finite = all(bool(torch.isfinite(a).all()) for a, b in zip(after, before, strict=True)
                 if a.is_floating_point() and bool(torch.isfinite(b).all()))  # fmt: skip
    left = result.facts["macs_after"] / result.facts["macs_before"]
    reasons = Counter(r.found.split(": ")[-1] for r in result.refusals)
    return {"valid": same and finite and left <= 1 - share, "macs_share": left, "refusals": dict(reasons)}


def _flat(outputs: object) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else [t for o in outputs for t in _flat(o)]  # type: ignore[attr-defined]


def prune_theirs(name: str) -> Iterator[dict[str, object]]:
    """What Torch-Pruning makes of it, per share."""
    import peer

    try:
        yield from peer.shrink(*theirs(name), SHARES)
    except Exception as error:  # conversion or tracing failed: that is the result
        yield from ({"valid": False, "why": f"{type(error).__name__}: {error}"[:200]} for _ in SHARES)


TOOLS: dict[str, Callable[[str], Iterator[dict[str, object]]]] = {
    "edgepress": prune_ours,
    "torch-pruning": prune_theirs,
}


def in_own_process(tool: str, name: str) -> list[dict[str, object]]:
    """One row per share; a process that dies or takes too long is a failure with a reason."""
    context = multiprocessing.get_context("fork")  # libraries are imported once, here
    ours, theirs = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(tool, name, theirs))
    worker.start()
    theirs.close()
    found: list[dict[str, object]] = []
    why, deadline = "died", time.monotonic() + LIMIT_S
    try:
        while len(found) < len(SHARES) and ours.poll(max(deadline - time.monotonic(), 0)):
            found.append(ours.recv())
        why = f"not done in {LIMIT_S} s"
    except EOFError:
        pass
    worker.kill()
    worker.join()
    found += [{"valid": False, "why": why}] * (len(SHARES) - len(found))
    return [{"network": name, "tool": tool, "share": s, **row} for s, row in zip(SHARES, found, strict=True)]


def _work(tool: str, name: str, pipe: Connection) -> None:
    for row in TOOLS[tool](name):
        pipe.send(row)


def summary(rows: list[dict[str, object]]) -> dict[str, str]:
    """Networks pruned of all, per tool, kind and share."""
    found: dict[str, str] = {}
    for tool in TOOLS:
        for kind in ("families", "onnx files", "timm"):
            for share in SHARES:
                same = [r for r in rows if (r["tool"], r["share"]) == (tool, share)]
                mine = [r for r in same if _kind(str(r["network"])) == kind]
                if mine:
                    found[f"{tool}, {kind}, {share:.0%}"] = f"{sum(bool(r['valid']) for r in mine)} of {len(mine)}"
    return found


def _kind(network: str) -> str:
    return "timm" if network in TIMM else "onnx files" if network.endswith(".onnx") else "families"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="families or ONNX files; all if none")
    parser.add_argument("--peer", action="store_true", help="run Torch-Pruning instead")
    parser.add_argument("--timm", action="store_true", help="the networks of timm instead of families and files")
    parser.add_argument("--out", type=Path, help="add the results to this JSON file")
    given = parser.parse_args()
    rows = json.loads(given.out.read_text())["rows"] if given.out and given.out.exists() else []
    done = {(row["network"], row["tool"]) for row in rows}
    for tool in ("torch-pruning",) if given.peer else ("edgepress",):
        for name in given.names or (TIMM if given.timm else subjects()):
            if (name, tool) not in done:
                rows += in_own_process(tool, name)
                print(json.dumps(rows[-2:]), flush=True)
                write(given.out, rows)


def write(out: Path | None, rows: list[dict[str, object]]) -> None:
    """The rows so far, and their summary."""
    if out is not None:
        document = {"torch": torch.__version__, "summary": summary(rows), "rows": rows}
        out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
