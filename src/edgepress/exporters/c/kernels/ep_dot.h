/* Dot products of int8 weights with int8 or int16 values: SMLAD where the compiler says it is there, plain C elsewhere.
 * No sum leaves int32 (the exporter checks), so that the order of additions does not matter. */
#ifndef EP_DOT_H
#define EP_DOT_H

#include "ep_base.h"

#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
#include "ep_dsp_base.h"

EP_INLINE int32_t ep_dot8(const int8_t *w, const int8_t *x, int32_t size, int32_t sum) {
    for (; size >= 4; size -= 4, w += 4, x += 4) {
        const uint32_t a = ep_load32(w), b = ep_load32(x);
        sum = ep_smlad(ep_sxtb16(a), ep_sxtb16(b), sum);
        sum = ep_smlad(ep_sxtb16_odd(a), ep_sxtb16_odd(b), sum);
    }
    for (; size > 0; size--) sum += *w++ * *x++;
    return sum;
}

EP_INLINE int32_t ep_dot16(const int8_t *w, const int16_t *x, int32_t size, int32_t sum) {
    for (; size >= 4; size -= 4, w += 4, x += 4) {
        const uint32_t a = ep_load32(w), low = ep_load32(x), high = ep_load32(x + 2);
        uint32_t even, odd; /* inputs 0 and 2, 1 and 3 */
        __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(even) : "r"(low), "r"(high));
        __asm__("pkhtb %0, %2, %1, asr #16" : "=r"(odd) : "r"(low), "r"(high));
        sum = ep_smlad(ep_sxtb16(a), even, sum);
        sum = ep_smlad(ep_sxtb16_odd(a), odd, sum);
    }
    for (; size > 0; size--) sum += *w++ * *x++;
    return sum;
}
#else
EP_INLINE int32_t ep_dot8(const int8_t *w, const int8_t *x, int32_t size, int32_t sum) {
    for (int32_t i = 0; i < size; i++) sum += w[i] * x[i];
    return sum;
}

EP_INLINE int32_t ep_dot16(const int8_t *w, const int16_t *x, int32_t size, int32_t sum) {
    for (int32_t i = 0; i < size; i++) sum += w[i] * x[i];
    return sum;
}
#endif

#endif
