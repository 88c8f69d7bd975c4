/* Convolution with input channels a multiple of 4, dilation across 1. Layout and tile: ep_conv_dsp.h. */
#ifndef EP_CONV_DSP_IMAGE_H
#define EP_CONV_DSP_IMAGE_H

#include "ep_conv_dsp.h"

/* The window of one pixel: per row, what hangs out left, what is inside (contiguous), what hangs out right. */
EP_INLINE void ep_dsp_window(const ep_conv *p, const int8_t *in, int32_t y, int32_t x, uint32_t *to) {
    const int32_t words = p->in_c >> 2, end = x + p->kernel_w;
    const int32_t x0 = x < 0 ? 0 : x, x1 = end > p->in_w ? p->in_w : end;
    const uint32_t zero = ep_dsp_zero_pair(p);
    const int8_t *from = in + (y * p->in_w + x0) * p->in_c;
    for (int32_t k = 0; k < p->kernel_h; k++, y += p->dilation_h, from += p->dilation_h * p->in_w * p->in_c) {
        if (y < 0 || y >= p->in_h || x1 <= x0) {
            to = ep_dsp_fill(to, zero, words * p->kernel_w);
            continue;
        }
        to = ep_dsp_fill(to, zero, words * (x0 - x));
        to = ep_dsp_widen(to, from, words * (x1 - x0));
        to = ep_dsp_fill(to, zero, words * (end - x1));
    }
}

EP_KERNEL void ep_conv_dsp_image(const ep_conv *p, const int8_t *in, int8_t *out, uint32_t *columns) {
    const int32_t pixels = p->out_h * p->out_w, words = p->kernel_h * p->kernel_w * (p->in_c >> 2);
    const ep_tile tile = ep_dsp_tile(p, words);
    int8_t *spare = (int8_t *)(columns + 8 * words);
    int32_t ox = 0, y = -p->pad_top;
    for (int32_t i = 0; i < pixels; i += 4) {
        const int32_t count = pixels - i < 4 ? pixels - i : 4;
        for (int32_t k = 0; k < count; k++) {
            ep_dsp_window(p, in, y, ox * p->stride_w - p->pad_left, columns + k);
            if (++ox == p->out_w) {
                ox = 0;
                y += p->stride_h;
            }
        }
        ep_dsp_finish(p, &tile, columns, out, count, spare);
        out += 4 * p->out_c;
    }
}

#endif
