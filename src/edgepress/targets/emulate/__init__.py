"""Microcontrollers without a board: compile a C artifact, run it in an emulator, count every instruction.

`deploy` is the way in. Engines: qemu-system with a plugin of ours (all cores), or `pip install 'edgepress[edge]'` alone
(clang from ziglang, unicorn in a child process; all but the Cortex-M55). No energy is reported: there is no meter.
"""

from edgepress.targets.emulate.cores import CORES, Core, core_named
from edgepress.targets.emulate.run import Deployment, deploy, why_not

__all__ = ["CORES", "Core", "Deployment", "core_named", "deploy", "why_not"]
