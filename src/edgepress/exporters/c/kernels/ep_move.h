/* Everything that only moves bytes: one strided copy of up to five axes (transpose, slice, concat, pad's inside). */
#ifndef EP_MOVE_H
#define EP_MOVE_H

#include "ep_base.h"

#define EP_AXES 5

typedef struct {
    int32_t count[EP_AXES], from[EP_AXES], to[EP_AXES]; /* elements, steps in the source and in the destination */
    int32_t source, target;                             /* first element */
} ep_move;

/* One row. Rows of neighbours go in whole words where those need no alignment. */
EP_INLINE void ep_move_row(const ep_move *p, const int8_t *in, int8_t *out) {
    int32_t k = 0;
#if defined(__ARM_FEATURE_UNALIGNED) || defined(__x86_64__) || defined(__aarch64__)
    if (p->from[4] == 1 && p->to[4] == 1)
        for (; k + 4 <= p->count[4]; k += 4) __builtin_memcpy(out + k, in + k, 4);
#endif
    for (; k < p->count[4]; k++) out[k * p->to[4]] = in[k * p->from[4]];
}

EP_KERNEL void ep_move_run(const ep_move *p, const int8_t *in, int8_t *out) {
    int32_t i[EP_AXES - 1] = {0, 0, 0, 0};
    int32_t axis = 0;
    in += p->source;
    out += p->target;
    while (axis >= 0) {
        ep_move_row(p, in, out);
        for (axis = EP_AXES - 2; axis >= 0; axis--) { /* the next row: an odometer */
            in += p->from[axis];
            out += p->to[axis];
            if (++i[axis] < p->count[axis]) break;
            in -= p->count[axis] * p->from[axis];
            out -= p->count[axis] * p->to[axis];
            i[axis] = 0;
        }
    }
}

#endif
