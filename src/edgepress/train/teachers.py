"""Networks that are only asked: what distillation learns from."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgepress.errors import UserError
from edgepress.ir.program import Program
from edgepress.train import checkpoint
from edgepress.train.batches import Batch
from edgepress.train.checkpoint import Checkpoint
from edgepress.train.network import autocast, placed, to_float
from edgepress.train.options import TrainOptions
from edgepress.train.samples import Samples
from edgepress.train.tapping import tapped

CACHE = "teacher.safetensors"
CACHE_BATCH = 256
LARGEST_CACHE = 2 * 10**9  # bytes of answers that are worth keeping in memory


class Teachers:
    """Asked about each batch anew; the outputs of several are averaged.

    Raises:
        UserError: taps with several teachers.
    """

    def __init__(
        self, programs: tuple[Program, ...], options: TrainOptions, taps: tuple[str, ...], *, tap: bool
    ) -> None:
        self._options = options
        modules = [placed(p.detached_module(), options) for p in programs]
        self._calls = [tapped(m, taps) if tap else m for m in modules]
        if tap and len(programs) > 1:
            raise UserError("several teachers cannot be tapped", found=f"{len(programs)} teachers", expected="one",
                            fix="use losses on outputs, or one teacher")  # fmt: skip

    @torch.no_grad()
    def __call__(self, inputs: tuple[Tensor, ...], batch: Batch) -> Any:
        """Outputs in float32 for `inputs` (on the device), `None` without teachers."""
        with autocast(self._options):
            answers = [call(*inputs) for call in self._calls]
        if not answers:
            return None
        answers = [to_float(answer) for answer in answers]
        return answers[0] if len(answers) == 1 else _mean(answers)


class RememberedTeachers:
    """Asked once about each sample; for data that look the same every time.

    Args:
        folder: where the answers are kept for the next attempt, `None` to keep them in memory alone.
        fingerprint: of the job; answers of another job are not used.
    """

    def __init__(
        self, teachers: Teachers, data: Samples, options: TrainOptions, folder: Path | None, fingerprint: str
    ) -> None:
        self._options = options
        path = folder / CACHE if folder else None
        found = checkpoint.read(path) if path else None
        if found is not None and found.facts.get("job") == fingerprint:
            self._answers = dict(found.tensors)
        else:
            self._answers = _ask_all(teachers, data, options)
            if path:
                checkpoint.write(path, Checkpoint(self._answers, {"job": fingerprint}))

    def __call__(self, inputs: tuple[Tensor, ...], batch: Batch) -> Any:
        """The remembered outputs of the batch's rows."""
        answers = [self._answers[str(i)][batch.rows].to(self._options.device) for i in range(len(self._answers))]
        return answers[0] if len(answers) == 1 else tuple(answers)


def answer_bytes(teacher: Program) -> int:
    """Bytes of one sample's outputs in float32."""
    output = next(node for node in reversed(teacher.graph.nodes) if node.op == "output")
    values = [node.meta["val"] for node in output.args[0]]
    return sum(4 * math.prod(size for size in value.shape[1:] if isinstance(size, int)) for value in values)


def _ask_all(teachers: Teachers, data: Samples, options: TrainOptions) -> dict[str, Tensor]:
    """Output number -> answers (N, ...) on the CPU."""
    collected: list[tuple[Tensor, ...]] = []
    for rows in torch.arange(len(data)).split(CACHE_BATCH):
        inputs = tuple(t[rows].to(options.device) for t in data.inputs)
        answer = teachers(inputs, Batch(inputs, None, rows))
        outputs = (answer,) if isinstance(answer, Tensor) else tuple(answer)
        collected.append(tuple(o.cpu() for o in outputs))
    return {str(i): torch.cat(parts) for i, parts in enumerate(zip(*collected, strict=True))}


def _mean(answers: list[Any]) -> Any:
    if isinstance(answers[0], Tensor):
        return torch.stack(answers).mean(0)
    return tuple(torch.stack(parts).mean(0) for parts in zip(*answers, strict=True))
