/* Convolution of any shape. The rows of a window (kernel_w * in_c bytes each) are widened in whole words; what is left of
 * all rows follows, filled up to a multiple of 4 whose weights are 0: the order of the weights. Tile: ep_conv_dsp.h. */
#ifndef EP_CONV_DSP_WINDOW_H
#define EP_CONV_DSP_WINDOW_H

#include "ep_conv_dsp.h"

/* One row of a window, put together: where it hangs out of the image, or is dilated. */
static __attribute__((noinline, unused)) const int8_t *ep_dsp_border(const ep_conv *p, const int8_t *in, int32_t y, int32_t x, int8_t *to) {
    const uint32_t zero = (uint32_t)(p->in_zero & 0xff) * 0x01010101u;
    int8_t *at = to;
    for (int32_t kx = 0; kx < p->kernel_w; kx++, x += p->dilation_w) {
        const int inside = y >= 0 && y < p->in_h && x >= 0 && x < p->in_w;
        const int8_t *from = in + (y * p->in_w + x) * p->in_c;
        int32_t c = p->in_c;
        for (; c >= 4; c -= 4, at += 4, from += 4) {
            const uint32_t word = inside ? ep_load32(from) : zero;
            __builtin_memcpy(at, &word, 4);
        }
        for (; c > 0; c--, at++, from++) *at = inside ? *from : (int8_t)p->in_zero;
    }
    return to;
}

/* Sizes of a window in bytes, and scratch for a row of it and for what is left of the rows of two. */
typedef struct {
    int32_t words, left, rest; /* of a row; of all rows, in words */
    int8_t *row, *first, *second;
} ep_dsp_row;

EP_INLINE void ep_dsp_window(const ep_conv *p, const ep_dsp_row *w, const int8_t *in, int32_t y, int32_t x, uint32_t *to) {
    const int across = p->dilation_w == 1 && x >= 0 && x + p->kernel_w <= p->in_w;
    int8_t *left = w->first;
    for (int32_t ky = 0; ky < p->kernel_h; ky++, y += p->dilation_h) {
        const int8_t *from = in + (y * p->in_w + x) * p->in_c;
        if (!across || y < 0 || y >= p->in_h) from = ep_dsp_border(p, in, y, x, w->row);
        to = ep_dsp_widen(to, from, w->words);
        from += 4 * w->words;
        for (int32_t i = w->left; i > 0; i--) *left++ = *from++;
    }
    ep_dsp_widen(to, w->first, w->rest);
}

/* Two neighbours that lie inside the image */
EP_INLINE void ep_dsp_windows(const ep_conv *p, const ep_dsp_row *w, const int8_t *from, uint32_t *to) {
    const int32_t row = p->dilation_h * p->in_w * p->in_c - 4 * w->words, next = p->stride_w * p->in_c;
    int8_t *first = w->first, *second = w->second;
    for (int32_t ky = p->kernel_h; ky > 0; ky--, from += row) {
        to = ep_dsp_widen_both(to, from, from + next, w->words);
        from += 4 * w->words;
        for (int32_t i = 0; i < w->left; i++) {
            *first++ = from[i];
            *second++ = from[next + i];
        }
    }
    ep_dsp_widen_both(to, w->first, w->second, w->rest);
}

EP_KERNEL void ep_conv_dsp_window(const ep_conv *p, const int8_t *in, int8_t *out, uint32_t *columns) {
    const int32_t bytes = p->kernel_w * p->in_c, words = (p->kernel_h * bytes + 3) >> 2;
    const int32_t rest = (p->kernel_h * (bytes & 3) + 3) >> 2;
    const int32_t lowest = p->in_h - 1 - (p->kernel_h - 1) * p->dilation_h; /* row and column where windows still fit */
    const int32_t last = p->dilation_w == 1 ? p->in_w - p->stride_w - p->kernel_w : -1;
    ep_quads tile = ep_dsp_tile(p, words);
    int8_t *spare = (int8_t *)(columns + 4 * words), *row = spare + 8, *first = row + ((bytes + 3) & ~3), *to = out;
    const ep_dsp_row w = {bytes >> 2, bytes & 3, rest, row, first, first + 4 * rest};
    int32_t ox = 0, y = -p->pad_top;
    for (int32_t left = p->out_h * p->out_w; left > 0; left -= 2, to += 2 * p->out_c) {
        const int32_t x = ox * p->stride_w - p->pad_left;
        if (left == 1) tile.step = 0;
        if (x >= 0 && x <= last && ox + 1 < p->out_w && y >= 0 && y <= lowest) {
            ep_dsp_windows(p, &w, in + (y * p->in_w + x) * p->in_c, columns);
            ox += 2;
        } else {
            for (int32_t k = 0; k < 2 && k < left; k++, ox++) {
                if (ox == p->out_w) {
                    ox = 0;
                    y += p->stride_h;
                }
                ep_dsp_window(p, &w, in, y, ox * p->stride_w - p->pad_left, columns + k);
            }
        }
        if (ox == p->out_w) {
            ox = 0;
            y += p->stride_h;
        }
        ep_dsp_finish(p, &tile, columns, to, spare);
    }
    ep_dsp_limit(p, out);
}

#endif
