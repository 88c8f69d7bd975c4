/* Convolution with any number of input channels: the window is first gathered as bytes (rows of kernel_w * in_c),
 * filled up to a multiple of 4 whose weights are 0. Layout and tile: ep_conv_dsp.h. */
#ifndef EP_CONV_DSP_BYTES_H
#define EP_CONV_DSP_BYTES_H

#include "ep_conv_dsp.h"

/* In whole words: up to three bytes more are read and written than asked for. The planner keeps EP_OVERREAD bytes
 * readable behind the input; what is written too much is overwritten next, or meets weights of 0. */
EP_INLINE int8_t *ep_dsp_copy(int8_t *to, const int8_t *from, int32_t size) {
    for (int32_t i = 0; i < size; i += 4) __builtin_memcpy(to + i, from + i, 4);
    return to + size;
}

EP_INLINE int8_t *ep_dsp_set(int8_t *to, int32_t value, int32_t size) {
    for (; size > 0; size--) *to++ = (int8_t)value;
    return to;
}

EP_INLINE void ep_dsp_patch(const ep_conv *p, const int8_t *in, int32_t y, int32_t x, int8_t *to) {
    for (int32_t ky = 0; ky < p->kernel_h; ky++, y += p->dilation_h) {
        const int8_t *row = in + (y * p->in_w + x) * p->in_c;
        const int row_inside = y >= 0 && y < p->in_h;
        if (p->dilation_w == 1 && row_inside && x >= 0 && x + p->kernel_w <= p->in_w) {
            to = ep_dsp_copy(to, row, p->kernel_w * p->in_c);
            continue;
        }
        for (int32_t kx = 0; kx < p->kernel_w; kx++, row += p->dilation_w * p->in_c) {
            const int32_t column = x + kx * p->dilation_w;
            if (row_inside && column >= 0 && column < p->in_w) to = ep_dsp_copy(to, row, p->in_c);
            else to = ep_dsp_set(to, p->in_zero, p->in_c);
        }
    }
}

EP_KERNEL void ep_conv_dsp_bytes(const ep_conv *p, const int8_t *in, int8_t *out, uint32_t *columns) {
    const int32_t pixels = p->out_h * p->out_w, words = (p->kernel_h * p->kernel_w * p->in_c + 3) >> 2;
    const ep_tile tile = ep_dsp_tile(p, words);
    int8_t *patch = (int8_t *)(columns + 8 * words), *spare = patch + 4 * words + 4;
    int32_t ox = 0, y = -p->pad_top;
    for (int32_t i = 0; i < pixels; i += 4) {
        const int32_t count = pixels - i < 4 ? pixels - i : 4;
        for (int32_t k = 0; k < count; k++) {
            ep_dsp_patch(p, in, y, ox * p->stride_w - p->pad_left, patch);
            ep_dsp_widen(columns + k, patch, words);
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
