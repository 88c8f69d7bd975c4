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
#include "ep_tile.h"

typedef struct {
    ep_conv conv;
    int32_t strip; /* output rows per strip */
} ep_depthwise;

/* What the row loops load at a stretch (offsets are in the assembly).
 * stack ep_depthwise_rows1 44, stack ep_depthwise_rows2 44 */
typedef struct {
    const int16_t *plane; /*  0: next row */
    int32_t *sums;        /*  4: one row of sums */
    const int32_t *end;   /*  8: of the sums, an even number */
    uint32_t w[6];        /* 12: w0 w1 | w1 w2 of each row */
    int32_t bias;         /* 36 */
    int32_t *from;        /* 40: sums, bit 0 set if the row is odd */
    int32_t multiplier, shift, zero; /* 44 */
    int8_t *out;          /* 56: next output */
    int32_t step;         /* 60: to the next pixel */
    int32_t rows;         /* 64 */
    int32_t plane_step;   /* 68: bytes to the next row */
} ep_rows;

#define EP_BEGIN \
    "push {r4-r11, lr}\n\t" \
    "push {r0, r1}\n" /* for 8-byte alignment */ \
    "4:\n\t" \
    "ldm r0, {r1-r10}\n" \
    "1:\n\t"

/* the rescale: r2 sums, r3 end, r4 multiplier, r5 shift, r6 zero, r7 out, r8 step */
#ifdef EP_SINGLE_ROUNDING
#define EP_SCALE_ROW(X) "smmul " X ", " X ", r4\n\tasrs " X ", " X ", r5\n\tadc " X ", " X ", r6\n\tssat " X ", #8, " X "\n\t"
#else
#define EP_SCALE_ROW(X) \
    "smmulr " X ", " X ", r4\n\tadd " X ", " X ", " X ", asr #31\n\t" \
    "asrs " X ", " X ", r5\n\tadc " X ", " X ", r6\n\tssat " X ", #8, " X "\n\t"
#endif

#define EP_END \
    "strd r0, lr, [r2], #8\n\t" \
    "cmp r2, r3\n\t" \
    "bne 1b\n\t" \
    "ldr r0, [sp]\n\t" \
    "add r1, r0, #40\n\t" \
    "ldm r1, {r2, r4-r8}\n\t" \
    "tst r2, #1\n\t" \
    "beq 2f\n\t" \
    "bic r2, r2, #1\n\t" /* an odd row: one first; its last sum is not used */ \
    "subs r3, r3, #4\n\t" \
    "ldr r9, [r2], #4\n\t" EP_SCALE_ROW("r9") \
    "strb r9, [r7]\n\t" \
    "add r7, r7, r8\n\t" \
    "cmp r2, r3\n\t" \
    "beq 3f\n" \
    "2:\n\t" \
    "ldrd r9, r10, [r2], #8\n\t" EP_SCALE_ROW("r9") EP_SCALE_ROW("r10") \
    "strb r9, [r7]\n\t" \
    "strb r10, [r7, r8]\n\t" \
    "add r7, r7, r8, lsl #1\n\t" \
    "cmp r2, r3\n\t" \
    "bne 2b\n" \
    "3:\n\t" \
    "ldrd r4, r5, [r0, #64]\n\t" \
    "ldr r6, [r0]\n\t" \
    "str r7, [r0, #56]\n\t" \
    "add r6, r6, r5\n\t" \
    "str r6, [r0]\n\t" \
    "subs r4, r4, #1\n\t" \
    "str r4, [r0, #64]\n\t" \
    "bne 4b\n\t" \
    "pop {r0, r1}\n\t" \
    "pop {r4-r11, pc}"

#define EP_TEXT(X) EP_TEXT_(X)
#define EP_TEXT_(X) #X
#define EP_AT1 EP_TEXT(EP_PLANE_PITCH)
#define EP_AT2 EP_TEXT(EP_PLANE_PITCH_2)

/* stride 1: outputs x, x+1 from the words r11 = (x, x+1), r12 = (x+2, x+3) of each row */
#define EP_ROW1(AT, W01, W12, S0, S1) \
    "ldrd r11, r12, " AT "\n\t" \
    "smlad r0, r11, " W01 ", " S0 "\n\t" \
    "smlatb lr, r11, " W01 ", " S1 "\n\t" \
    "smlabt r0, r12, " W12 ", r0\n\t" \
    "smlad lr, r12, " W12 ", lr\n\t"

static __attribute__((naked, noinline, unused)) void ep_depthwise_rows1(ep_rows *rows EP_NAKED) {
    __asm__ volatile(EP_BEGIN EP_ROW1("[r1, #" EP_AT2 "]", "r8", "r9", "r10", "r10")
                     EP_ROW1("[r1, #" EP_AT1 "]", "r6", "r7", "r0", "lr")
                     EP_ROW1("[r1], #4", "r4", "r5", "r0", "lr") EP_END);
}

/* stride 2: outputs from the words r11 = (x, x+1), r12 = (x+2, x+3), then r12 and the next word */
#define EP_ROW2(AT, NEXT, W01, W12, S0, S1) \
    "ldrd r11, r12, " AT "\n\t" \
    "smlad r0, r11, " W01 ", " S0 "\n\t" \
    "ldr r11, " NEXT "\n\t" \
    "smlabt r0, r12, " W12 ", r0\n\t" \
    "smlad lr, r12, " W01 ", " S1 "\n\t" \
    "smlabt lr, r11, " W12 ", lr\n\t"

static __attribute__((naked, noinline, unused)) void ep_depthwise_rows2(ep_rows *rows EP_NAKED) {
    __asm__ volatile(EP_BEGIN EP_ROW2("[r1, #" EP_AT2 "]", "[r1, #" EP_AT2 " + 8]", "r8", "r9", "r10", "r10")
                     EP_ROW2("[r1, #" EP_AT1 "]", "[r1, #" EP_AT1 " + 8]", "r6", "r7", "r0", "lr")
                     EP_ROW2("[r1]", "[r1, #8]!", "r4", "r5", "r0", "lr") EP_END);
}

EP_INLINE uint32_t ep_pair(int32_t low, int32_t high) { return (uint32_t)(low & 0xffff) | (uint32_t)high << 16; }

/* The constants of one channel; weights and bias doubled for double rounding. */
EP_INLINE void ep_depthwise_taps(const ep_conv *p, int32_t channel, ep_rows *r) {
    const int8_t *w = p->weight + 9 * channel;
#ifdef EP_SINGLE_ROUNDING
    const int32_t scale = 1;
#else
    const int32_t scale = 2;
#endif
    for (int32_t row = 0; row < 3; row++, w += 3) {
        r->w[2 * row] = ep_pair(scale * w[0], scale * w[1]);
        r->w[2 * row + 1] = ep_pair(scale * w[1], scale * w[2]);
    }
    r->bias = scale * p->bias[channel];
    r->multiplier = p->multiplier[channel];
    r->shift = EP_DSP_SHIFT(p->shift[channel]);
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

EP_INLINE void ep_depthwise_channel(const ep_conv *p, int32_t channel, const uint32_t *plane, ep_rows *r, int32_t rows, int8_t *out) {
    ep_depthwise_taps(p, channel, r);
    r->plane = (const int16_t *)(const void *)plane;
    r->out = out + channel;
    r->rows = rows;
    if (p->stride_w == 1) ep_depthwise_rows1(r);
    else ep_depthwise_rows2(r);
}

/* Rows `done` to `rows` of a strip into the planes, from input row y on; rows outside the image are zero points. */
EP_INLINE void ep_depthwise_strip(const ep_conv *p, const int8_t *in, int32_t y, uint32_t *a, uint32_t *b, int32_t rows) {
    const int32_t words = EP_PLANE_PITCH / 4;
    const uint32_t zero = ep_pair(p->in_zero, p->in_zero);
    for (; rows > 0; rows--, y++, a += words, b += words) {
        if (y < 0 || y >= p->in_h) {
            ep_fill_words(a, zero, words);
            ep_fill_words(b, zero, words);
        } else {
            int16_t *ra = (int16_t *)(void *)a, *rb = (int16_t *)(void *)b;
            ep_depthwise_gather(p, in + y * p->in_w * p->in_c, ra + p->pad_left, rb + p->pad_left);
        }
    }
}

EP_KERNEL void ep_depthwise_dsp(const ep_depthwise *d, const int8_t *in, int8_t *out, uint32_t *scratch) {
    const ep_conv *p = &d->conv;
    const int32_t keep = 3 - p->stride_h, words = EP_PLANE_PITCH / 4;
    const int32_t moved = d->strip * p->stride_h * words, size = moved + keep * words;
    uint32_t *a = scratch, *b = a + size;
    ep_rows rows;
    rows.sums = (int32_t *)(void *)(b + size);
    rows.end = rows.sums + ((p->out_w + 1) & ~1);
    rows.from = (int32_t *)(void *)((uint8_t *)rows.sums + (p->out_w & 1)); /* bit 0: odd */
    rows.zero = p->out_zero;
    rows.step = p->out_c;
    rows.plane_step = p->stride_h * EP_PLANE_PITCH;
    ep_fill_words(a, ep_pair(p->in_zero, p->in_zero), 2 * size); /* the side columns stay as they are */
    for (int32_t c = 0; c < p->in_c; c += 2) {
        int32_t y = -p->pad_top, kept = 0;
        for (int32_t first = 0; first < p->out_h; first += d->strip) {
            const int32_t count = p->out_h - first < d->strip ? p->out_h - first : d->strip;
            for (int32_t i = 0; i < kept * words; i++) { /* rows shared with the strip before */
                a[i] = a[moved + i];
                b[i] = b[moved + i];
            }
            const int32_t fresh = count * p->stride_h + keep - kept;
            ep_depthwise_strip(p, in + c, y, a + kept * words, b + kept * words, fresh);
            int8_t *to = out + first * p->out_w * p->out_c;
            ep_depthwise_channel(p, c, a, &rows, count, to);
            ep_depthwise_channel(p, c + 1, b, &rows, count, to);
            y += fresh;
            kept = keep;
        }
    }
    ep_dsp_clamp(out, p->out_h * p->out_w * p->out_c, p->low, p->high);
}

#endif
