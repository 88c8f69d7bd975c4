/* Convolution on DSP cores: tiles of four output channels x two pixels.
 *
 * Two pixels' windows are widened to int16 in scratch, a pair of inputs of each in turn (`columns`). A weight word holds
 * two inputs of channels a and b: as int16 halves it reads 256 b + a, and SXTB16 gives a alone. So SMLAD with the raw
 * word sums t = 256 b.x + a.x, SMLAD with the widened one s = a.x, and 256 b.x = t - s exactly, modulo 2^32: the second
 * widening is saved. The exporter checks that |b.x| < 2^23 and that 256 b + a fits int16.
 *
 * ep_conv.weight is one stream. Per channel quad a b c d: where s and t start | weight words ab cd of two inputs, inputs
 * in the order 0 2 1 3 of four (what SXTB16 gives) | multipliers and shifts. The last quad ends with the last channel:
 * where channels are no multiple of four, the first two quads overlap (and fewer than four are filled up with zeros).
 *
 * Two ways to end a tile, chosen per layer by the exporter:
 *   line   t starts with 256 bias b, so that t - s is 256 times the sum of b, |sum| < 2^23. One SMMLA multiplies and adds
 *          what rounds, one SSAT shifts and saturates: EP_LINE_BITS for a and c, 8 more for b and d. The exporter has held
 *          these lines against every step of the exact rescale (exporters/c/lines.py); their offsets are in the starting
 *          sums, and in a halfword per pair of channels.
 *   plain  rounds step by step, bias b added in full (EP_PLAIN_SUMS, where a layer needs it). A first multiplier is
 *          2 m - 2^32, so that SMMLAR(x, it, x) is round(x m / 2^31), rounding twice. */
#ifndef EP_CONV_DSP_H
#define EP_CONV_DSP_H

#include "ep_quads.h"

#ifndef EP_LINE_BITS
#define EP_LINE_BITS 1
#endif
#define EP_LINE(X, M) "smmla " X ", " X ", " M ", r5\n\t"
#define EP_SHIFT_IN(X, MORE) "ssat " X ", #8, " X ", asr #" EP_TEXT(EP_LINE_BITS) MORE "\n\t"

#define EP_STEPS 16 /* of a round */
#define EP_STEP_BYTES 56

/* Two inputs: r0 weights, r1 columns, r2 r3 raw words, r4 r5 inputs, sums r6 r7 a, r8 r9 ab, r10 r11 c, r12 lr cd; sums
 * of the second pixel go on from the registers A, AB, C, CD.
 * Four single loads in a row take 5 cycles, two LDRD 6. */
#define EP_STEP_FROM(A, AB, C, CD) \
    "ldr r2, [r0], #4\n\t" \
    "ldr r3, [r0], #4\n\t" \
    "ldr r4, [r1], #4\n\t" \
    "ldr r5, [r1], #4\n\t" \
    "smlad r9, r2, r5, " AB "\n\t" \
    "smlad r8, r2, r4, r8\n\t" \
    "smlad lr, r3, r5, " CD "\n\t" \
    "smlad r12, r3, r4, r12\n\t" \
    "sxtb16 r2, r2\n\t" \
    "sxtb16 r3, r3\n\t" \
    "smlad r7, r2, r5, " A "\n\t" \
    "smlad r6, r2, r4, r6\n\t" \
    "smlad r11, r3, r5, " C "\n\t" \
    "smlad r10, r3, r4, r10\n\t"
#define EP_STEP EP_STEP_FROM("r7", "r9", "r11", "lr")

/* Channel quads of two pixels: out[pixel * step + channel]; returns the rest of the stream. No prologue of the
 * compiler's: it needs every register. */
static __attribute__((naked, noinline, unused)) const int8_t *ep_dsp_quads(
    const int8_t *stream EP_NAKED, const uint32_t *columns EP_NAKED, int8_t *out EP_NAKED, const ep_quads *tile EP_NAKED) {
    __asm__ volatile(
        EP_QUADS_BEGIN(EP_STEP_FROM("r6", "r8", "r10", "r12"))
        EP_4_TIMES(EP_4_TIMES(EP_STEP))
        EP_QUADS_ROUND
        EP_IF_PLAIN("ldr r3, [sp, #20]\n\t")
        "sub r8, r8, r6\n\t"
        "sub r9, r9, r7\n\t"
        "sub r12, r12, r10\n\t"
        "sub lr, lr, r11\n\t"
        EP_IF_PLAIN("cmp r3, #0\n\tbne.w 2f\n\t")
        "ldr r4, [sp, #16]\n\t"
        "ldr r1, [r0], #4\n\t"
        "ldr r2, [r0], #4\n\t"
        "ldr r3, [r0], #4\n\t"
        "sxtah r5, r4, r1\n\t"
        EP_LINE("r6", "r2") EP_LINE("r7", "r2")
        "lsl r5, r5, #8\n\t"
        EP_LINE("r8", "r3") EP_LINE("r9", "r3")
        "ldm r0!, {r2, r3}\n\t"
        "sxtah r5, r4, r1, ror #16\n\t"
        EP_LINE("r10", "r2") EP_LINE("r11", "r2")
        "lsl r5, r5, #8\n\t"
        EP_LINE("r12", "r3") EP_LINE("lr", "r3")
        EP_SHIFT_IN("r6", "") EP_SHIFT_IN("r7", "") EP_SHIFT_IN("r8", "+8") EP_SHIFT_IN("r9", "+8")
        EP_SHIFT_IN("r10", "") EP_SHIFT_IN("r11", "") EP_SHIFT_IN("r12", "+8") EP_SHIFT_IN("lr", "+8")
        EP_IF_PLAIN(
            "b 5f\n"
            "2:\n\t"
            "ldr r4, [sp, #16]\n\t"
            "ldm r0!, {r1, r2, r3, r5}\n\t"
            EP_PLAIN("r6", "r2") EP_PLAIN("r7", "r2") EP_NEXT_SHIFT
            EP_PLAIN_B("r8", "r5") EP_PLAIN_B("r9", "r5") EP_NEXT_SHIFT
            "ldm r0!, {r1, r2, r5}\n\t"
            EP_PLAIN("r10", "r2") EP_PLAIN("r11", "r2") EP_NEXT_SHIFT
            EP_PLAIN_B("r12", "r5") EP_PLAIN_B("lr", "r5"))
        EP_QUADS_END);
}

/* `words` times four inputs of one pixel into its place of the columns; returns the next place */
EP_INLINE uint32_t *ep_dsp_widen(uint32_t *to, const int8_t *from, int32_t words) {
    for (; words > 0; words--, from += 4, to += 4) {
        const uint32_t v = ep_load32(from);
        to[0] = ep_sxtb16(v);
        to[2] = ep_sxtb16_odd(v);
    }
    return to;
}

/* Four inputs of both pixels */
#define EP_WIDEN \
    "ldr r5, [%[first]], #4\n\t" \
    "ldr r6, [%[second]], #4\n\t" \
    "sxtb16 r3, r5\n\t" \
    "sxtb16 r4, r6\n\t" \
    "sxtb16 r5, r5, ror #8\n\t" \
    "sxtb16 r6, r6, ror #8\n\t" \
    "stm %[to]!, {r3, r4, r5, r6}\n\t"

EP_INLINE uint32_t *ep_dsp_widen_both(uint32_t *to, const int8_t *first, const int8_t *second, int32_t words) {
    __asm__ volatile("lsrs %[words], %[words], #1\n\t"
                     "bcc 1f\n\t" EP_WIDEN
                     "1:\n\t"
                     "beq 3f\n"
                     "2:\n\t" EP_WIDEN EP_WIDEN
                     "subs %[words], %[words], #1\n\t"
                     "bne 2b\n"
                     "3:"
                     : [to] "+r"(to), [first] "+r"(first), [second] "+r"(second), [words] "+r"(words)
                     :
                     : "r3", "r4", "r5", "r6", "cc", "memory");
    return to;
}

#include "ep_conv_dsp4.h"

#ifdef EP_FOUR_BIT
#define EP_IS_FOUR_BIT(p) ((p)->four_bit)
#else
#define EP_IS_FOUR_BIT(p) ((void)(p), 0)
#endif

EP_INLINE ep_quads ep_dsp_tile(const ep_conv *p, int32_t words) {
    const int32_t small = EP_IS_FOUR_BIT(p), steps = small ? EP_STEPS4 : EP_STEPS, size = small ? EP_STEP_BYTES4 : EP_STEP_BYTES;
    const int32_t step = p->out_c < 4 ? 4 : p->out_c;
    const int32_t zero = small || EP_IS_PLAIN(p) ? p->out_zero : EP_AND_A_HALF(p->out_zero, EP_LINE_BITS);
    const int32_t one = 36 + (small ? 8 : 16) * words + (EP_IS_PLAIN(p) && !small ? 8 : 0); /* bytes of a quad */
    const int32_t skip = (-(2 * words - !small) & (steps - 1)) * size;
    const ep_quads tile = {step, ((p->out_c + 3) >> 2) * one, zero, EP_IS_PLAIN(p), 16 * words, skip, one};
    return tile;
}

EP_INLINE const int8_t *ep_dsp_run(const ep_conv *p, const int8_t *stream, const uint32_t *columns, int8_t *out, const ep_quads *tile) {
    return EP_IS_FOUR_BIT(p) ? ep_dsp_quads4(stream, columns, out, tile) : ep_dsp_quads(stream, columns, out, tile);
}

#ifdef EP_UNEVEN_CHANNELS
/* Channels that are no multiple of four. `spare`: eight bytes, where there are fewer than four. */
static __attribute__((noinline, unused)) void ep_dsp_uneven(const ep_conv *p, const ep_quads *tile, const uint32_t *columns, int8_t *out, int8_t *spare) {
    const int8_t *stream = p->weight;
    ep_quads part = *tile;
    if (p->out_c > 4) { /* the first quad overlaps the next */
        part.bytes = tile->quad_bytes;
        stream = ep_dsp_run(p, stream, columns, out, &part);
        part.bytes = tile->bytes - tile->quad_bytes;
        ep_dsp_run(p, stream, columns, out + (p->out_c & 3), &part);
        return;
    }
    ep_dsp_run(p, stream, columns, spare, &part);
    for (int32_t c = 0; c < p->out_c; c++) {
        out[c] = spare[c];
        if (part.step) out[p->out_c + c] = spare[4 + c];
    }
}

#define EP_IS_UNEVEN(p) ((p)->out_c & 3)
#else
#define EP_IS_UNEVEN(p) 0
#define ep_dsp_uneven(p, tile, columns, out, spare) ((void)(spare))
#endif

/* All channels of two pixels; of one, if tile.step is 0 */
EP_INLINE void ep_dsp_finish(const ep_conv *p, const ep_quads *tile, const uint32_t *columns, int8_t *out, int8_t *spare) {
    if (EP_IS_UNEVEN(p)) ep_dsp_uneven(p, tile, columns, out, spare);
    else ep_dsp_run(p, p->weight, columns, out, tile);
}

/* A convolution's narrower range */
EP_INLINE void ep_dsp_limit(const ep_conv *p, int8_t *out) {
    ep_dsp_clamp(out, p->out_h * p->out_w * p->out_c, p->low, p->high);
}

#endif
