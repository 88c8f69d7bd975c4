/* One row times a matrix on DSP cores, four output channels at a time. Weights per four inputs: words ab(0,2) ab(1,3)
 * cd(0,2) cd(1,3), each as in ep_conv_dsp.h (256 b + a). Inputs a multiple of 4, channels padded to one. */
#ifndef EP_DENSE_DSP_H
#define EP_DENSE_DSP_H

#include "ep_dense_ref.h"
#include "ep_dsp_base.h"

EP_INLINE void ep_dense_dsp_put(const ep_dense *p, int32_t c, int32_t total, int8_t *out) {
    if (c >= p->out_c) return;
    const int32_t shift = EP_DSP_SHIFT(p->shift[c]);
    const int32_t y = ep_dsp_rescale(EP_DSP_DOUBLED(total + p->bias[c]), p->multiplier[c], shift, p->out_zero);
    out[c] = ep_clamp(y, p->low, p->high);
}

#define EP_DENSE_FOUR /* four inputs of four channels: sixteen products */ \
    "ldr %[x1], [%[px]], #4\n\t" \
    "ldm %[pw]!, {r3, r4, r5, r6}\n\t" \
    "sxtb16 %[x0], %[x1]\n\t" \
    "sxtb16 %[x1], %[x1], ror #8\n\t" \
    "sxtb16 %[a], r3\n\t" \
    "smlad %[s0], %[a], %[x0], %[s0]\n\t" \
    "smlad %[t0], r3, %[x0], %[t0]\n\t" \
    "sxtb16 %[a], r4\n\t" \
    "smlad %[s0], %[a], %[x1], %[s0]\n\t" \
    "smlad %[t0], r4, %[x1], %[t0]\n\t" \
    "sxtb16 %[a], r5\n\t" \
    "smlad %[s1], %[a], %[x0], %[s1]\n\t" \
    "smlad %[t1], r5, %[x0], %[t1]\n\t" \
    "sxtb16 %[a], r6\n\t" \
    "smlad %[s1], %[a], %[x1], %[s1]\n\t" \
    "smlad %[t1], r6, %[x1], %[t1]\n\t"

EP_KERNEL void ep_dense_dsp(const ep_dense *p, const int8_t *in, int8_t *out) {
    const int8_t *weight = p->weight, *end = in + p->in_c;
    for (int32_t c = 0; c < p->out_c; c += 4) {
        int32_t s0 = 0, t0 = 0, s1 = 0, t1 = 0;
        const int8_t *px = in;
        uint32_t x0, x1, a = (uint32_t)p->in_c & 4u; /* start in the middle of a round? */
        __asm__ volatile("cmp %[a], #0\n\t"
                         "bne 2f\n"
                         "1:\n\t" EP_DENSE_FOUR
                         "2:\n\t" EP_DENSE_FOUR
                         "cmp %[px], %[end]\n\t"
                         "bne 1b"
                         : [s0] "+r"(s0), [t0] "+r"(t0), [s1] "+r"(s1), [t1] "+r"(t1), [px] "+r"(px), [pw] "+r"(weight),
                           [x0] "=&r"(x0), [x1] "=&r"(x1), [a] "+r"(a)
                         : [end] "r"(end)
                         : "r3", "r4", "r5", "r6", "cc", "memory");
        ep_dense_dsp_put(p, c, s0, out);
        ep_dense_dsp_put(p, c + 1, (int32_t)((uint32_t)t0 - (uint32_t)s0) >> 8, out);
        ep_dense_dsp_put(p, c + 2, s1, out);
        ep_dense_dsp_put(p, c + 3, (int32_t)((uint32_t)t1 - (uint32_t)s1) >> 8, out);
    }
}

#endif
