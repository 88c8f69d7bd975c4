"""Make the networks that the recipes of this folder compress: writes build/families/NAME.safetensors.

    python recipes/families/prepare.py [NAME ...]     all of them without a name

Most are trained here, from the network and the data that the recipe itself names; two are public checkpoints read from
EDGEPRESS_DATA. Seeded: the same torch gives the same bytes. Data that is not at hand skips the network, and says so.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from edgepress.errors import UserError
from edgepress.importers import factory
from edgepress.importers.weights import read_weights
from edgepress.ir import Program
from edgepress.pipeline.model import import_model
from edgepress.pipeline.samples import Samples, open_samples
from edgepress.recipe import Recipe, load
from edgepress.train import TrainOptions, evaluate, fit
from edgepress.train.tasks import get

HERE = Path(__file__).parent
BUILD = HERE.parent.parent / "build" / "families"


def options(epochs: int, lr: float = 0.003, batch_size: int = 64) -> TrainOptions:
    """What the families have in common."""
    return TrainOptions(epochs=epochs, lr=lr, batch_size=batch_size, optimizer="adamw", weight_decay=0.01, clip=1.0,
                        keep="last")  # fmt: skip


TRAINING = {
    "autoencoder": options(40),
    "blood_cells": options(50, 0.004, 16),
    "capsules": options(12),
    "cnn": options(4),
    "decoder": options(8, 0.005, 32),
    "densenet": options(12),
    "detector": options(30, 0.005, 32),
    "encoder": options(6, 0.002),
    "gcn": options(20, 0.01, 32),
    "gru": options(15, 0.005),
    "lstm": options(30, 0.005),
    "mlp": options(6, 0.002),
    "mobilenet": options(12),
    "policy": options(20),
    "tcn": options(15, 0.002, 32),
    "unet": options(12, 0.005, 16),
}
CHECKPOINTS = {"resnet": "cifar_resnet/resnet20-12fca82f.th", "vit": "torch_ckpt/vit_cifar10.pth"}


def prepare(recipe: Recipe, name: str, out: Path) -> str:
    """Make one network, write its weights to `out`; returns a line about it.

    Raises:
        UserError: the data is not at hand.
    """
    torch.manual_seed(0)
    if name in CHECKPOINTS:
        return _convert(name, out)
    program = import_model(recipe.model.model_copy(update={"weights": None}))
    if name == "gan":
        return _adversarial(recipe, program, out)
    samples = open_samples(recipe.data, program, seed=0, calibration=1)
    trained = _train(recipe, program, samples, TRAINING[name])
    save_weights(trained, out)
    return f"{_metric(recipe, trained, samples)}, {trained.parameter_count():,} parameters"


def save_weights(program: Program, out: Path) -> None:
    """As safetensors."""
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in program.state().items()}, out)


def _train(recipe: Recipe, program: Program, samples: Samples, settings: TrainOptions) -> Program:
    task = get(recipe.task)
    return fit(program, samples.training(), objective=task.objective(), options=settings, task=task).program


def _metric(recipe: Recipe, program: Program, samples: Samples) -> str:
    task = get(recipe.task)
    assert samples.evaluate is not None
    return f"{task.metric} {evaluate(program, samples.evaluate, task):.4f}"


def _convert(name: str, out: Path) -> str:
    """A public checkpoint as safetensors; no code in it is run."""
    folder = factory.call("data.py:folder", {}, HERE)
    weights = read_weights(folder / CHECKPOINTS[name])
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, out)
    return f"a public checkpoint, {sum(t.numel() for t in weights.values()):,} numbers"


def _adversarial(recipe: Recipe, program: Program, out: Path, epochs: int = 40) -> str:
    """Train a generator against a discriminator (Goodfellow et al. 2014, with the non-saturating loss of section 3)."""
    from edgepress.data import open_source

    images = open_source("digits", {"split": "train"}, HERE).inputs[0]
    paint: Callable[..., torch.nn.Module] = factory.find("networks/dense.py:generator", HERE)
    judge: Callable[..., torch.nn.Module] = factory.find("networks/dense.py:discriminator", HERE)
    generator, discriminator = paint(), judge()
    for _ in range(epochs):
        for real in images[torch.randperm(len(images))].split(64):
            _duel(generator, discriminator, real)
    generator.eval()
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: t.detach().clone() for name, t in generator.state_dict().items()}, out)
    for seed, split in enumerate(("train", "test"), start=1):
        real = open_source("digits", {"split": split}, HERE).inputs[0]
        latent = torch.randn(len(real), 16, generator=torch.Generator().manual_seed(seed))
        np.savez(out.with_name(f"gan_{split}.npz"), latent=latent.numpy(), image=real.numpy())
    painted = generator(latent).detach()
    return f"painted pixels vary by {float(painted.std(0).mean()):.3f} over latents"


def _duel(generator: torch.nn.Module, discriminator: torch.nn.Module, real: torch.Tensor) -> None:
    """One step of either player; their optimizers live with them."""
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    ours, theirs = _optimizer(generator), _optimizer(discriminator)
    painted = generator(torch.randn(len(real), 16))
    truth, lie = torch.ones(len(real), 1), torch.zeros(len(real), 1)
    theirs.zero_grad()
    (loss(discriminator(real), truth) + loss(discriminator(painted.detach()), lie)).backward()
    theirs.step()
    ours.zero_grad()
    loss(discriminator(painted), truth).backward()
    ours.step()


def _optimizer(network: torch.nn.Module) -> torch.optim.Optimizer:
    if not hasattr(network, "optimizer"):
        network.optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.5, 0.999))
    return network.optimizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="families; all of them without a name")
    parser.add_argument("--again", action="store_true", help="also those that are there already")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.names or sorted([*TRAINING, *CHECKPOINTS, "gan"]):
        out = BUILD / f"{name}.safetensors"
        if out.exists() and not asked.again:
            continue
        try:
            print(f"{name}: {prepare(load(HERE / f'{name}.yaml'), name, out)}", flush=True)
        except UserError as error:
            print(f"{name}: skipped, {error}", flush=True)


if __name__ == "__main__":
    main()
