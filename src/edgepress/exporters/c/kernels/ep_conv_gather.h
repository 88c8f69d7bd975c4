/* The window of one output pixel as bytes, EP_TILE_PIXELS apart, so that a tile's pixels interleave. */
#ifndef EP_CONV_GATHER_H
#define EP_CONV_GATHER_H

#include "ep_base.h"

EP_INLINE int8_t *ep_gather_copy(int8_t *to, const int8_t *from, int32_t size) {
    for (; size >= 4; size -= 4, from += 4, to += 4 * EP_TILE_PIXELS) {
        to[0] = from[0];
        to[EP_TILE_PIXELS] = from[1];
        to[2 * EP_TILE_PIXELS] = from[2];
        to[3 * EP_TILE_PIXELS] = from[3];
    }
    for (; size > 0; size--, to += EP_TILE_PIXELS) *to = *from++;
    return to;
}

EP_INLINE int8_t *ep_gather_fill(int8_t *to, int32_t value, int32_t size) {
    for (; size > 0; size--, to += EP_TILE_PIXELS) *to = (int8_t)value;
    return to;
}

EP_KERNEL void ep_gather_window(const ep_conv *p, const int8_t *in, int32_t y, int32_t x, int8_t *to) {
    for (int32_t ky = 0; ky < p->kernel_h; ky++, y += p->dilation_h) {
        const int8_t *row = in + (y * p->in_w + x) * p->in_c;
        const int row_inside = y >= 0 && y < p->in_h;
        if (p->dilation_w == 1 && row_inside && x >= 0 && x + p->kernel_w <= p->in_w) {
            to = ep_gather_copy(to, row, p->kernel_w * p->in_c);
            continue;
        }
        for (int32_t kx = 0; kx < p->kernel_w; kx++, row += p->dilation_w * p->in_c) {
            const int32_t column = x + kx * p->dilation_w;
            if (row_inside && column >= 0 && column < p->in_w) to = ep_gather_copy(to, row, p->in_c);
            else to = ep_gather_fill(to, p->in_zero, p->in_c);
        }
    }
}

/* Where the next output pixel lies: its column, and the first input row of its window. */
typedef struct {
    int32_t x, y;
} ep_cursor;

EP_INLINE void ep_gather_next(const ep_conv *p, const int8_t *in, ep_cursor *at, int8_t *to) {
    ep_gather_window(p, in, at->y, at->x * p->stride_w - p->pad_left, to);
    if (++at->x == p->out_w) {
        at->x = 0;
        at->y += p->stride_h;
    }
}

#endif
