"""The cheapest repair of a quantized program: each candidate is tried, and its gain measured at the output."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgepress.ir.program import Program
from edgepress.quantize.calibrate import Batch
from edgepress.quantize.diagnose import Diagnosis, diagnose
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import prepare, quantize
from edgepress.targets.capability import Capability

KEPT_FLOAT = 3  # how many single layers are tried as float
WORTH_DB = 1.0  # a repair that gains less is not worth its price


@dataclass(frozen=True)
class Repair:
    """One way to lose less.

    Attributes:
        what: in words. options: settings that do it. gain_db: output signal-to-noise ratio won.
        price: 0 costs nothing at run time; 1 costs calibration time; 2 costs run time.
    """

    what: str
    options: QuantOptions
    gain_db: float
    price: int


def repairs(
    program: Program, options: QuantOptions, capability: Capability, batches: Sequence[Batch]
) -> tuple[Repair, ...]:
    """Every repair that gains `WORTH_DB` or more at the output, cheapest first, then by gain.

    Args:
        batches: calibration data, read once per candidate.
    """
    start = _measure(program, options, capability, batches)
    tried = [
        replace(
            candidate, gain_db=_measure(program, candidate.options, capability, batches).output_db - start.output_db
        )
        for candidate in _candidates(options, start)
    ]
    worth = [repair for repair in tried if repair.gain_db >= WORTH_DB]
    return tuple(sorted(worth, key=lambda r: (r.price, -r.gain_db)))


def _measure(program: Program, options: QuantOptions, capability: Capability, batches: Sequence[Batch]) -> Diagnosis:
    result = quantize(program, options, capability, batches)
    return diagnose(prepare(program), result.program, batches)


def _candidates(options: QuantOptions, start: Diagnosis) -> list[Repair]:
    observers = [o for o in ("mse", "percentile", "minmax") if o != options.observer]
    found = [
        Repair(f"ranges by {name}", replace(options, observer=name), 0.0, 0)  # type: ignore[arg-type]
        for name in observers
    ]
    if not options.rounds_by_output:
        found.append(Repair("integers chosen by layer output", replace(options, rounding="output"), 0.0, 1))
    for noise in start.worst(KEPT_FLOAT):
        kept = (*options.keep_float, noise.node)
        found.append(Repair(f"{noise.node} kept float", replace(options, keep_float=kept), 0.0, 2))
    return found
