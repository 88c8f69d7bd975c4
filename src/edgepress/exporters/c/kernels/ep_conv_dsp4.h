/* The tile of ep_conv_dsp.h with four bits per weight. A word holds two inputs of channels a b c d: its low nibbles are
 * a b a b, its high nibbles c d c d. A nibble is used where it stands, as 16 times its value; sums are exact.
 *
 * The stream, per channel quad: 16 bias a, b, c, d | words | multiplier a, shifts, multiplier b, c, d. `quick` and
 * `plain` as there; the high product of a sum times 16 has three bits more than it needs. */
#ifndef EP_CONV_DSP4_H
#define EP_CONV_DSP4_H

#include "ep_quads.h"

#define EP_STEPS4 8
#define EP_STEP_BYTES4 76

/* Two inputs: r0 weights, r1 columns, r2 word, r3 one channel of it, r4 r5 inputs, r6-r12 lr sums of a b c d. */
#define EP_STEP4 \
    "ldr r2, [r0], #4\n\t" \
    "ldr r4, [r1], #4\n\t" \
    "ldr r5, [r1], #4\n\t" \
    "and r3, r2, #0xf0f0f0f0\n\t" \
    "sxtb16 r3, r3\n\t" \
    "smlad r10, r3, r4, r10\n\t" \
    "smlad r11, r3, r5, r11\n\t" \
    "and r3, r2, #0xf0f0f0f0\n\t" \
    "sxtb16 r3, r3, ror #8\n\t" \
    "smlad r12, r3, r4, r12\n\t" \
    "smlad lr, r3, r5, lr\n\t" \
    "lsl r2, r2, #4\n\t" \
    "and r2, r2, #0xf0f0f0f0\n\t" \
    "sxtb16 r3, r2\n\t" \
    "smlad r6, r3, r4, r6\n\t" \
    "smlad r7, r3, r5, r7\n\t" \
    "sxtb16 r3, r2, ror #8\n\t" \
    "smlad r8, r3, r4, r8\n\t" \
    "smlad r9, r3, r5, r9\n\t"

/* plain: ep_dsp_rescale takes the doubled sum for double rounding; single rounding is never plain. */
#define EP_PLAIN4(X, M) \
    "asr " X ", " X ", #3\n\tsmmulr " X ", " X ", " M "\n\tadd " X ", " X ", " X ", asr #31\n\t" EP_ROUND(X)

static __attribute__((naked, noinline, unused)) const int8_t *ep_dsp_quads4(
    const int8_t *stream EP_NAKED, const uint32_t *columns EP_NAKED, int8_t *out EP_NAKED, const ep_quads *tile EP_NAKED) {
    __asm__ volatile(
        EP_QUADS_BEGIN("mov r7, r6\n\tmov r9, r8\n\tmov r11, r10\n\tmov lr, r12\n\t")
        EP_TWICE(EP_4_TIMES(EP_STEP4))
        EP_QUADS_ROUND
        "ldr r4, [sp, #16]\n\t"
        EP_IF_PLAIN("ldr r5, [sp, #20]\n\t")
        "ldm r0!, {r2, r3}\n\t"
        "mov r1, #4\n\t"
        EP_IF_PLAIN("cmp r5, #0\n\tbne.w 2f\n\t")
        EP_QUICK_B("r6", "r2") EP_QUICK_B("r7", "r2") EP_NEXT_SHIFT
        "ldm r0!, {r2, r5}\n\t"
        EP_QUICK_B("r8", "r2") EP_QUICK_B("r9", "r2") EP_NEXT_SHIFT
        EP_QUICK_B("r10", "r5") EP_QUICK_B("r11", "r5") EP_NEXT_SHIFT
        "ldr r2, [r0], #4\n\t"
        EP_QUICK_B("r12", "r2") EP_QUICK_B("lr", "r2")
        EP_IF_PLAIN(
            "b 5f\n"
            "2:\n\t"
            EP_PLAIN4("r6", "r2") EP_PLAIN4("r7", "r2") EP_NEXT_SHIFT
            "ldm r0!, {r2, r5}\n\t"
            EP_PLAIN4("r8", "r2") EP_PLAIN4("r9", "r2") EP_NEXT_SHIFT
            EP_PLAIN4("r10", "r5") EP_PLAIN4("r11", "r5") EP_NEXT_SHIFT
            "ldr r2, [r0], #4\n\t"
            EP_PLAIN4("r12", "r2") EP_PLAIN4("lr", "r2"))
        EP_QUADS_END);
}

#endif
