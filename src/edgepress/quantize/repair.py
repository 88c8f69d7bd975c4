"""The cheapest repair of a quantized program: each candidate is tried, and its gain measured at the output."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from edgepress.ir.program import Program
from edgepress.quantize.calibrate import Batch
from edgepress.quantize.diagnose import SAMPLES, Diagnosis, diagnose, first_output, sqnr
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.quantize.round_layers import gather
from edgepress.targets.capability import Capability

KEPT_FLOAT = 3  # how many single layers are tried as float
WORTH_DB = 1.0  # a repair that gains less is not worth its price
TOGETHER = {"equalize", "smooth", "correct_biases"}  # tried together, and with the best rule for ranges


@dataclass(frozen=True)
class Repair:
    """One way to lose less.

    Attributes:
        what: in words. setting: the same as a recipe has it. options, capability: settings that do it.
        gain_db: output signal-to-noise ratio won.
        price: 0 costs nothing at run time; 1 costs calibration time; 2 costs run time, or another target.
        changes: of the options.
    """

    what: str
    setting: str
    options: QuantOptions
    capability: Capability
    price: int
    gain_db: float = 0.0
    changes: Mapping[str, object] = field(default_factory=dict)


def repairs(
    program: Program,
    options: QuantOptions,
    capability: Capability,
    batches: Sequence[Batch],
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[Repair, ...]:
    """Every repair that gains `WORTH_DB` or more at the output, cheapest first, then by gain.

    Ranges, equalization, smoothing and bias correction are also tried together: equalized channels want their biases
    corrected, and cut ranges hurt or help more once channels are equal. A combination must gain `WORTH_DB` over each of
    its parts.

    Args:
        batches: calibration data, read once per candidate. tell: hears what is being tried.
    """
    result = quantize(program, options, capability, batches)
    start = diagnose(result.reference, result.program, batches)

    def measured(candidate: Repair) -> Repair:
        tell(f"trying: {candidate.what}")
        return replace(candidate, gain_db=_output_db(program, candidate, batches) - start.output_db)

    single = [measured(candidate) for candidate in _candidates(program, options, capability, start)]
    together = [measured(candidate) for candidate in _combinations(options, single)]
    better = [r for r in together if r.gain_db >= _best_part(r, [*single, *together]) + WORTH_DB]
    worth = [repair for repair in (*single, *better) if repair.gain_db >= WORTH_DB]
    return tuple(sorted(worth, key=lambda r: (r.price, -r.gain_db)))


def _combinations(options: QuantOptions, single: Sequence[Repair]) -> list[Repair]:
    """Two or more of the repairs that cost nothing at run time and little before; one rule for ranges at most."""
    rules = sorted((r for r in single if "observer" in r.changes), key=lambda r: -r.gain_db)[:1]
    parts = rules + [r for r in single if r.changes.keys() & TOGETHER]
    groups = [group for size in range(2, len(parts) + 1) for group in combinations(parts, size)]
    return [_joined(options, group) for group in groups]


def _joined(options: QuantOptions, parts: Sequence[Repair]) -> Repair:
    changes = {name: value for part in parts for name, value in part.changes.items()}
    return Repair(
        what=", ".join(part.what for part in parts),
        setting=", ".join(part.setting for part in parts),
        options=replace(options, **changes),  # type: ignore[arg-type]
        capability=parts[0].capability,
        price=max(part.price for part in parts),
        changes=changes,
    )


def _best_part(whole: Repair, tried: Sequence[Repair]) -> float:
    """The largest gain of what is a part of this combination."""
    return max(r.gain_db for r in tried if r.changes and r.changes.items() < whole.changes.items())


def _output_db(program: Program, repair: Repair, batches: Sequence[Batch]) -> float:
    """Signal above the noise at the first output, over the samples that `diagnose` looks at."""
    quantized = quantize(program, repair.options, repair.capability, batches).program
    inputs = gather(batches, SAMPLES)
    return sqnr(first_output(program(*inputs)), first_output(quantized(*inputs)))


def _candidates(program: Program, options: QuantOptions, capability: Capability, start: Diagnosis) -> list[Repair]:
    def changed(what: str, setting: str, price: int, **settings: object) -> Repair:
        fresh = replace(options, **settings)  # type: ignore[arg-type]
        return Repair(what, setting, fresh, capability, price, changes=settings)

    found = [
        changed(f"ranges by {name}", f"observer: {name}", 0, observer=name)
        for name in ("mse", "percentile", "minmax")
        if name != options.observer and options.activation_bits is not None
    ]
    if not options.equalize:
        found.append(changed("ranges equalized between layers", "equalize: true", 0, equalize=True))
    if options.smooth is None and any("layer_norm" in str(n.target) for n in program.nodes):
        found.append(changed("activations behind layer norms smoothed", "smooth: 0.5", 0, smooth=0.5))
    if not options.correct_biases:
        found.append(changed("means put back into the biases", "correct_biases: true", 1, correct_biases=True))
    if not options.rounds_by_output:
        found.append(changed("integers chosen by layer output", "rounding: output", 1, rounding="output"))
    if capability.weight.granularity == "tensor":
        finer = capability.weight.model_copy(update={"granularity": "channel"})
        other = capability.model_copy(update={"weight": finer})
        found.append(Repair("a scale per channel of each weight", "another target", options, other, 2))
    for noise in start.worst(KEPT_FLOAT):
        kept = (*options.keep_float, noise.node)
        found.append(changed(f"{noise.node} kept float", f"keep_float: [{', '.join(kept)}]", 2, keep_float=kept))
    return found
