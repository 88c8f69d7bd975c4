/* Matrix product over the last axis: rows x in_c inputs, weight [out_c][in_c]. */
#ifndef EP_DENSE_REF_H
#define EP_DENSE_REF_H

#include "ep_base.h"

typedef struct {
    const int8_t *weight;
    const int32_t *bias, *multiplier; /* bias as in ep_conv */
    const int8_t *shift;
    int32_t rows, in_c, out_c;
    int32_t out_zero, low, high;
} ep_dense;

EP_KERNEL void ep_dense_ref(const ep_dense *p, const int8_t *in, int8_t *out) {
    for (int32_t row = 0; row < p->rows; row++, in += p->in_c) {
        const int8_t *w = p->weight;
        for (int32_t oc = 0; oc < p->out_c; oc++) {
            int32_t total = p->bias[oc];
            for (int32_t c = 0; c < p->in_c; c++) total += in[c] * *w++;
            const int32_t y = ep_rescale(total, p->multiplier[oc], p->shift[oc]) + p->out_zero;
            *out++ = ep_clamp(y, p->low, p->high);
        }
    }
}

#endif
