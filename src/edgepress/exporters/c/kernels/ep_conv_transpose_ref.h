/* Transposed convolution, gathered per output: out[oy] sums x[y] * w[k] over y * stride + k = oy + pad.
 * weight [out_c][kernel_h][kernel_w][in_c] */
#ifndef EP_CONV_TRANSPOSE_REF_H
#define EP_CONV_TRANSPOSE_REF_H

#include "ep_base.h"

/* The bias is raw here: how many inputs an output sees depends on its position, so the zero point is taken off x. */
EP_INLINE int32_t ep_conv_transpose_at(const ep_conv *p, const int8_t *in, int32_t oy, int32_t ox, int32_t oc) {
    int32_t total = p->bias[oc];
    for (int32_t ky = 0; ky < p->kernel_h; ky++) {
        const int32_t y = oy + p->pad_top - ky;
        if (y < 0 || y % p->stride_h || y / p->stride_h >= p->in_h) continue;
        for (int32_t kx = 0; kx < p->kernel_w; kx++) {
            const int32_t x = ox + p->pad_left - kx;
            if (x < 0 || x % p->stride_w || x / p->stride_w >= p->in_w) continue;
            const int8_t *v = in + (y / p->stride_h * p->in_w + x / p->stride_w) * p->in_c;
            const int8_t *w = p->weight + ((oc * p->kernel_h + ky) * p->kernel_w + kx) * p->in_c;
            for (int32_t c = 0; c < p->in_c; c++) total += (v[c] - p->in_zero) * w[c];
        }
    }
    return total;
}

EP_KERNEL void ep_conv_transpose_ref(const ep_conv *p, const int8_t *in, int8_t *out) {
    for (int32_t oy = 0; oy < p->out_h; oy++)
        for (int32_t ox = 0; ox < p->out_w; ox++)
            for (int32_t oc = 0; oc < p->out_c; oc++) {
                const int32_t total = ep_conv_transpose_at(p, in, oy, ox, oc);
                const int32_t y = ep_rescale(total, p->multiplier[oc], p->shift[oc]) + p->out_zero;
                *out++ = ep_clamp(y, p->low, p->high);
            }
}

#endif
