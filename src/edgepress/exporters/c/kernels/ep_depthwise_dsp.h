/* Depthwise 3x3 convolution on DSP cores, stride 1 or 2, four channels or more.
 *
 * Four channels at a time are taken out of the interleaved image into int16 planes with their padding, a strip of rows at
 * a time. Then two columns of two rows of outputs are made per round: every plane word is read once for both rows, and
 * one channel's nine weights lie in six registers (w0 w1 | w1 w2 per row) for SMLAD on aligned pairs, SMLATB and SMLABT
 * for what straddles them. Works in place.
 *
 * ep_conv.weight is one stream, 18 bytes per channel: w0 w3 w1 w4 w6 w2 w7 w5 | bias | multiplier | w8 | nudge.
 *
 * Weights are used as 256 times their value: the sums end on a line (ep_conv_dsp.h), and the bias has eight bits more to
 * place it; the nudge moves it by outputs, two at a time. EP_PLANE_BITS: what SSAT shifts out.
 * EP_PLAIN_PLANES: some layer of the model has no such line; sums are rounded step by step, with a shift for the nudge and
 * 2 multiplier - 2^32, which SMMLAR takes (single rounding: multiplier).
 *
 * EP_PLANE_PITCH (bytes per plane row, a multiple of 4) is set by the model: it becomes an immediate of the loads. */
#ifndef EP_DEPTHWISE_DSP_H
#define EP_DEPTHWISE_DSP_H

#include "ep_dsp_base.h"

typedef struct {
    ep_conv conv;
    ep_size strip; /* output rows per strip */
} ep_depthwise;

/* What the assembly loads at a stretch: steps to the next output and row, bytes of plane for whole pairs of columns and for
 * all, zero point, rows of outputs. */
typedef struct {
    int32_t step, row_step, pairs, all, zero, rows;
} ep_rows;

#ifdef EP_PLAIN_PLANES
#define EP_EVEN_WEIGHTS(D, S) "sxtb16 " D ", " S "\n\t"
#define EP_ODD_WEIGHTS(D, S) "sxtb16 " D ", " S ", ror #8\n\t"
#define EP_LAST_WEIGHT "16"
#define EP_PLANE_ZERO(p) ((p)->out_zero)
#else
#define EP_EVEN_WEIGHTS(D, S) "lsl " D ", " S ", #8\n\tand " D ", " D ", #0xff00ff00\n\t"
#define EP_ODD_WEIGHTS(D, S) "and " D ", " S ", #0xff00ff00\n\t"
#define EP_LAST_WEIGHT "24"
#define EP_PLANE_ZERO(p) EP_AND_A_HALF((p)->out_zero, EP_PLANE_BITS)
#endif

/* stack ep_depthwise_rows1 120, stack ep_depthwise_rows2 120: 0 multiplier, 4 shift or zero with nudge, 8 zero, 12 step,
 * 16 row step, 20 end, 24 weights, 48 bias, 52 plane row, 56 out row, 60 rows left, 64 as ep_rows up to `all`,
 * 80 end with the odd column */
#define EP_ROWS_BEGIN \
    "push {r4-r11, lr}\n\t" \
    "sub sp, sp, #84\n\t" \
    "ldr r4, [r0]\n\t" \
    "ldr r5, [r0, #4]\n\t" \
    "ldr r6, [r0, #8]\n\t" \
    "ldr r7, [r0, #12]\n\t" \
    "ldrsb r8, [r0, #16]\n\t" \
    "ldrsb r9, [r0, #17]\n\t" \
    "str r6, [sp, #48]\n\t" \
    "strd r7, r9, [sp]\n\t" \
    EP_ODD_WEIGHTS("r9", "r5") /* w2 w5 */ \
    EP_ODD_WEIGHTS("r10", "r4") /* w3 w4 */ \
    EP_EVEN_WEIGHTS("r4", "r4") /* w0 w1 */ \
    EP_EVEN_WEIGHTS("r12", "r5") /* w6 w7 */ \
    "lsr r5, r4, #16\n\t" \
    "orr r5, r5, r9, lsl #16\n\t" /* w1 w2 */ \
    "pkhtb r11, r9, r10, asr #16\n\t" /* w4 w5 */ \
    "lsr lr, r12, #16\n\t" \
    "orr lr, lr, r8, lsl #" EP_LAST_WEIGHT "\n\t" /* w7 w8 */ \
    "add r6, sp, #24\n\t" \
    "stm r6, {r4, r5, r10, r11, r12, lr}\n\t" \
    "ldm r3, {r4-r9}\n\t" \
    EP_PLANE_CONSTANTS \
    "add r10, sp, #64\n\t" \
    "stm r10, {r4-r7}\n\t" \
    "mov r0, r1\n\t" \
    "mov r1, r2\n" \
    "4:\n\t" /* two rows of outputs */ \
    "strd r0, r1, [sp, #52]\n\t" \
    "str r9, [sp, #60]\n\t" \
    "add r2, sp, #64\n\t" \
    "ldm r2, {r4-r7}\n\t" \
    "cmp r9, #1\n\t" /* a second row that is none is written over by the first */ \
    "it eq\n\t" \
    "moveq r5, #0\n\t" \
    "add r6, r6, r0\n\t" \
    "add r7, r7, r0\n\t" \
    "add r2, sp, #12\n\t" \
    "stm r2, {r4-r6}\n\t" \
    "str r7, [sp, #80]\n\t" \
    "cmp r0, r6\n\t" \
    EP_LINE_WEIGHTS \
    "beq.w 2f\n" \
    "1:\n\t" /* two columns */ \
    EP_PLAIN_WEIGHTS

#define EP_ALL_WEIGHTS "add r8, sp, #24\n\tldm r8, {r2-r7}\n\t"

#ifdef EP_PLAIN_PLANES
#define EP_PLANE_CONSTANTS "str r8, [sp, #8]\n\t"
#define EP_LINE_WEIGHTS
#define EP_PLAIN_WEIGHTS EP_ALL_WEIGHTS
#ifdef EP_SINGLE_ROUNDING
#define EP_SCALE_PLANE(X) "smmul " X ", " X ", r2\n\t"
#else
#define EP_SCALE_PLANE(X) "smmlar " X ", " X ", r2, " X "\n\tadd " X ", " X ", " X ", asr #31\n\t"
#endif
#define EP_PLANE_OUT(X) EP_SCALE_PLANE(X) "asrs " X ", " X ", r3\n\tadc " X ", " X ", r4\n\tssat " X ", #8, " X "\n\t"
#define EP_FOUR_OUT \
    "ldm sp, {r2-r4}\n\t" \
    EP_PLANE_OUT("r10") EP_PLANE_OUT("r11") EP_PLANE_OUT("r12") EP_PLANE_OUT("lr") \
    "ldr r8, [sp, #12]\n\t" \
    "ldr r9, [sp, #16]\n\t"
#else
#define EP_PLANE_CONSTANTS \
    "ldr r10, [sp, #4]\n\tadd r8, r8, r10, lsl #" EP_TEXT(EP_PLANE_BITS) "+1\n\tstr r8, [sp, #4]\n\t"
#define EP_LINE_WEIGHTS EP_ALL_WEIGHTS
#define EP_PLAIN_WEIGHTS
#define EP_PLANE_OUT(X) "ssat " X ", #8, " X ", asr #" EP_TEXT(EP_PLANE_BITS) "\n\t"
#define EP_FOUR_OUT \
    "ldr r8, [sp]\n\t" \
    "ldr r9, [sp, #4]\n\t" \
    "smmla r10, r10, r8, r9\n\t" \
    "smmla r11, r11, r8, r9\n\t" \
    "smmla r12, r12, r8, r9\n\t" \
    "smmla lr, lr, r8, r9\n\t" \
    "ldr r8, [sp, #12]\n\t" \
    "ldr r9, [sp, #16]\n\t" \
    EP_PLANE_OUT("r10") EP_PLANE_OUT("r11") EP_PLANE_OUT("r12") EP_PLANE_OUT("lr")
#endif

/* The end is loaded right behind a store: one cycle instead of two. */
#define EP_ROWS_END(NEXT) \
    EP_FOUR_OUT \
    "add r9, r9, r1\n\t" \
    "strb lr, [r9, r8]\n\t" \
    "strb r12, [r9]\n\t" \
    "strb r11, [r1, r8]\n\t" \
    "strb r10, [r1]\n\t" \
    "ldr r9, [sp, #20]\n\t" \
    "add r1, r1, r8, lsl #1\n\t" \
    "cmp r0, r9\n\t" \
    "bne.w 1b\n" \
    "2:\n\t" \
    "ldr r8, [sp, #80]\n\t" \
    "cmp r0, r8\n\t" \
    "beq 3f\n\t" \
    "str r8, [sp, #20]\n\t" /* the odd column: as with rows */ \
    "mov r8, #0\n\t" \
    "str r8, [sp, #12]\n\t" \
    "b.w 1b\n" \
    "3:\n\t" \
    "ldr r0, [sp, #52]\n\t" \
    "ldr r1, [sp, #56]\n\t" \
    "ldr r9, [sp, #60]\n\t" \
    "ldr r2, [sp, #68]\n\t" \
    "addw r0, r0, #" NEXT "\n\t" \
    "add r1, r1, r2, lsl #1\n\t" \
    "subs r9, r9, #2\n\t" \
    "bgt.w 4b\n\t" \
    "add sp, sp, #84\n\t" \
    "pop {r4-r11, pc}"

#define EP_AT(ROWS) EP_TEXT(EP_PLANE_PITCH) "*" ROWS

/* stride 1: outputs x, x+1 from the words r8 = (x, x+1), r9 = (x+2, x+3) of a row; FROM: where the sums start */
#define EP_LEFT1(W01, W12, S0) "smlad " S0 ", r8, " W01 ", " S0 "\n\tsmlabt " S0 ", r9, " W12 ", " S0 "\n\t"
#define EP_PAIR1(W01, W12, S0, S1, FROM) \
    "smlatb " S1 ", r8, " W01 ", " FROM "\n\tsmlad " S1 ", r9, " W12 ", " S1 "\n\t" EP_LEFT1(W01, W12, S0)

static __attribute__((naked, noinline, unused)) void ep_depthwise_rows1(
    const int8_t *channel EP_NAKED, const int16_t *plane EP_NAKED, int8_t *out EP_NAKED, const ep_rows *rows EP_NAKED) {
    __asm__ volatile(
        EP_ROWS_BEGIN
        "ldr r12, [sp, #48]\n\t"
        "ldr r8, [r0, #" EP_AT("3") "]\n\t"
        "ldr r9, [r0, #" EP_AT("3") "+4]\n\t"
        EP_PAIR1("r6", "r7", "r12", "lr", "r12")
        "ldr r10, [sp, #48]\n\t"
        "ldr r8, [r0, #" EP_AT("2") "]\n\t"
        "ldr r9, [r0, #" EP_AT("2") "+4]\n\t"
        EP_PAIR1("r4", "r5", "r12", "lr", "lr") EP_PAIR1("r6", "r7", "r10", "r11", "r10")
        "ldrd r8, r9, [r0, #" EP_AT("1") "]\n\t"
        EP_PAIR1("r2", "r3", "r12", "lr", "lr") EP_PAIR1("r4", "r5", "r10", "r11", "r11")
        "ldrd r8, r9, [r0], #4\n\t"
        EP_PAIR1("r2", "r3", "r10", "r11", "r11")
        EP_ROWS_END(EP_AT("2")));
}

/* stride 2: from the words r8 = (x, x+1), r9 = (x+2, x+3), then r9 and the next */
#define EP_PAIR2(W01, W12, S0, S1, FROM) \
    "smlad " S1 ", r9, " W01 ", " FROM "\n\tsmlad " S0 ", r8, " W01 ", " S0 "\n\tsmlabt " S0 ", r9, " W12 ", " S0 "\n\t"
#define EP_LAST2(W12, S1) "smlabt " S1 ", r8, " W12 ", " S1 "\n\t"

static __attribute__((naked, noinline, unused)) void ep_depthwise_rows2(
    const int8_t *channel EP_NAKED, const int16_t *plane EP_NAKED, int8_t *out EP_NAKED, const ep_rows *rows EP_NAKED) {
    __asm__ volatile(
        EP_ROWS_BEGIN
        "ldr r12, [sp, #48]\n\t"
        "ldr r8, [r0, #" EP_AT("4") "]\n\t"
        "ldr r9, [r0, #" EP_AT("4") "+4]\n\t"
        EP_PAIR2("r6", "r7", "r12", "lr", "r12")
        "ldr r10, [sp, #48]\n\t"
        "ldr r8, [r0, #" EP_AT("4") "+8]\n\t"
        EP_LAST2("r7", "lr")
        "ldr r8, [r0, #" EP_AT("3") "]\n\t"
        "ldr r9, [r0, #" EP_AT("3") "+4]\n\t"
        EP_PAIR2("r4", "r5", "r12", "lr", "lr")
        "ldr r8, [r0, #" EP_AT("3") "+8]\n\t"
        EP_LAST2("r5", "lr")
        "ldr r8, [r0, #" EP_AT("2") "]\n\t"
        "ldr r9, [r0, #" EP_AT("2") "+4]\n\t"
        EP_PAIR2("r2", "r3", "r12", "lr", "lr") EP_PAIR2("r6", "r7", "r10", "r11", "r10")
        "ldr r8, [r0, #" EP_AT("2") "+8]\n\t"
        EP_LAST2("r3", "lr") EP_LAST2("r7", "r11")
        "ldrd r8, r9, [r0, #" EP_AT("1") "]\n\t"
        EP_PAIR2("r4", "r5", "r10", "r11", "r11")
        "ldr r8, [r0, #" EP_AT("1") "+8]\n\t"
        EP_LAST2("r5", "r11")
        "ldrd r8, r9, [r0]\n\t"
        EP_PAIR2("r2", "r3", "r10", "r11", "r11")
        "ldr r8, [r0, #8]!\n\t"
        EP_LAST2("r3", "r11")
        EP_ROWS_END(EP_AT("4")));
}

/* How a row of the image goes into planes: bytes from plane to plane, from pixel to pixel, a word of zero points, pairs of
 * pixels (behind the first where a column of padding comes before it), 1 if there is such a column + 2 if a last pixel is
 * left, bytes to the next plane row. */
typedef struct {
    int32_t size, step;
    uint32_t zero;
    int32_t pairs, ends, gap;
} ep_planes;

/* Four channels of two pixels, r5 and r6, into four planes */
#define EP_SPLIT \
    "pkhbt r7, r5, r6, lsl #16\n\t" \
    "pkhtb r8, r6, r5, asr #16\n\t" \
    "sxtb16 r5, r7\n\t" \
    "sxtb16 r6, r7, ror #8\n\t" \
    "sxtb16 r7, r8\n\t" \
    "sxtb16 r8, r8, ror #8\n\t" \
    "str r6, [r1, r2]\n\t" \
    "str r7, [r1, r2, lsl #1]\n\t" \
    "str r8, [r1, r3]\n\t" \
    "str r5, [r1], #4\n\t"
#define EP_SPLIT_PAIR "ldr r5, [r0]\n\tldr r6, [r0, r4]\n\tadd r0, r0, r4, lsl #1\n\t" EP_SPLIT

/* Whole rows of four channels. stack ep_depthwise_split 48 */
static __attribute__((naked, noinline, unused)) void ep_depthwise_split(
    const int8_t *from EP_NAKED, uint32_t *planes EP_NAKED, const ep_planes *to EP_NAKED, int32_t rows EP_NAKED) {
    __asm__ volatile(
        "push {r1-r11, lr}\n\t"
        "mov lr, r3\n\t"
        "ldm r2, {r2, r4, r9, r10, r11, r12}\n\t"
        "add r3, r2, r2, lsl #1\n\t"
        "str r12, [sp]\n"
        "1:\n\t"
        "tst r11, #1\n\t"
        "beq 2f\n\t"
        "mov r5, r9\n\t"
        "ldr r6, [r0]\n\t"
        "add r0, r0, r4\n\t" EP_SPLIT
        "2:\n\t"
        "lsrs r12, r10, #1\n\t"
        "bcc 3f\n\t" EP_SPLIT_PAIR
        "3:\n\t"
        "beq 5f\n"
        "4:\n\t" EP_SPLIT_PAIR EP_SPLIT_PAIR
        "subs r12, r12, #1\n\t"
        "bne 4b\n"
        "5:\n\t"
        "tst r11, #2\n\t"
        "beq 6f\n\t"
        "ldr r5, [r0]\n\t"
        "mov r6, r9\n\t"
        "add r0, r0, r4\n\t" EP_SPLIT
        "6:\n\t"
        "ldr r5, [sp]\n\t"
        "add r1, r1, r5\n\t"
        "subs lr, lr, #1\n\t"
        "bne 1b\n\t"
        "pop {r1-r11, pc}");
}

EP_INLINE ep_planes ep_depthwise_planes(const ep_conv *p, int32_t size) {
    const int32_t behind = p->in_w - p->pad_left, words = p->pad_left + (behind + 1) / 2;
    const ep_planes planes = {4 * size, p->in_c, (uint32_t)(p->in_zero & 0xff) * 0x01010101u, behind >> 1,
                              p->pad_left | (behind & 1) << 1, EP_PLANE_PITCH - 4 * words};
    return planes;
}

static __attribute__((noinline, unused)) void ep_fill_words(uint32_t *to, uint32_t value, int32_t words) {
    for (; words >= 4; words -= 4, to += 4) to[0] = to[1] = to[2] = to[3] = value;
    for (; words > 0; words--) *to++ = value;
}

/* `rows` rows of zero points */
EP_INLINE uint32_t *ep_depthwise_border(const ep_conv *p, uint32_t *plane, int32_t size, int32_t rows) {
    const int32_t words = rows * (EP_PLANE_PITCH / 4);
    for (int32_t k = 0; k < 4; k++) ep_fill_words(plane + k * size, (uint32_t)(p->in_zero & 0xffff) * 0x10001u, words);
    return plane + words;
}

/* `rows` rows of four channels into planes, from input row y on; rows outside the image are zero points. */
EP_INLINE void ep_depthwise_strip(const ep_conv *p, const int8_t *in, int32_t y, uint32_t *plane, const ep_planes *to, int32_t rows, int32_t border) {
    const int32_t above = y < 0 ? -y : 0, end = y + rows > p->in_h ? p->in_h : y + rows, inside = end - y - above;
    if (above && border) ep_depthwise_border(p, plane, to->size >> 2, above);
    plane += above * (EP_PLANE_PITCH / 4);
    if (inside > 0) ep_depthwise_split(in + (y + above) * p->in_w * p->in_c, plane, to, inside);
    if (rows > above + inside && border) ep_depthwise_border(p, plane + inside * (EP_PLANE_PITCH / 4), to->size >> 2, rows - above - inside);
}

static __attribute__((noinline, unused)) void ep_copy_words(uint32_t *to, const uint32_t *from, int32_t words) {
    __asm__ volatile("b 2f\n"
                     "1:\n\t"
                     "ldm %[from]!, {r3, r4, r5, r6}\n\t"
                     "stm %[to]!, {r3, r4, r5, r6}\n"
                     "2:\n\t"
                     "subs %[words], %[words], #4\n\t"
                     "bge 1b"
                     : [to] "+r"(to), [from] "+r"(from), [words] "+r"(words)
                     :
                     : "r3", "r4", "r5", "r6", "cc", "memory");
    for (words &= 3; words > 0; words--) *to++ = *from++;
}

/* Rows that a strip shares with the one before */
EP_INLINE void ep_depthwise_keep(uint32_t *plane, int32_t size, int32_t moved, int32_t words) {
    for (int32_t k = 0; k < 4; k++, plane += size) ep_copy_words(plane, plane + moved, words);
}

/* Four channels from `base` on, of which the first `skip` are done. */
EP_INLINE void ep_depthwise_four(const ep_depthwise *d, const int8_t *in, int8_t *out, uint32_t *plane, ep_rows *rows, const ep_planes *to, int32_t base, int32_t skip) {
    const ep_conv *p = &d->conv;
    const int32_t keep = 3 - p->stride_h, pitch = EP_PLANE_PITCH / 4, size = to->size >> 2;
    int32_t y = -p->pad_top, kept = 0;
    for (int32_t first = 0; first < p->out_h; first += d->strip) {
        rows->rows = p->out_h - first < d->strip ? p->out_h - first : d->strip;
        if (kept) ep_depthwise_keep(plane, size, d->strip * p->stride_h * pitch, keep * pitch);
        const int32_t fresh = rows->rows * p->stride_h + keep - kept;
        ep_depthwise_strip(p, in + base, y, plane + kept * pitch, to, fresh, d->strip < p->out_h);
        int8_t *at = out + first * rows->row_step + base;
        for (int32_t k = skip; k < 4; k++) {
            const int8_t *channel = p->weight + 18 * (base + k);
            const int16_t *from = (const int16_t *)(const void *)(plane + k * size);
            if (p->stride_w == 1) ep_depthwise_rows1(channel, from, at + k, rows);
            else ep_depthwise_rows2(channel, from, at + k, rows);
        }
        y += fresh;
        kept = keep;
    }
}

EP_KERNEL void ep_depthwise_dsp(const ep_depthwise *d, const int8_t *in, int8_t *out, uint32_t *scratch) {
    const ep_conv *p = &d->conv;
    const int32_t plane_rows = d->strip * p->stride_h + 3 - p->stride_h, column = 2 * p->stride_w;
    const ep_planes planes = ep_depthwise_planes(p, plane_rows * (EP_PLANE_PITCH / 4));
    ep_rows rows = {p->out_c, p->out_w * p->out_c, (p->out_w & ~1) * column, ((p->out_w + 1) & ~1) * column, EP_PLANE_ZERO(p), 0};
    ep_depthwise_border(p, scratch, planes.size >> 2, plane_rows); /* the columns behind stay as they are */
    for (int32_t c = 0; c < p->in_c; c += 4) {
        const int32_t base = c + 4 > p->in_c ? p->in_c - 4 : c; /* the last four may overlap those before */
        ep_depthwise_four(d, in, out, scratch, &rows, &planes, base, c - base);
    }
    ep_dsp_clamp(out, p->out_h * p->out_w * p->out_c, p->low, p->high);
}

#endif
