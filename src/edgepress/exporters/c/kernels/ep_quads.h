/* What the assembly tiles of four output channels x two pixels have in common: parameters, rounding, begin and end.
 *
 * What ends a tile quickly with four-bit weights (ep_conv_dsp4.h): a sum scaled by 2^n has a high product with n - 1 bits
 * more than it needs; adding half of them and shifting by n - 1 more rounds twice. What rounding away from zero adds below
 * zero does not show, as those outputs are cut off at the zero point (ReLU). EP_PLAIN has all of it. */
#ifndef EP_QUADS_H
#define EP_QUADS_H

#include "ep_dsp_base.h"

/* What the tiles load at a stretch. */
typedef struct {
    int32_t step, /* from the first pixel's outputs to the second's; 0 if there is no second */
        bytes, zero, plain,           /* bytes: of the stream */
        column_bytes, skip, /* skip: bytes of code that the first round leaves out */
        quad_bytes;
} ep_quads;

#define EP_TWICE(X) X X
#define EP_4_TIMES(X) EP_TWICE(X) EP_TWICE(X)

/* Multiplier M, shift r3, zero point r4, r1 what rounding the first time adds. */
#define EP_ROUND(X) "asrs " X ", " X ", r3\n\tadc " X ", " X ", r4\n\tssat " X ", #8, " X "\n\t"
#ifdef EP_SINGLE_ROUNDING
#define EP_HIGH(X, M) "smmul " X ", " X ", " M "\n\t"
#define EP_SCALED_HIGH(X, M) EP_HIGH(X, M)
#define EP_PLAIN(X, M) EP_HIGH(X, M) EP_ROUND(X)
#else
#define EP_HIGH(X, M) "smmlar " X ", " X ", " M ", " X "\n\t"
#define EP_SCALED_HIGH(X, M) "smmla " X ", " X ", " M ", r1\n\t"
#define EP_PLAIN(X, M) EP_HIGH(X, M) "add " X ", " X ", " X ", asr #31\n\t" EP_ROUND(X)
#endif
#define EP_QUICK_B(X, M) EP_SCALED_HIGH(X, M) EP_ROUND(X)
#define EP_PLAIN_B(X, M) "add " X ", r1, " X ", asr #8\n\t" EP_PLAIN(X, M)
#define EP_NEXT_SHIFT "lsr r3, r3, #8\n\t"

#ifdef EP_PLAIN_SUMS
#define EP_IF_PLAIN(X) X
#define EP_IS_PLAIN(p) ((p)->plain)
#else
#define EP_IF_PLAIN(X)
#define EP_IS_PLAIN(p) 0
#endif

/* stack ep_dsp_quads 72, stack ep_dsp_quads4 72: 0 columns, 4 out, 8 step, 12 end of the stream, 16 zero, 20 plain,
 * 24 end of columns, 28 where to start. FIRST: what makes eight sums of four starting ones. */
#define EP_QUADS_BEGIN(FIRST) \
    "push {r4-r11, lr}\n\t" \
    "sub sp, sp, #36\n\t" \
    "ldm r3, {r4-r9}\n\t" \
    "add r5, r5, r0\n\t" \
    "add r8, r8, r1\n\t" \
    "adr r10, 1f\n\t" \
    "add r9, r9, r10\n\t" \
    "orr r9, r9, #1\n\t" \
    "stm sp, {r1, r2, r4-r9}\n" \
    "3:\n\t" \
    "ldm r0!, {r6, r8, r10, r12}\n\t" \
    "ldr r1, [sp]\n\t" \
    FIRST \
    "ldr r2, [sp, #28]\n\t" \
    "bx r2\n" \
    "1:\n\t"

#define EP_QUADS_ROUND \
    "ldr r2, [sp, #24]\n\t" \
    "cmp r1, r2\n\t" \
    "bne.w 1b\n\t"

/* The second pixel first: what is no pixel is written over. */
#define EP_QUADS_END \
    "5:\n\t" \
    "ldr r1, [sp, #4]\n\t" \
    "ldr r2, [sp, #8]\n\t" \
    "ldr r3, [sp, #12]\n\t" \
    "add r4, r1, r2\n\t" \
    "strb r7, [r4]\n\t" \
    "strb r9, [r4, #1]\n\t" \
    "strb r11, [r4, #2]\n\t" \
    "strb lr, [r4, #3]\n\t" \
    "strb r6, [r1], #4\n\t" \
    "strb r8, [r1, #-3]\n\t" \
    "strb r10, [r1, #-2]\n\t" \
    "strb r12, [r1, #-1]\n\t" \
    "str r1, [sp, #4]\n\t" \
    "cmp r0, r3\n\t" \
    "bne.w 3b\n\t" \
    "add sp, sp, #36\n\t" \
    "pop {r4-r11, pc}"

#endif
