"""`sparsify`: set single weights to zero, at once or gradually while training."""

from __future__ import annotations

from edgepress.ir import Program
from edgepress.passes.mask_weights import mask_weights
from edgepress.pipeline.bench import Bench
from edgepress.pipeline.steps.step import StepResult, Workplace
from edgepress.prune import SparsityOptions, SparsityResult, sparsify
from edgepress.prune.gradual import GradualMasks
from edgepress.prune.sparsity import maskable, sparsity_facts
from edgepress.recipe.steps import Sparsify
from edgepress.train import fit, options_from

# Runtimes with kernels that skip zeros: name -> the only pattern they skip.
SKIPS_ZEROS = {"tensorrt": (2, 4)}


def run(config: Sparsify, program: Program, bench: Bench, place: Workplace) -> StepResult:
    """Mask, and say what the zeros are worth."""
    options = SparsityOptions(
        method=config.method,
        sparsity=config.sparsity or 0.0,
        scope=config.scope,
        pattern=config.kept_of,
        ignore=config.ignore,
    )
    if config.epochs and not place.dry:
        result = _gradually(config, options, program, bench, place)
    else:
        batches = bench.calibration_batches(config.samples) if "train" in config.needs() else ()
        result = sparsify(program, options, (inputs for inputs, _ in batches))
    return StepResult(
        result.program,
        result.changed,
        summary(result, bench),
        facts=dict(result.facts),
        refusals=result.refusals,
        plan="\n".join(
            f"{name}: {int((~mask).sum()):,} of {mask.numel():,} zero" for name, mask in result.masks.items()
        ),
    )


def summary(result: SparsityResult, bench: Bench) -> str:
    """Zeros, bytes with and without them, and whether the target's runtime profits."""
    facts = result.facts
    text = (
        f"{facts['zeros']:,} of {facts['weights']:,} weights are zero: {facts['dense_bytes']:,} bytes as stored, "
        f"{facts['compressed_bytes']:,} with the zeros left out"
    )
    target = bench.target
    skipped = SKIPS_ZEROS.get(target.runtime)
    if skipped is None:
        return f"{text}; {target.runtime} on {target.name} computes zeros like any number: no gain in time"
    return f"{text}; {target.runtime} skips zeros of the pattern {skipped[0]}:{skipped[1]} alone"


def _gradually(
    config: Sparsify, options: SparsityOptions, program: Program, bench: Bench, place: Workplace
) -> SparsityResult:
    tightening = GradualMasks(bench.task.objective(), program, options)
    settings = {"epochs": config.epochs, "lr": config.lr, "batch_size": config.batch_size, "optimizer": "adamw",
                "keep": "last", "seed": bench.seed, "device": bench.device}  # fmt: skip
    trained = fit(
        program,
        bench.samples.training(),
        objective=tightening,
        options=options_from(settings),
        task=bench.task,
        constraint=tightening.constrain,
        checkpoints=place.scratch,
    )
    masks = tightening.masks(trained.program)
    masked = mask_weights(trained.program, masks).program
    refusals = tuple(maskable(program, options)[1])
    return SparsityResult(masked, True, masks, refusals, sparsity_facts(masked))
