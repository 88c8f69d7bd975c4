/* Convolution on Armv7-M (Cortex-M3): tiles of two output channels x four pixels, eight sums in registers.
 *
 * The windows of four pixels are gathered as bytes, an input of all four in one word. ep_conv.weight is one stream, per
 * channel pair: bias a, bias b | weights [inputs][2] | multiplier a, shift a + 256 shift b, multiplier b. Inputs are
 * filled up to a multiple of 4 with weights of 0, channels to an even number. Shifts are one less for single rounding. */
#ifndef EP_CONV_THUMB2_H
#define EP_CONV_THUMB2_H

#include "ep_conv_gather.h"
#include "ep_thumb2_base.h"
#include "ep_tile.h"

/* One input: r0 weights, r1 columns, r2 r3 weights a b, r4 input, r6-r9 sums a, r10-r12 lr sums b. */
#define EP_STEP_INPUT \
    "ldrsb r2, [r0], #1\n\t" \
    "ldrsb r3, [r0], #1\n\t" \
    "ldrsb r4, [r1], #1\n\t" \
    "mla r6, r2, r4, r6\n\t" \
    "mla r10, r3, r4, r10\n\t" \
    "ldrsb r4, [r1], #1\n\t" \
    "mla r7, r2, r4, r7\n\t" \
    "mla r11, r3, r4, r11\n\t" \
    "ldrsb r4, [r1], #1\n\t" \
    "mla r8, r2, r4, r8\n\t" \
    "mla r12, r3, r4, r12\n\t" \
    "ldrsb r4, [r1], #1\n\t" \
    "mla r9, r2, r4, r9\n\t" \
    "mla lr, r3, r4, lr\n\t"

#define EP_OUTPUT(X, M) EP_DOUBLE(X) EP_SHORT_RESCALE(X, M, "r3", "r1", "r4")

/* stack ep_thumb2_channels 64: 0 columns, 4 out, 8 pairs left, 12 weight bytes, 16 step, 20 zero point. */
static __attribute__((naked, noinline, unused)) void ep_thumb2_channels(
    const int8_t *stream EP_NAKED, const int8_t *columns EP_NAKED, int8_t *out EP_NAKED, const ep_tile *tile EP_NAKED) {
    __asm__ volatile(
        "push {r4-r11, lr}\n\t"
        "sub sp, sp, #28\n\t"
        "ldm r3, {r4, r5, r6, r7}\n\t"
        "strd r1, r2, [sp]\n\t"
        "strd r6, r4, [sp, #8]\n\t"
        "strd r5, r7, [sp, #16]\n"
        "3:\n\t" /* a channel pair */
        "ldrd r6, r10, [r0], #8\n\t"
        "ldr r5, [sp, #12]\n\t"
        "ldr r1, [sp]\n\t"
        "mov r7, r6\n\t"
        "mov r8, r6\n\t"
        "mov r9, r6\n\t"
        "mov r11, r10\n\t"
        "mov r12, r10\n\t"
        "mov lr, r10\n\t"
        "add r5, r0, r5\n"
        "1:\n\t" EP_STEP_INPUT EP_STEP_INPUT EP_STEP_INPUT EP_STEP_INPUT
        "cmp r0, r5\n\t"
        "bne 1b\n\t"
        "ldm r0!, {r2, r3, r5}\n\t"
        "ldr r1, [sp, #20]\n\t"
        EP_OUTPUT("r6", "r2") EP_OUTPUT("r7", "r2") EP_OUTPUT("r8", "r2") EP_OUTPUT("r9", "r2")
        "lsr r3, r3, #8\n\t"
        EP_OUTPUT("r10", "r5") EP_OUTPUT("r11", "r5") EP_OUTPUT("r12", "r5") EP_OUTPUT("lr", "r5")
        EP_TILE_STORE("16"));
}

EP_KERNEL void ep_conv_thumb2(const ep_conv *p, const int8_t *in, int8_t *out, int8_t *columns) {
    const int32_t pixels = p->out_h * p->out_w, pairs = (p->out_c + 1) >> 1;
    const int32_t inputs = (p->kernel_h * p->kernel_w * p->in_c + 3) & ~3;
    const ep_tile tile = {2 * inputs, 2 * pairs, pairs, p->out_zero};
    int8_t *spare = columns + 4 * inputs;
    ep_cursor at = {0, -p->pad_top};
    for (int32_t i = 0; i < pixels; i += 4) {
        const int32_t count = pixels - i < 4 ? pixels - i : 4;
        for (int32_t k = 0; k < count; k++) ep_gather_next(p, in, &at, columns + k);
        const int direct = count == 4 && tile.step == p->out_c;
        ep_thumb2_channels(p->weight, columns, direct ? out : spare, &tile);
        if (!direct) ep_tile_copy(p, spare, tile.step, count, out);
        ep_thumb2_clamp(out, count * p->out_c, p->low, p->high);
        out += 4 * p->out_c;
    }
}

#endif
