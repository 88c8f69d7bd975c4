/* a / b, either repeated over any axes: a quotient in steps of 2^-22, half away from zero, then a rescale. a / 0 is the
 * largest number with the sign of a, 0 / 0 is 0. */
#ifndef EP_DIVIDE_H
#define EP_DIVIDE_H

#include "ep_loops.h"

EP_INLINE int32_t ep_quotient(int32_t a, int32_t b) {
    const int32_t size = b < 0 ? -b : b, above = (a < 0 ? -a : a) * ((int32_t)1 << 22);
    int32_t whole = a == 0 ? 0 : INT32_MAX;
    if (size != 0) whole = (above + size / 2) / size;
    return (a < 0) != (b < 0) ? -whole : whole;
}

EP_KERNEL void ep_divide_ref(const ep_loops *p, const int8_t *a, const int8_t *b, int8_t *out) {
    ep_place at = {{0, 0, 0, 0, 0}};
    do {
        const int32_t found = ep_quotient(*a - p->a_zero, *b - p->b_zero);
        *out++ = ep_clamp(ep_rescale(found, p->multiplier, p->shift) + p->out_zero, p->low, p->high);
    } while (ep_next(p, &at, &a, &b));
}

#endif
