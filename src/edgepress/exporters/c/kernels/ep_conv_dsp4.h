/* The tile of ep_conv_dsp.h with four bits per weight. A word holds four inputs of channels a and b: its low halves of
 * bytes are the first two inputs in the order a b a b, its high halves the other two (inputs 0 2 | 1 3). A nibble is
 * used where it stands, as 16 times its value; sums are exact and shifted back at the end.
 *
 * The stream, per channel pair: 16 bias a, 16 bias b | words | multiplier a, shift a + 256 shift b, multiplier b. */
#ifndef EP_CONV_DSP4_H
#define EP_CONV_DSP4_H

#include "ep_dsp_base.h"
#include "ep_tile.h"

/* Two inputs: r1 columns, r2 bytes 16a 16b 16a 16b, r3 widened, r4 r5 inputs, r6-r9 sums a, r10-r12 lr sums b. */
#define EP_STEP4 \
    "and r2, r2, #0xf0f0f0f0\n\t" \
    "ldrd r4, r5, [r1], #8\n\t" \
    "sxtb16 r3, r2\n\t" \
    "smlad r6, r3, r4, r6\n\t" \
    "smlad r7, r3, r5, r7\n\t" \
    "sxtb16 r3, r2, ror #8\n\t" \
    "smlad r10, r3, r4, r10\n\t" \
    "smlad r11, r3, r5, r11\n\t" \
    "ldrd r4, r5, [r1], #8\n\t" \
    "smlad r12, r3, r4, r12\n\t" \
    "smlad lr, r3, r5, lr\n\t" \
    "sxtb16 r3, r2\n\t" \
    "smlad r8, r3, r4, r8\n\t" \
    "smlad r9, r3, r5, r9\n\t"

#define EP_FOUR_INPUTS "ldr r2, [r0]\n\tlsl r2, r2, #4\n\t" EP_STEP4 "ldr r2, [r0], #4\n\t" EP_STEP4

/* ep_dsp_rescale takes the doubled sum for double rounding. */
#ifdef EP_SINGLE_ROUNDING
#define EP_OUT4(X, M) "asr " X ", " X ", #4\n\t" EP_SCALE(X, M)
#else
#define EP_OUT4(X, M) "asr " X ", " X ", #3\n\t" EP_SCALE(X, M)
#endif

/* stack ep_dsp_channels4 64: 0 columns, 4 out, 8 pairs left, 12 end of weights, 16 weight bytes, 20 step, 24 zero. */
static __attribute__((naked, noinline, unused)) void ep_dsp_channels4(
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
        "ldrd r6, r10, [r0], #8\n\t"
        "ldr r2, [sp, #16]\n\t"
        "ldr r1, [sp]\n\t"
        "mov r7, r6\n\t"
        "mov r8, r6\n\t"
        "mov r9, r6\n\t"
        "mov r11, r10\n\t"
        "mov r12, r10\n\t"
        "mov lr, r10\n\t"
        "add r3, r0, r2\n\t"
        "str r3, [sp, #12]\n\t"
        "lsls r2, r2, #29\n\t" /* an odd number of words: start in the middle */
        "bmi 2f\n"
        "1:\n\t" EP_FOUR_INPUTS
        "2:\n\t" EP_FOUR_INPUTS
        "ldr r2, [sp, #12]\n\t"
        "cmp r0, r2\n\t"
        "bne 1b\n\t"
        "ldm r0!, {r2, r3, r5}\n\t"
        "ldr r1, [sp, #24]\n\t"
        EP_OUT4("r6", "r2") EP_OUT4("r7", "r2") EP_OUT4("r8", "r2") EP_OUT4("r9", "r2")
        "lsr r3, r3, #8\n\t"
        EP_OUT4("r10", "r5") EP_OUT4("r11", "r5") EP_OUT4("r12", "r5") EP_OUT4("lr", "r5")
        EP_TILE_STORE("20"));
}

#endif
