/* Depthwise convolution with RISC-V vectors, channels in the lanes. weight [kernel positions][channels]. */
#ifndef EP_DEPTHWISE_RVV_H
#define EP_DEPTHWISE_RVV_H

#include "ep_rvv_base.h"

/* Channels c .. c + vl - 1 of the pixel whose window begins at row y, column x. */
EP_INLINE vint32m4_t ep_depthwise_rvv_sum(const ep_conv *p, const int8_t *in, int32_t y, int32_t x, int32_t c, size_t vl) {
    vint32m4_t total = __riscv_vle32_v_i32m4(p->bias + c, vl);
    const int8_t *w = p->weight + c;
    for (int32_t ky = 0; ky < p->kernel_h; ky++, y += p->dilation_h) {
        const int inside = y >= 0 && y < p->in_h;
        const int8_t *row = in + (y * p->in_w + x) * p->in_c + c;
        int32_t column = x;
        for (int32_t kx = 0; kx < p->kernel_w; kx++, w += p->in_c) {
            const vint16m2_t weights = ep_rvv_widened(w, vl);
            if (inside && column >= 0 && column < p->in_w)
                total = __riscv_vwmacc_vv_i32m4(total, ep_rvv_widened(row, vl), weights, vl);
            else
                total = __riscv_vwmacc_vx_i32m4(total, (int16_t)p->in_zero, weights, vl);
            column += p->dilation_w;
            row += p->dilation_w * p->in_c;
        }
    }
    return total;
}

EP_KERNEL void ep_depthwise_rvv(const ep_conv *p, const int8_t *in, int8_t *out) {
    for (int32_t y = 0; y < p->out_h; y++)
        for (int32_t x = 0; x < p->out_w; x++, out += p->in_c) {
            size_t vl;
            for (int32_t c = 0; c < p->in_c; c += (int32_t)vl) {
                vl = __riscv_vsetvl_e8m1((size_t)(p->in_c - c));
                const vint32m4_t total = ep_depthwise_rvv_sum(p, in, y * p->stride_h - p->pad_top,
                                                              x * p->stride_w - p->pad_left, c, vl);
                const vint32m4_t scaled = ep_rvv_rescale(total, p->multiplier + c, p->shift + c, vl);
                ep_rvv_put(scaled, p->out_zero, p->low, p->high, out + c, vl);
            }
        }
}

#endif
