"""edgepress: prune, distill, quantize and export trained networks, then prove what they cost and still know.

This package imports no heavy library at import time, so that command-line help and the gate stay fast.
"""

__version__ = "0.1.0"
