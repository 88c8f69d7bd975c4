/* Convolution on DSP cores: tiles of two output channels x four pixels.
 *
 * Four pixels' windows are widened to int16 in scratch, laid out so that one pair of inputs of all four pixels lies
 * in 16 bytes (`columns`). A weight word holds two inputs of channels a and b: as int16 halves it reads 256 b + a, and
 * SXTB16 gives a alone. So SMLAD with the raw word sums t = 256 b.x + a.x, SMLAD with the widened one s = a.x, and
 * b.x = (t - s) / 256 exactly, modulo 2^32: the second widening is saved. The exporter checks that |b.x| < 2^23 and
 * that 256 b + a fits int16.
 *
 * ep_conv.weight is one stream, per channel pair: bias a | weight words | multiplier a, shift a + 256 shift b, bias b,
 * multiplier b. Within four inputs the order is 0 2 1 3 (what SXTB16 gives). Channels are padded to an even number;
 * a bias is doubled where EP_SINGLE_ROUNDING is not set for b, and shifts are one less where it is (ep_dsp_base.h). */
#ifndef EP_CONV_DSP_H
#define EP_CONV_DSP_H

#include "ep_dsp_base.h"
#include "ep_tile.h"

/* Two inputs: r0 weights, r1 columns, r2 raw word, r3 widened, r4 r5 inputs, r6-r9 sums s, r10-r12 lr sums t.
 * Three single loads in a row take 4 cycles, a load and LDRD 5. */
#define EP_STEP \
    "ldr r2, [r0], #4\n\t" \
    "ldr r4, [r1], #4\n\t" \
    "ldr r5, [r1], #4\n\t" \
    "sxtb16 r3, r2\n\t" \
    "smlad r6, r3, r4, r6\n\t" \
    "smlad r10, r2, r4, r10\n\t" \
    "smlad r7, r3, r5, r7\n\t" \
    "smlad r11, r2, r5, r11\n\t" \
    "ldrd r4, r5, [r1], #8\n\t" \
    "smlad r8, r3, r4, r8\n\t" \
    "smlad r12, r2, r4, r12\n\t" \
    "smlad r9, r3, r5, r9\n\t" \
    "smlad lr, r2, r5, lr\n\t"

/* Channel a: r2 multiplier, r3 shift; channel b: r5 multiplier, r4 bias; r1 zero point. */
#ifdef EP_SINGLE_ROUNDING
#define EP_B_SHIFT 8
#define EP_A(X) EP_SCALE(X, "r2")
#define EP_B(X) "add " X ", r4, " X ", asr #8\n\t" EP_SCALE(X, "r5")
#else
#define EP_B_SHIFT 7
#define EP_A(X) "lsl " X ", " X ", #1\n\t" EP_SCALE(X, "r2")
#define EP_B(X) "add " X ", r4, " X ", asr #7\n\t" EP_SCALE(X, "r5")
#endif

/* All channels of four pixels: out[pixel * step + channel]. No prologue of the compiler's: it needs every register.
 * stack ep_dsp_channels 64: 0 columns, 4 out, 8 pairs left, 12 end of this pair's weights, 16 weight bytes, 20 step, 24 zero point. */
static __attribute__((naked, noinline, unused)) void ep_dsp_channels(
    const int8_t *stream EP_NAKED, const uint32_t *columns EP_NAKED, int8_t *out EP_NAKED, const ep_tile *tile EP_NAKED) {
    __asm__ volatile(
        "push {r4-r11, lr}\n\t"
        "sub sp, sp, #28\n\t"
        "ldm r3, {r4, r5, r6, r7}\n\t"
        "strd r1, r2, [sp]\n\t"
        "str r6, [sp, #8]\n\t"
        "strd r4, r5, [sp, #16]\n\t"
        "str r7, [sp, #24]\n"
        "3:\n\t" /* a channel pair */
        "ldr r6, [r0], #4\n\t"
        "ldr r2, [sp, #16]\n\t"
        "ldr r1, [sp]\n\t"
        "mov r7, r6\n\t"
        "add r3, r0, r2\n\t"
        "mov r8, r6\n\t"
        "str r3, [sp, #12]\n\t"
        "mov r9, r6\n\t"
        "mov r10, r6\n\t"
        "mov r11, r6\n\t"
        "mov r12, r6\n\t"
        "mov lr, r6\n\t"
        "lsls r2, r2, #28\n\t" /* an odd number of half rounds: start in the middle */
        "bmi 2f\n"
        "1:\n\t" EP_STEP EP_STEP
        "2:\n\t" EP_STEP EP_STEP
        "ldr r2, [sp, #12]\n\t"
        "cmp r0, r2\n\t"
        "bne 1b\n\t"
        "ldm r0!, {r2, r3, r4, r5}\n\t"
        "sub r10, r10, r6\n\t"
        "sub r11, r11, r7\n\t"
        "sub r12, r12, r8\n\t"
        "sub lr, lr, r9\n\t"
        "ldr r1, [sp, #24]\n\t"
        EP_A("r6") EP_A("r7") EP_A("r8") EP_A("r9")
        "lsr r3, r3, #8\n\t"
        EP_B("r10") EP_B("r11") EP_B("r12") EP_B("lr")
        EP_TILE_STORE("20"));
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

#ifdef EP_FOUR_BIT
#include "ep_conv_dsp4.h"
#define EP_IS_FOUR_BIT(p) ((p)->four_bit)
#else
#define EP_IS_FOUR_BIT(p) 0
#define ep_dsp_channels4 ep_dsp_channels
#endif

EP_INLINE ep_tile ep_dsp_tile(const ep_conv *p, int32_t words) {
    const int32_t pairs = (p->out_c + 1) >> 1;
    const ep_tile tile = {(EP_IS_FOUR_BIT(p) ? 4 : 8) * words, 2 * pairs, pairs, p->out_zero};
    return tile;
}

/* All channels of one pixel that is left over: a tile would compute four. */
static __attribute__((noinline, unused)) void ep_dsp_pixel(const ep_conv *p, const ep_tile *tile, const uint32_t *columns, int8_t *out) {
    const int8_t *w = p->weight;
    for (int32_t c = 0; c < p->out_c; c += 2, w += 16) {
        int32_t s = (int32_t)ep_load32(w), t = s;
        const uint32_t *x = columns;
        w += 4;
        for (const int8_t *end = w + tile->weight_bytes; w != end; w += 8, x += 8) {
            const uint32_t u = ep_load32(w), v = ep_load32(w + 4);
            s = ep_smlad(ep_sxtb16(u), x[0], s);
            t = ep_smlad(u, x[0], t);
            s = ep_smlad(ep_sxtb16(v), x[4], s);
            t = ep_smlad(v, x[4], t);
        }
        int32_t after[4]; /* multiplier a, shifts, bias b, multiplier b */
        __builtin_memcpy(after, w, 16);
        out[c] = (int8_t)ep_dsp_rescale(EP_DSP_DOUBLED(s), after[0], after[1] & 255, p->out_zero);
        const int32_t b = after[2] + ((int32_t)((uint32_t)t - (uint32_t)s) >> EP_B_SHIFT);
        if (c + 1 < p->out_c) out[c + 1] = (int8_t)ep_dsp_rescale(b, after[3], after[1] >> 8, p->out_zero);
    }
}

/* One group of pixels: whole groups go straight out; the last few by way of scratch. */
EP_INLINE void ep_dsp_finish(const ep_conv *p, const ep_tile *tile, const uint32_t *columns, int8_t *out, int32_t count, int8_t *spare) {
    const int32_t direct = count == 4 && tile->step == p->out_c;
    int8_t *to = direct ? out : spare;
    if (count == 1 && !EP_IS_FOUR_BIT(p)) {
        ep_dsp_pixel(p, tile, columns, out);
        ep_dsp_clamp(out, p->out_c, p->low, p->high);
        return;
    }
    if (EP_IS_FOUR_BIT(p)) ep_dsp_channels4(p->weight, columns, to, tile);
    else ep_dsp_channels(p->weight, columns, to, tile);
    if (!direct) ep_tile_copy(p, spare, tile->step, count, out);
    ep_dsp_clamp(out, count * p->out_c, p->low, p->high);
}

#endif
