"""Augmentations change what they should, repeat by seed, and leave the batch they are given alone."""

import pytest
import torch

from edgepress.errors import UserError
from edgepress.train.augment import AUGMENTATIONS, chain, crop, cutmix, erase, flip, mixup, shift


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


IMAGES = torch.arange(16 * 3 * 8 * 8, dtype=torch.float32).view(16, 3, 8, 8) + 1


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_repeats_by_seed_and_is_pure(name: str) -> None:
    before = IMAGES.clone()
    first, again, other = (AUGMENTATIONS[name](IMAGES, generator(s)) for s in (1, 1, 2))
    assert first.shape == IMAGES.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(IMAGES, before)


def test_flip_mirrors_about_half() -> None:
    flipped = flip(IMAGES, generator())
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(flipped, IMAGES, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(flipped, IMAGES, strict=True)]
    assert all(m or s for m, s in zip(mirrored, same, strict=True))
    assert 2 < sum(mirrored) < 14


@pytest.mark.parametrize(("augmentation", "padding"), [(crop, "constant"), (shift, "reflect")])
def test_images_are_shifted_by_at_most_an_eighth(augmentation, padding: str) -> None:
    shifted = augmentation(IMAGES, generator())
    offsets = set()
    for before, after in zip(IMAGES, shifted, strict=True):
        padded = torch.nn.functional.pad(before, (1, 1, 1, 1), mode=padding)
        where = [(y, x) for y in range(3) for x in range(3) if torch.equal(padded[:, y : y + 8, x : x + 8], after)]
        assert where
        offsets.add(where[0])
    assert len(offsets) > 3


def test_erase_zeroes_one_square_of_each_image() -> None:
    erased = erase(IMAGES, generator())
    holes = (erased == 0).sum((2, 3))
    assert bool((holes > 0).all())
    assert bool((holes <= 16).all())
    assert torch.equal(erased[erased != 0], IMAGES[erased != 0])


def test_mixup_mixes_inputs_and_targets_alike() -> None:
    inputs, targets = torch.eye(6), torch.eye(6)
    mixed, soft = mixup(inputs, targets, 1.0, generator())
    torch.testing.assert_close(mixed, soft)
    torch.testing.assert_close(soft.sum(1), torch.ones(6))
    assert not torch.equal(mixed, inputs)


def test_cutmix_mixes_targets_by_area() -> None:
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 1, 8, 8)
    mixed, soft = cutmix(images, torch.eye(6), 1.0, generator(3))
    kept = (mixed == images).float().mean((1, 2, 3))
    torch.testing.assert_close(soft.diagonal(), kept)
    torch.testing.assert_close(soft.sum(1), torch.ones(6))


def test_refusals() -> None:
    with pytest.raises(UserError, match="unknown augmentation"):
        chain(["rotate"], 4)
    with pytest.raises(UserError, match="needs images"):
        chain(["crop"], 3)
