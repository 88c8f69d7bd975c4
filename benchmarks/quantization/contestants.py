"""The networks that quantizers are compared on: the program, what to calibrate with, what to test with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from mixed import vit, vit_cifar
from networks import cifar, resnet
from rescaled import keywords

from edgepress.importers import factory
from edgepress.importers.weights import load_into, read_weights
from edgepress.ir import Program, capture

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = ROOT / "recipes" / "families"
SAMPLES = 512
Samples = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Case:
    """One network.

    Attributes:
        program: makes it. calibrate, test: samples, and (samples, labels). batch: samples per calibration batch.
        transformer: whether it is one. goal: points it may lose.
    """

    program: Callable[[], Program]
    calibrate: Callable[[], torch.Tensor]
    test: Callable[[], Samples]
    batch: int = 32
    transformer: bool = False
    goal: float = 0.1

    def calibration(self) -> list[tuple[torch.Tensor]]:
        """Batches of samples."""
        return [(chunk,) for chunk in self.calibrate().split(self.batch)]


def encoder() -> Program:
    """A BERT-like encoder for questions; `python recipes/families/prepare.py encoder` trains it in a minute."""
    model = factory.call("networks/transformers.py:encoder", {}, FAMILIES)
    path = ROOT / "build" / "families" / "encoder.safetensors"
    load_into(model, read_weights(path), path)
    return capture(model, [questions("test")[0][:2]], input_names=["tokens"], output_names=["logits"])


def questions(split: str) -> Samples:
    """Tokens and labels of TREC."""
    found = factory.call("data.py:questions", {"split": split}, FAMILIES)
    return found.inputs[0], found.targets


def cifar_case(
    program: Callable[[], Program], data: Callable[[str, int], Samples], *, transformer: bool = False
) -> Case:
    return Case(program, lambda: data("train", SAMPLES)[0], lambda: data("test", 1000), transformer=transformer)


CASES: dict[str, Case] = {
    "resnet20": cifar_case(lambda: resnet(20), cifar),
    "resnet56": cifar_case(lambda: resnet(56), cifar),
    "mobilenet": Case(lambda: keywords()[0], lambda: keywords()[1], lambda: keywords()[2:4], batch=1, goal=0.3),
    "vit": cifar_case(vit, vit_cifar, transformer=True),
    "encoder": Case(encoder, lambda: questions("train")[0][:SAMPLES], lambda: questions("test"), transformer=True),
}
"""`mobilenet`: depthwise separable convolutions, the keyword spotter of MLPerf Tiny, on real spectra."""
