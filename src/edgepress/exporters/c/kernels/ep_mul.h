/* a * b, element by element; b may repeat (broadcast over leading axes). */
#ifndef EP_MUL_H
#define EP_MUL_H

#include "ep_base.h"

typedef struct {
    int32_t size, repeat;
    int32_t a_zero, b_zero, multiplier, shift, out_zero, low, high;
} ep_mul;

EP_KERNEL void ep_mul_ref(const ep_mul *p, const int8_t *a, const int8_t *b, int8_t *out) {
    for (int32_t i = 0, j = 0; i < p->size; i++) {
        const int32_t product = (a[i] - p->a_zero) * (b[j] - p->b_zero);
        out[i] = ep_clamp(ep_rescale(product, p->multiplier, p->shift) + p->out_zero, p->low, p->high);
        if (++j == p->repeat) j = 0;
    }
}

#endif
