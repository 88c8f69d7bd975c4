"""What two models did on the very same samples, also when they were measured months apart.

Right and wrong of every sample, a bit each, travel with the measurement of an accuracy. A committed baseline carries
them too (ten thousand samples that are mostly right take about a kilobyte), so that an accuracy is compared sample by
sample with what was accepted, not with its mean alone.
"""

import base64
import binascii
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from edgepress.measure.record import Measurement


class Discordance(NamedTuple):
    """How often exactly one of two models was right, of `n` samples both saw."""

    only_first: int
    only_second: int
    n: int


def pack(right: Sequence[bool]) -> str:
    """Right or wrong of each sample, in order, as text: one bit each, deflated, base64."""
    bits = int("".join("1" if one else "0" for one in reversed(right)) or "0", 2)
    return base64.b64encode(zlib.compress(bits.to_bytes((len(right) + 7) // 8, "little"), 9)).decode()


def discordance(first: Measurement, second: Measurement) -> Discordance | None:
    """The discordant samples of two accuracies; `None` unless both kept their answers to the same samples."""
    if not same_samples(first, second) or not (first.right and second.right) or first.n != second.n:
        return None
    one, two = _unpack(first), _unpack(second)
    if one is None or two is None:
        return None
    return Discordance((one & ~two).bit_count(), (two & ~one).bit_count(), first.n)


def answers(measurement: Measurement) -> list[bool] | None:
    """Right or wrong of each sample, in order; `None` where the measurement did not keep them."""
    bits = _unpack(measurement) if measurement.right else None
    return None if bits is None else [bool(bits >> row & 1) for row in range(measurement.n)]


def same_samples(first: Measurement, second: Measurement) -> bool:
    """Whether both were measured on the same samples in the same order."""
    return bool(first.data) and first.data == second.data


def _unpack(measurement: Measurement) -> int | None:
    """The bits as one number; `None` if they do not fit the measurement's own count (an edited file)."""
    size = (measurement.n + 7) // 8
    try:
        stream = zlib.decompressobj()
        raw = stream.decompress(base64.b64decode(measurement.right, validate=True), size + 1)
    except (binascii.Error, zlib.error):
        return None
    bits = int.from_bytes(raw, "little")
    return bits if len(raw) == size and bits.bit_count() == round((measurement.value or 0) * measurement.n) else None
