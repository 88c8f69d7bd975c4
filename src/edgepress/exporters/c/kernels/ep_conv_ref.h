/* Convolution, any stride, dilation, padding and groups (depthwise included): the plain definition.
 * weight [out_c][kernel_h][kernel_w][in_c / groups] */
#ifndef EP_CONV_REF_H
#define EP_CONV_REF_H

#include "ep_base.h"

EP_INLINE int32_t ep_conv_ref_at(const ep_conv *p, const int8_t *in, int32_t oy, int32_t ox, int32_t oc) {
    const int32_t per_in = p->in_c / p->groups, first = oc / (p->out_c / p->groups) * per_in;
    const int8_t *w = p->weight + oc * p->kernel_h * p->kernel_w * per_in;
    int32_t total = p->bias[oc];
    for (int32_t ky = 0; ky < p->kernel_h; ky++) {
        const int32_t y = oy * p->stride_h - p->pad_top + ky * p->dilation_h;
        for (int32_t kx = 0; kx < p->kernel_w; kx++) {
            const int32_t x = ox * p->stride_w - p->pad_left + kx * p->dilation_w;
            const int inside = y >= 0 && y < p->in_h && x >= 0 && x < p->in_w;
            const int8_t *v = in + (inside ? (y * p->in_w + x) * p->in_c + first : 0);
            for (int32_t c = 0; c < per_in; c++) total += (inside ? v[c] : p->in_zero) * *w++;
        }
    }
    return total;
}

EP_KERNEL void ep_conv_ref(const ep_conv *p, const int8_t *in, int8_t *out) {
    for (int32_t oy = 0; oy < p->out_h; oy++)
        for (int32_t ox = 0; ox < p->out_w; ox++)
            for (int32_t oc = 0; oc < p->out_c; oc++) {
                const int32_t total = ep_conv_ref_at(p, in, oy, ox, oc);
                const int32_t y = ep_rescale(total, p->multiplier[oc], p->shift[oc]) + p->out_zero;
                *out++ = ep_clamp(y, p->low, p->high);
            }
}

#endif
