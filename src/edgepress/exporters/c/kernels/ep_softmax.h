/* Softmax over rows in fixed point, output scale 1/256 and zero point -128. */
#ifndef EP_SOFTMAX_H
#define EP_SOFTMAX_H

#include "ep_exp.h"

typedef struct {
    ep_exp exp;
    int32_t rows, length;
} ep_softmax;

EP_INLINE void ep_softmax_row(const ep_softmax *p, const int8_t *in, int8_t *out) {
    int32_t best = -128;
    uint32_t total = 0;
    for (int32_t i = 0; i < p->length; i++) best = in[i] > best ? in[i] : best;
    for (int32_t i = 0; i < p->length; i++)
        if (in[i] - best >= p->exp.diff_min) total += ep_exp_part(ep_exp_scaled(&p->exp, in[i] - best));
    const ep_share share = ep_share_of(total, 8);
    for (int32_t i = 0; i < p->length; i++) {
        int32_t y = -128;
        if (in[i] - best >= p->exp.diff_min)
            y += ep_shift_right(ep_high_product(share.scale, ep_exp_scaled(&p->exp, in[i] - best)), share.shift);
        out[i] = ep_clamp(y, -128, 127);
    }
}

EP_KERNEL void ep_softmax_ref(const ep_softmax *p, const int8_t *in, int8_t *out) {
    for (int32_t row = 0; row < p->rows; row++, in += p->length, out += p->length) ep_softmax_row(p, in, out);
}

#endif
