/* Convolution with Helium: one output channel x four pixels per round, 16 inputs at a time. Windows are gathered to
 * scratch, except that a 1x1 convolution without stride reads the image itself. weight [out_c][inputs]. */
#ifndef EP_CONV_MVE_H
#define EP_CONV_MVE_H

#include "ep_mve_base.h"

EP_INLINE int8_t *ep_mve_copy(int8_t *to, const int8_t *from, int32_t size) {
    for (int32_t left = size; left > 0; left -= 16, from += 16, to += 16) {
        const mve_pred16_t some = vctp8q((uint32_t)left);
        vstrbq_p_s8(to, vldrbq_z_s8(from, some), some);
    }
    return to - ((-size) & 15);
}

EP_INLINE int8_t *ep_mve_fill(int8_t *to, int32_t value, int32_t size) {
    for (int32_t left = size; left > 0; left -= 16, to += 16) vstrbq_p_s8(to, vdupq_n_s8((int8_t)value), vctp8q((uint32_t)left));
    return to - ((-size) & 15);
}

EP_KERNEL void ep_mve_window(const ep_conv *p, const int8_t *in, int32_t y, int32_t x, int8_t *to) {
    for (int32_t ky = 0; ky < p->kernel_h; ky++, y += p->dilation_h) {
        const int8_t *row = in + (y * p->in_w + x) * p->in_c;
        const int row_inside = y >= 0 && y < p->in_h;
        if (p->dilation_w == 1 && row_inside && x >= 0 && x + p->kernel_w <= p->in_w) {
            to = ep_mve_copy(to, row, p->kernel_w * p->in_c);
            continue;
        }
        for (int32_t kx = 0; kx < p->kernel_w; kx++, row += p->dilation_w * p->in_c) {
            const int32_t column = x + kx * p->dilation_w;
            if (row_inside && column >= 0 && column < p->in_w) to = ep_mve_copy(to, row, p->in_c);
            else to = ep_mve_fill(to, p->in_zero, p->in_c);
        }
    }
}

/* All channels of four pixels; only the first `count` are written. */
EP_KERNEL void ep_mve_tile(const ep_conv *p, const int8_t *const x[4], int32_t size, int32_t *sums, int8_t *out, int32_t count) {
    const int32_t step = (p->out_c + 3) & ~3;
    const int8_t *w = p->weight;
    for (int32_t c = 0; c < p->out_c; c++, w += size) ep_mve_dot4(w, x, size, sums + c, step);
    const int32_t zero = p->out_zero, low = p->low, high = p->high, width = p->out_c;
    for (int32_t c = 0; c < width; c += 4) {
        const ep_mve_channels k = ep_mve_load(p->bias + c, p->multiplier + c, p->shift + c);
        const mve_pred16_t some = vctp32q((uint32_t)(width - c));
        const int32_t *from = sums + c;
        int8_t *to = out + c;
        for (int32_t i = 0; i < count; i++, from += step, to += width)
            vstrbq_p_s32(to, ep_mve_finish(vldrwq_s32(from), k, zero, low, high), some);
    }
}

EP_KERNEL void ep_conv_mve(const ep_conv *p, const int8_t *in, int8_t *out, int32_t *sums) {
    const int32_t pixels = p->out_h * p->out_w, size = p->kernel_h * p->kernel_w * p->in_c;
    int8_t *columns = (int8_t *)(sums + 4 * ((p->out_c + 3) & ~3));
    int32_t ox = 0, y = -p->pad_top;
    for (int32_t i = 0; i < pixels; i += 4, out += 4 * p->out_c) {
        const int32_t count = pixels - i < 4 ? pixels - i : 4;
        const int8_t *x[4];
        for (int32_t k = 0; k < 4; k++) {
            x[k] = columns + (k < count ? k : 0) * size;
            if (k >= count) continue;
            ep_mve_window(p, in, y, ox * p->stride_w - p->pad_left, columns + k * size);
            if (++ox == p->out_w) {
                ox = 0;
                y += p->stride_h;
            }
        }
        ep_mve_tile(p, x, size, sums, out, count);
    }
}

EP_KERNEL void ep_conv_mve_point(const ep_conv *p, const int8_t *in, int8_t *out, int32_t *sums) {
    const int32_t pixels = p->out_h * p->out_w;
    for (int32_t i = 0; i < pixels; i += 4, out += 4 * p->out_c, in += 4 * p->in_c) {
        const int32_t count = pixels - i < 4 ? pixels - i : 4;
        const int8_t *x[4];
        for (int32_t k = 0; k < 4; k++) x[k] = in + (k < count ? k : 0) * p->in_c;
        ep_mve_tile(p, x, p->in_c, sums, out, count);
    }
}

#endif
