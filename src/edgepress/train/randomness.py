"""Every random number is a function of seed, purpose and step: nothing has to be remembered to resume exactly."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def seed_of(seed: int, purpose: str, index: int) -> int:
    """A 63-bit seed for one purpose at one step or epoch."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_of(seed: int, purpose: str, index: int) -> torch.Generator:
    """A generator on the CPU, seeded by `seed_of`."""
    return torch.Generator().manual_seed(seed_of(seed, purpose, index))


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """The order in which an epoch visits `n` samples; int64."""
    return torch.randperm(n, generator=generator_of(seed, "order", epoch))


@contextmanager
def reproducible() -> Iterator[None]:
    """Deterministic kernels within; the caller's random state and settings come back afterwards."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic  # torch gives it no types
    filling = memory.fill_uninitialized_memory
    with torch.random.fork_rng():
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Writing NaN into every fresh tensor finds reads of uninitialised memory; it costs 6 % of a bf16 step.
        memory.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            memory.fill_uninitialized_memory = filling
