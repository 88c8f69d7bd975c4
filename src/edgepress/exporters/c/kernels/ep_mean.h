/* Mean of `rows` rows of `channels` values, with a change of scale: the factor holds 1 / rows. */
#ifndef EP_MEAN_H
#define EP_MEAN_H

#include "ep_base.h"

typedef struct {
    int32_t rows, channels, zero, multiplier, shift, out_zero;
} ep_mean;

EP_KERNEL void ep_mean_ref(const ep_mean *p, const int8_t *in, int8_t *out) {
    for (int32_t c = 0; c < p->channels; c++) {
        int32_t total = -p->rows * p->zero;
        for (int32_t r = 0; r < p->rows; r++) total += in[r * p->channels + c];
        out[c] = ep_clamp(ep_rescale(total, p->multiplier, p->shift) + p->out_zero, -128, 127);
    }
}

#endif
