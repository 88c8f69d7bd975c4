"""Energy by arithmetic instead of by meter: only on request, labelled `modelled`, never gated as if measured."""

from __future__ import annotations

from typing import Literal

from edgepress.errors import UserError
from edgepress.measure.record import Measurement

# Picojoules at 45 nm and 0.9 V: M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014,
# figure 1.1.9. A multiply-accumulate is its multiplication plus an addition at the width of the accumulator.
MAC_PJ = {"float32": 3.7 + 0.9, "float16": 1.1 + 0.4, "int8": 0.2 + 0.1}
# 64-bit accesses there: 10 pJ from an 8 KiB SRAM, 1.3 to 2.6 nJ from DRAM (the lower one is taken); per byte an eighth.
BYTE_PJ = {"sram": 10 / 8, "dram": 1300 / 8}
SOURCE = "Horowitz, ISSCC 2014, 45 nm"


def modelled_energy(
    macs: int,
    moved_bytes: int,
    *,
    number_format: Literal["float32", "float16", "int8"],
    memory: Literal["sram", "dram"] = "dram",
    target: str = "",
) -> Measurement:
    """`energy_mj` of one inference from its multiply-accumulates and the bytes of weights and activations it moves.

    It ranks networks on an imagined 45 nm chip; it does not predict any device.
    """
    if macs < 0 or moved_bytes < 0:
        raise UserError("counts cannot be negative", found=f"{macs} MACs, {moved_bytes} bytes")
    picojoules = macs * MAC_PJ[number_format] + moved_bytes * BYTE_PJ[memory]
    return Measurement(
        name="energy_mj",
        value=picojoules * 1e-9,
        unit="mJ",
        method=f"{macs} {number_format} MACs and {moved_bytes} {memory} bytes at the energies of {SOURCE}",
        source="modelled",
        target=target,
    )


def carbon_mass(energy: Measurement, grams_per_kwh: float, source: str) -> Measurement:
    """`carbon_ug`: micrograms of CO2 per inference, from energy that was measured and a grid intensity with its source.

    Raises:
        UserError: the energy is modelled or published, or the intensity has no source.
    """
    if energy.source != "measured":
        raise UserError("CO2 is only given for measured energy", found=f"{energy.source} {energy.name}")
    if not source or grams_per_kwh < 0:
        raise UserError(
            "a grid intensity needs a source", found=f"{grams_per_kwh:g} g/kWh from {source or 'nowhere'}",
            expected="g/kWh of the grid in question, and where the figure comes from",
        )  # fmt: skip
    factor = grams_per_kwh / 3600  # 1 kWh = 3.6e9 mJ and 1 g = 1e6 ug: g/kWh to ug/mJ
    if energy.value is None:
        return Measurement(name="carbon_ug", value=None, unit="ug", n=0, target=energy.target, reason=energy.reason)
    return Measurement(
        name="carbon_ug",
        value=energy.value * factor,
        unit="ug",
        n=energy.n,
        low=None if energy.low is None else energy.low * factor,
        high=None if energy.high is None else energy.high * factor,
        method=f"{energy.method}; {grams_per_kwh:g} g/kWh ({source})",
        target=energy.target,
    )
