/* The short rescale for Armv7-M, as ep_dsp_base.h has it for DSP cores, under the same conditions: |x| < 2^30 and a
 * right shift of at least 1 (2 for single rounding). SMULL's low word gives the rounding bit of the high one. */
#ifndef EP_THUMB2_BASE_H
#define EP_THUMB2_BASE_H

#include "ep_base.h"

/* X: sum (doubled for double rounding), M: multiplier, S: shift, Z: zero point, T: a register to spoil */
#ifdef EP_SINGLE_ROUNDING
#define EP_DOUBLE(X) ""
#define EP_SHORT_RESCALE(X, M, S, Z, T) \
    "smull " T ", " X ", " X ", " M "\n\tasrs " X ", " X ", " S "\n\tadc " X ", " X ", " Z "\n\tssat " X ", #8, " X "\n\t"
#else
#define EP_DOUBLE(X) "lsl " X ", " X ", #1\n\t"
#define EP_SHORT_RESCALE(X, M, S, Z, T) \
    "smull " T ", " X ", " X ", " M "\n\tlsls " T ", " T ", #1\n\tadc " X ", " X ", #0\n\t" \
    "add " X ", " X ", " X ", asr #31\n\tasrs " X ", " X ", " S "\n\tadc " X ", " X ", " Z "\n\tssat " X ", #8, " X "\n\t"
#endif

EP_INLINE void ep_thumb2_clamp(int8_t *values, int32_t size, int32_t low, int32_t high) {
    if (low <= -128 && high >= 127) return;
    for (int32_t i = 0; i < size; i++) values[i] = ep_clamp(values[i], low, high);
}

#endif
