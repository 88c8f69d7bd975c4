/* Convolution on DSP cores: tiles of two output channels x four pixels.
 *
 * Four pixels' windows are widened to int16 in scratch, laid out so that one pair of inputs of all four pixels lies
 * in 16 bytes (`columns`). A weight word holds two inputs of channels a and b: as int16 halves it reads 256 b + a, and
 * SXTB16 gives a alone. So SMLAD with the raw word sums t = 256 b.x + a.x, SMLAD with the widened one s = a.x, and
 * b.x = (t - s) / 256 exactly, modulo 2^32: the second widening is saved. The exporter checks that |b.x| < 2^23 and
 * that 256 b + a fits int16.
 *
 * Within four inputs the order is 0 2 1 3 (what SXTB16 gives). Channels are padded to an even number. */
#ifndef EP_CONV_DSP_H
#define EP_CONV_DSP_H

#include "ep_dsp_base.h"

#define EP_STEP \
    "ldr %[w], [%[pw]], #4\n\t" \
    "ldrd %[x0], %[x1], [%[px]], #8\n\t" \
    "sxtb16 %[a], %[w]\n\t" \
    "smlad %[s0], %[a], %[x0], %[s0]\n\t" \
    "smlad %[t0], %[w], %[x0], %[t0]\n\t" \
    "smlad %[s1], %[a], %[x1], %[s1]\n\t" \
    "smlad %[t1], %[w], %[x1], %[t1]\n\t" \
    "ldrd %[x0], %[x1], [%[px]], #8\n\t" \
    "smlad %[s2], %[a], %[x0], %[s2]\n\t" \
    "smlad %[t2], %[w], %[x0], %[t2]\n\t" \
    "smlad %[s3], %[a], %[x1], %[s3]\n\t" \
    "smlad %[t3], %[w], %[x1], %[t3]\n\t"

EP_INLINE void ep_dsp_store(const ep_conv *p, int8_t *out, int32_t a, int32_t b) {
    if (p->low > -128 || p->high < 127) {
        a = ep_clamp(a, p->low, p->high);
        b = ep_clamp(b, p->low, p->high);
    }
    out[0] = (int8_t)a;
    out[1] = (int8_t)b;
}

/* All channels of four pixels: out[pixel * step + channel]. steps: pairs of inputs, even. */
EP_KERNEL void ep_dsp_channels(const ep_conv *p, const uint32_t *columns, int32_t steps, int8_t *out, int32_t step) {
    const int8_t *weight = p->weight;
    for (int32_t c = 0; c < p->out_c; c += 2) {
        const int8_t *end = weight + 4 * steps;
        const int32_t middle = steps & 2; /* an odd half round: start in the middle of the loop */
        const uint32_t *px = columns;
        int32_t s0 = p->bias[c], s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
        uint32_t w, a, x0, x1;
        __asm__ volatile("ldr %[w], %[middle]\n\t"
                         "cbnz %[w], 2f\n"
                         "1:\n\t" EP_STEP EP_STEP
                         "2:\n\t" EP_STEP EP_STEP
                         "ldr %[w], %[end]\n\t"
                         "cmp %[pw], %[w]\n\t"
                         "bne 1b"
                         : [s0] "+r"(s0), [s1] "+r"(s1), [s2] "+r"(s2), [s3] "+r"(s3), [t0] "+r"(t0), [t1] "+r"(t1),
                           [t2] "+r"(t2), [t3] "+r"(t3), [px] "+r"(px), [pw] "+r"(weight), [w] "=&l"(w), [a] "=&r"(a),
                           [x0] "=&r"(x0), [x1] "=&r"(x1)
                         : [end] "m"(end), [middle] "m"(middle)
                         : "cc", "memory");
        const int32_t ma = p->multiplier[c], mb = p->multiplier[c + 1], zero = p->out_zero;
        const int32_t ra = EP_DSP_SHIFT(p->shift[c]), rb = EP_DSP_SHIFT(p->shift[c + 1]);
#ifdef EP_SINGLE_ROUNDING
        const int32_t bias = p->bias[c + 1];
#define EP_B(t, s) (bias + ((int32_t)((uint32_t)(t) - (uint32_t)(s)) >> 8))
#else
        const int32_t bias = 2 * p->bias[c + 1];
#define EP_B(t, s) (bias + ((int32_t)((uint32_t)(t) - (uint32_t)(s)) >> 7))
#endif
        int8_t *o = out + c;
#define EP_PIXEL(s, t) \
    { \
        const int32_t b = ep_dsp_rescale(EP_B(t, s), mb, rb, zero); \
        ep_dsp_store(p, o, ep_dsp_rescale(EP_DSP_DOUBLED(s), ma, ra, zero), b); \
        o += step; \
    }
        EP_PIXEL(s0, t0)
        EP_PIXEL(s1, t1)
        EP_PIXEL(s2, t2)
        EP_PIXEL(s3, t3)
    }
}

/* `words` times four inputs into one pixel's place of the columns; returns the next place */
EP_INLINE uint32_t *ep_dsp_widen(uint32_t *to, const int8_t *from, int32_t words) {
    if (words & 1) {
        const uint32_t v = ep_load32(from);
        to[0] = ep_sxtb16(v);
        to[4] = ep_sxtb16_odd(v);
        to += 8;
        from += 4;
    }
    for (words >>= 1; words > 0; words--) {
        const uint32_t u = ep_load32(from), v = ep_load32(from + 4);
        to[0] = ep_sxtb16(u);
        to[4] = ep_sxtb16_odd(u);
        to[8] = ep_sxtb16(v);
        to[12] = ep_sxtb16_odd(v);
        to += 16;
        from += 8;
    }
    return to;
}

EP_INLINE uint32_t *ep_dsp_fill(uint32_t *to, uint32_t pair, int32_t words) {
    for (; words > 0; words--) {
        to[0] = pair;
        to[4] = pair;
        to += 8;
    }
    return to;
}

EP_INLINE uint32_t ep_dsp_zero_pair(const ep_conv *p) { return (uint32_t)(p->in_zero & 0xffff) * 0x10001u; }

/* Where a group of pixels goes: whole groups straight out; the last few by way of scratch (a tile always writes four
 * pixels and an even number of channels). */
EP_INLINE void ep_dsp_finish(const ep_conv *p, const uint32_t *columns, int32_t steps, int8_t *out, int32_t count, int8_t *spare) {
    const int32_t step = (p->out_c + 1) & ~1;
    if (count == 4 && step == p->out_c) {
        ep_dsp_channels(p, columns, steps, out, step);
        return;
    }
    ep_dsp_channels(p, columns, steps, spare, step);
    for (int32_t i = 0; i < count; i++)
        for (int32_t c = 0; c < p->out_c; c++) *out++ = spare[i * step + c];
}

#endif
