"""The small networks these tests share."""

from tests.small_networks import images, mixed, residual, x86

__all__ = ["images", "mixed", "residual", "x86"]
