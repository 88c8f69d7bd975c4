/* Depthwise 3x3 convolution on DSP cores, stride 1 or 2, an even number of channels.
 *
 * Two channels at a time are taken out of the interleaved image into int16 planes with their padding, a strip of rows
 * at a time. Then one channel's nine weights stay in six registers (w0 w1 | w1 w2 per row) while two outputs are made
 * per round: SMLAD on aligned pairs, SMLATB and SMLABT for what straddles them. Weights and bias are doubled, which
 * saves the doubling in the rescale. Weight layout [channels][9]. Works in place.
 *
 * EP_PLANE_PITCH (bytes per plane row, a multiple of 4) is set by the model: it becomes an immediate of LDRD. */
#ifndef EP_DEPTHWISE_DSP_H
#define EP_DEPTHWISE_DSP_H

#include "ep_dsp_base.h"

typedef struct {
    ep_conv conv;
    int32_t strip; /* output rows per strip */
} ep_depthwise;

typedef struct {
    uint32_t w[6];
    int32_t bias;
} ep_taps;

#define EP_TAPS_OPERANDS \
    : [p] "+r"(p), [o] "+r"(o), [a] "=&r"(a), [b] "=&r"(b), [s0] "=&r"(s0), [s1] "=&r"(s1) \
    : [w0] "r"(t->w[0]), [w1] "r"(t->w[1]), [w2] "r"(t->w[2]), [w3] "r"(t->w[3]), [w4] "r"(t->w[4]), \
      [w5] "r"(t->w[5]), [bias] "r"(t->bias), [end] "r"(end), [row1] "i"(EP_PLANE_PITCH), \
      [row2] "i"(2 * EP_PLANE_PITCH), [row1c] "i"(EP_PLANE_PITCH + 8), [row2c] "i"(2 * EP_PLANE_PITCH + 8) \
    : "cc", "memory"

/* stride 1: outputs x, x+1 from the words a = (x, x+1), b = (x+2, x+3) of each row */
#define EP_ROW1(AT, W01, W12, S0, S1) \
    "ldrd %[a], %[b], " AT "\n\t" \
    "smlad %[s0], %[a], %[" W01 "], " S0 "\n\t" \
    "smlatb %[s1], %[a], %[" W01 "], " S1 "\n\t" \
    "smlabt %[s0], %[b], %[" W12 "], %[s0]\n\t" \
    "smlad %[s1], %[b], %[" W12 "], %[s1]\n\t"

EP_KERNEL void ep_depthwise_row1(const ep_taps *t, const int16_t *p, int32_t *o, const int32_t *end) {
    uint32_t a, b;
    int32_t s0, s1;
    __asm__ volatile("1:\n\t" EP_ROW1("[%[p], %[row2]]", "w4", "w5", "%[bias]", "%[bias]")
                     EP_ROW1("[%[p], %[row1]]", "w2", "w3", "%[s0]", "%[s1]")
                     EP_ROW1("[%[p]], #4", "w0", "w1", "%[s0]", "%[s1]")
                     "strd %[s0], %[s1], [%[o]], #8\n\t"
                     "cmp %[o], %[end]\n\t"
                     "bne 1b" EP_TAPS_OPERANDS);
}

/* stride 2: outputs from the words a = (x, x+1), b = (x+2, x+3), then b and the next word */
#define EP_ROW2(AT, NEXT, W01, W12, S0, S1) \
    "ldrd %[a], %[b], " AT "\n\t" \
    "smlad %[s0], %[a], %[" W01 "], " S0 "\n\t" \
    "ldr %[a], " NEXT "\n\t" \
    "smlabt %[s0], %[b], %[" W12 "], %[s0]\n\t" \
    "smlad %[s1], %[b], %[" W01 "], " S1 "\n\t" \
    "smlabt %[s1], %[a], %[" W12 "], %[s1]\n\t"

EP_KERNEL void ep_depthwise_row2(const ep_taps *t, const int16_t *p, int32_t *o, const int32_t *end) {
    uint32_t a, b;
    int32_t s0, s1;
    __asm__ volatile("1:\n\t" EP_ROW2("[%[p], %[row2]]", "[%[p], %[row2c]]", "w4", "w5", "%[bias]", "%[bias]")
                     EP_ROW2("[%[p], %[row1]]", "[%[p], %[row1c]]", "w2", "w3", "%[s0]", "%[s1]")
                     EP_ROW2("[%[p]]", "[%[p], #8]!", "w0", "w1", "%[s0]", "%[s1]")
                     "strd %[s0], %[s1], [%[o]], #8\n\t"
                     "cmp %[o], %[end]\n\t"
                     "bne 1b" EP_TAPS_OPERANDS);
}

EP_INLINE uint32_t ep_pair(int32_t low, int32_t high) { return (uint32_t)(low & 0xffff) | (uint32_t)high << 16; }

EP_INLINE ep_taps ep_depthwise_taps(const ep_conv *p, int32_t channel) {
    const int8_t *w = p->weight + 9 * channel;
#ifdef EP_SINGLE_ROUNDING
    const int32_t scale = 1;
#else
    const int32_t scale = 2;
#endif
    ep_taps t;
    for (int32_t row = 0; row < 3; row++, w += 3) {
        t.w[2 * row] = ep_pair(scale * w[0], scale * w[1]);
        t.w[2 * row + 1] = ep_pair(scale * w[1], scale * w[2]);
    }
    t.bias = scale * p->bias[channel];
    return t;
}

EP_INLINE void ep_fill_words(uint32_t *to, uint32_t value, int32_t words) {
    for (; words > 0; words--) *to++ = value;
}

EP_INLINE uint32_t ep_load16(const int8_t *from) {
    uint16_t value;
    __builtin_memcpy(&value, from, 2);
    return value;
}

/* One row of two channels into the planes, from the column after the left padding. */
EP_INLINE void ep_depthwise_gather(const ep_conv *p, const int8_t *from, int16_t *a, int16_t *b) {
    int32_t left = p->in_w;
    if (p->pad_left & 1) { /* up to a word boundary */
        *a++ = from[0];
        *b++ = from[1];
        from += p->in_c;
        left--;
    }
    uint32_t *wa = (uint32_t *)(void *)a, *wb = (uint32_t *)(void *)b;
    const int32_t step = p->in_c;
    for (; left > 1; left -= 2) {
        const uint32_t both = ep_load16(from) | ep_load16(from + step) << 16;
        *wa++ = ep_sxtb16(both);
        *wb++ = ep_sxtb16_odd(both);
        from += 2 * step;
    }
    if (left) { /* the rest of the word is padding */
        *(int16_t *)(void *)wa = from[0];
        *(int16_t *)(void *)wb = from[1];
    }
}

EP_INLINE void ep_depthwise_put(const ep_conv *p, int32_t channel, const int32_t *sums, int8_t *out, int narrow) {
    const int32_t multiplier = p->multiplier[channel], shift = EP_DSP_SHIFT(p->shift[channel]), zero = p->out_zero;
    const int32_t step = p->out_c, low = p->low, high = p->high;
    const int32_t *end = sums + p->out_w;
    if (p->out_w & 1) {
        const int32_t y = ep_dsp_rescale(*sums++, multiplier, shift, zero);
        *out = narrow ? ep_clamp(y, low, high) : (int8_t)y;
        out += step;
    }
    for (; sums != end; sums += 2, out += 2 * step) {
        const int32_t y0 = ep_dsp_rescale(sums[0], multiplier, shift, zero);
        const int32_t y1 = ep_dsp_rescale(sums[1], multiplier, shift, zero);
        out[0] = narrow ? ep_clamp(y0, low, high) : (int8_t)y0;
        out[step] = narrow ? ep_clamp(y1, low, high) : (int8_t)y1;
    }
}

EP_INLINE void ep_depthwise_channel(const ep_conv *p, int32_t channel, const int16_t *plane, int32_t rows, int8_t *out, int32_t *sums) {
    const ep_taps taps = ep_depthwise_taps(p, channel);
    const int32_t *end = sums + ((p->out_w + 1) & ~1);
    const int narrow = p->low > -128 || p->high < 127;
    for (; rows > 0; rows--, plane += p->stride_h * (EP_PLANE_PITCH / 2), out += p->out_w * p->out_c) {
        if (p->stride_w == 1) ep_depthwise_row1(&taps, plane, sums, end);
        else ep_depthwise_row2(&taps, plane, sums, end);
        if (narrow) ep_depthwise_put(p, channel, sums, out + channel, 1);
        else ep_depthwise_put(p, channel, sums, out + channel, 0);
    }
}

EP_KERNEL void ep_depthwise_dsp(const ep_depthwise *d, const int8_t *in, int8_t *out, uint32_t *scratch) {
    const ep_conv *p = &d->conv;
    const int32_t keep = 3 - p->stride_h, words = EP_PLANE_PITCH / 4, strip_rows = d->strip * p->stride_h + keep;
    const uint32_t zero = ep_pair(p->in_zero, p->in_zero);
    uint32_t *a = scratch, *b = a + strip_rows * words;
    int32_t *sums = (int32_t *)(void *)(b + strip_rows * words);
    ep_fill_words(a, zero, 2 * strip_rows * words); /* the side columns stay as they are */
    for (int32_t c = 0; c < p->in_c; c += 2) {
        int32_t y = -p->pad_top; /* next input row to gather */
        for (int32_t first = 0; first < p->out_h; first += d->strip) {
            const int32_t rows = p->out_h - first < d->strip ? p->out_h - first : d->strip;
            int32_t r = 0;
            if (first) { /* rows shared with the strip before */
                for (int32_t i = 0; i < keep * words; i++) {
                    a[i] = a[d->strip * p->stride_h * words + i];
                    b[i] = b[d->strip * p->stride_h * words + i];
                }
                r = keep;
            }
            for (; r < rows * p->stride_h + keep; r++, y++) {
                int16_t *ra = (int16_t *)(void *)(a + r * words), *rb = (int16_t *)(void *)(b + r * words);
                if (y < 0 || y >= p->in_h) {
                    ep_fill_words(a + r * words, zero, words);
                    ep_fill_words(b + r * words, zero, words);
                } else {
                    ep_depthwise_gather(p, in + y * p->in_w * p->in_c + c, ra + p->pad_left, rb + p->pad_left);
                }
            }
            int8_t *to = out + first * p->out_w * p->out_c;
            ep_depthwise_channel(p, c, (const int16_t *)(const void *)a, rows, to, sums);
            ep_depthwise_channel(p, c + 1, (const int16_t *)(const void *)b, rows, to, sums);
        }
    }
}

#endif
