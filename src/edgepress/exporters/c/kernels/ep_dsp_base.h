/* Armv7E-M / Armv8-M DSP instructions, and the short rescale they allow.
 *
 * ep_dsp_rescale holds under what the exporter has checked: |x| < 2^30 and a right shift of at least 1 (2 for single
 * rounding). Then round(x m / 2^31) is SMMULR(2x, m), and ASRS leaves in the carry the bit that rounding needs:
 *   double: t += t < 0; y = (t >> s) + carry + zero        single: y = (x m >> 32 >> (s - 1)) + carry + zero */
#ifndef EP_DSP_BASE_H
#define EP_DSP_BASE_H

#include "ep_base.h"

#define EP_TEXT(X) EP_TEXT_(X)
#define EP_TEXT_(X) #X

/* A zero point and a half, with `bits` behind the point */
#define EP_AND_A_HALF(zero, bits) ((2 * (int32_t)(zero) + 1) * (1 << ((bits) - 1)))

EP_INLINE uint32_t ep_load32(const void *from) { /* no alignment needed on these cores */
    uint32_t value;
    __builtin_memcpy(&value, from, 4);
    return value;
}

EP_INLINE uint32_t ep_sxtb16(uint32_t x) { /* bytes 0 and 2 as two int16 */
    uint32_t y;
    __asm__("sxtb16 %0, %1" : "=r"(y) : "r"(x));
    return y;
}

EP_INLINE uint32_t ep_sxtb16_odd(uint32_t x) { /* bytes 1 and 3 */
    uint32_t y;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(y) : "r"(x));
    return y;
}

EP_INLINE int32_t ep_smlad(uint32_t a, uint32_t b, int32_t sum) {
    __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(a), "r"(b));
    return sum;
}

/* A narrower range than int8's, after SSAT has been there. */
EP_INLINE void ep_dsp_clamp(int8_t *values, int32_t size, int32_t low, int32_t high) {
    if (low <= -128 && high >= 127) return;
    for (int32_t i = 0; i < size; i++) values[i] = ep_clamp(values[i], low, high);
}

#ifdef EP_SINGLE_ROUNDING
#define EP_DSP_SHIFT(shift) ((shift) - 1)
/* the same in assembly: register X by multiplier M, shift r3, zero point r1 */
#define EP_SCALE(X, M) "smmul " X ", " X ", " M "\n\tasrs " X ", " X ", r3\n\tadc " X ", " X ", r1\n\tssat " X ", #8, " X "\n\t"
EP_INLINE int32_t ep_dsp_rescale(int32_t x, int32_t multiplier, int32_t shift, int32_t zero) {
    __asm__("smmul %0, %0, %1\n\tasrs %0, %0, %2\n\tadc %0, %0, %3\n\tssat %0, #8, %0"
            : "+r"(x) : "r"(multiplier), "r"(shift), "r"(zero) : "cc");
    return x;
}
#define EP_DSP_DOUBLED(x) (x)
#else
#define EP_DSP_SHIFT(shift) (shift)
#define EP_SCALE(X, M) \
    "smmulr " X ", " X ", " M "\n\tadd " X ", " X ", " X ", asr #31\n\t" \
    "asrs " X ", " X ", r3\n\tadc " X ", " X ", r1\n\tssat " X ", #8, " X "\n\t"
/* takes 2x */
EP_INLINE int32_t ep_dsp_rescale(int32_t x, int32_t multiplier, int32_t shift, int32_t zero) {
    __asm__("smmulr %0, %0, %1\n\tadd %0, %0, %0, asr #31\n\tasrs %0, %0, %2\n\tadc %0, %0, %3\n\tssat %0, #8, %0"
            : "+r"(x) : "r"(multiplier), "r"(shift), "r"(zero) : "cc");
    return x;
}
#define EP_DSP_DOUBLED(x) ((int32_t)((uint32_t)(x) << 1))
#endif

#endif
