/* What the assembly tiles of two output channels x four pixels have in common: their parameters and their stores. */
#ifndef EP_TILE_H
#define EP_TILE_H

#include "ep_base.h"

typedef struct {
    int32_t weight_bytes, /* per channel pair */
        step,             /* from one pixel's outputs to the next's */
        pairs, zero;
} ep_tile;

/* r6-r9 and r10-r12, lr to out[pixel * step + 0, 1]; then the next channel pair, if one is left, at label 3.
 * STEP: where the step lies on the stack; 4: out, 8: pairs left. */
#define EP_TILE_STORE(STEP) \
    "ldr r3, [sp, #4]\n\t" \
    "ldr r2, [sp, #" STEP "]\n\t" \
    "add r4, r3, r2\n\t" \
    "strb r6, [r3]\n\t" \
    "strb r7, [r3, r2]\n\t" \
    "strb r8, [r3, r2, lsl #1]\n\t" \
    "strb r9, [r4, r2, lsl #1]\n\t" \
    "adds r3, r3, #1\n\t" \
    "adds r4, r4, #1\n\t" \
    "strb r10, [r3]\n\t" \
    "strb r11, [r3, r2]\n\t" \
    "strb r12, [r3, r2, lsl #1]\n\t" \
    "strb lr, [r4, r2, lsl #1]\n\t" \
    "adds r3, r3, #1\n\t" \
    "ldr r1, [sp, #8]\n\t" \
    "str r3, [sp, #4]\n\t" \
    "subs r1, r1, #1\n\t" \
    "str r1, [sp, #8]\n\t" \
    "bne 3b\n\t" \
    "add sp, sp, #28\n\t" \
    "pop {r4-r11, pc}"

/* A tile always writes four pixels and an even number of channels: what is too much goes by way of `spare`. */
EP_INLINE void ep_tile_copy(const ep_conv *p, const int8_t *spare, int32_t step, int32_t count, int8_t *out) {
    for (int32_t i = 0; i < count; i++)
        for (int32_t c = 0; c < p->out_c; c++) out[i * p->out_c + c] = spare[i * step + c];
}

#endif
