/* Depthwise 3x3 on cores without SIMD, stride 1 or 2: one channel at a time in a padded plane, its nine weights held
 * in locals. weight [channels][9]. Works in place. */
#ifndef EP_DEPTHWISE_SCALAR_H
#define EP_DEPTHWISE_SCALAR_H

#include "ep_base.h"

EP_INLINE void ep_plane_gather(const ep_conv *p, const int8_t *in, int8_t *plane, int32_t pitch) {
    int8_t *row = plane + p->pad_top * pitch + p->pad_left;
    for (int32_t y = 0; y < p->in_h; y++, row += pitch) {
        int8_t *to = row;
        for (int32_t x = 0; x < p->in_w; x++, in += p->in_c) *to++ = *in;
    }
}

EP_INLINE void ep_plane_channel(const ep_conv *p, int32_t channel, const int8_t *plane, int32_t pitch, int8_t *out) {
    const int8_t *w = p->weight + 9 * channel;
    const int32_t w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3], w4 = w[4], w5 = w[5], w6 = w[6], w7 = w[7], w8 = w[8];
    const int32_t bias = p->bias[channel], multiplier = p->multiplier[channel], shift = p->shift[channel];
    for (int32_t y = 0; y < p->out_h; y++, plane += p->stride_h * pitch) {
        const int8_t *a = plane, *b = a + pitch, *c = b + pitch;
        for (int32_t x = 0; x < p->out_w; x++, a += p->stride_w, b += p->stride_w, c += p->stride_w) {
            int32_t total = bias + w0 * a[0] + w1 * a[1] + w2 * a[2];
            total += w3 * b[0] + w4 * b[1] + w5 * b[2];
            total += w6 * c[0] + w7 * c[1] + w8 * c[2];
            *out = ep_clamp(ep_rescale(total, multiplier, shift) + p->out_zero, p->low, p->high);
            out += p->out_c;
        }
    }
}

EP_KERNEL void ep_depthwise_scalar(const ep_conv *p, const int8_t *in, int8_t *out, int8_t *plane) {
    const int32_t pitch = (p->out_w - 1) * p->stride_w + 3, rows = (p->out_h - 1) * p->stride_h + 3;
    const int32_t wide = p->in_w + p->pad_left > pitch ? p->in_w + p->pad_left : pitch;
    const int32_t tall = p->in_h + p->pad_top > rows ? p->in_h + p->pad_top : rows;
    for (int32_t i = 0; i < wide * tall; i++) plane[i] = (int8_t)p->in_zero;
    for (int32_t c = 0; c < p->in_c; c++) {
        ep_plane_gather(p, in + c, plane, wide);
        ep_plane_channel(p, c, plane, wide, out + c);
    }
}

#endif
