/* Convolution on cores without SIMD: tiles of two output channels x EP_TILE_PIXELS pixels (4, or 2 where registers are
 * few), sums in registers. The windows of a tile are gathered as bytes; an input of all its pixels lies together.
 * weight, per channel pair: [inputs][2], or with four bits per weight [inputs], channel a in the low half of a byte.
 * Channels are padded to an even number. */
#ifndef EP_CONV_SCALAR_H
#define EP_CONV_SCALAR_H

#include "ep_conv_gather.h"

#if EP_TILE_PIXELS == 4
#define EP_EACH_PIXEL(DO) DO(0) DO(1) DO(2) DO(3)
#else
#define EP_EACH_PIXEL(DO) DO(0) DO(1)
#endif

EP_INLINE void ep_scalar_put(const ep_conv *p, int32_t total, int32_t channel, int8_t *out) {
    const int32_t y = ep_rescale(total, p->multiplier[channel], p->shift[channel]) + p->out_zero;
    out[channel] = ep_clamp(y, p->low, p->high);
}

/* All channels of the tile's pixels; only the first `count` are written. `nibbles` is a constant of the caller's. */
EP_INLINE void ep_scalar_tile_of(const ep_conv *p, const int8_t *columns, int32_t size, int8_t *out, int32_t count, int nibbles) {
    const int8_t *w = p->weight;
    for (int32_t c = 0; c < p->out_c; c += 2) {
        const int8_t *x = columns, *end = columns + EP_TILE_PIXELS * size;
        int32_t sums[2 * EP_TILE_PIXELS];
#define EP_DECLARE(I) int32_t a##I = p->bias[c], b##I = p->bias[c + 1];
        EP_EACH_PIXEL(EP_DECLARE)
        while (x != end) {
            const int32_t wa = nibbles ? ep_low_nibble(w[0]) : w[0], wb = nibbles ? w[0] >> 4 : w[1];
            w += nibbles ? 1 : 2;
#define EP_STEP_SCALAR(I) \
    { \
        const int32_t v = *x++; \
        a##I += wa * v; \
        b##I += wb * v; \
    }
            EP_EACH_PIXEL(EP_STEP_SCALAR)
        }
#define EP_KEEP(I) sums[2 * I] = a##I, sums[2 * I + 1] = b##I;
        EP_EACH_PIXEL(EP_KEEP)
        int8_t *to = out;
        for (int32_t i = 0; i < count; i++, to += p->out_c) {
            ep_scalar_put(p, sums[2 * i], c, to);
            if (c + 1 < p->out_c) ep_scalar_put(p, sums[2 * i + 1], c + 1, to);
        }
    }
}

EP_KERNEL void ep_scalar_tile(const ep_conv *p, const int8_t *columns, int32_t size, int8_t *out, int32_t count) {
    ep_scalar_tile_of(p, columns, size, out, count, 0);
}

EP_KERNEL void ep_scalar_tile4(const ep_conv *p, const int8_t *columns, int32_t size, int8_t *out, int32_t count) {
    ep_scalar_tile_of(p, columns, size, out, count, 1);
}

EP_INLINE void ep_conv_scalar_tiles(const ep_conv *p, const int8_t *in, int8_t *out, int8_t *columns, int nibbles) {
    const int32_t pixels = p->out_h * p->out_w, size = p->kernel_h * p->kernel_w * p->in_c;
    ep_cursor at = {0, -p->pad_top};
    for (int32_t i = 0; i < pixels; i += EP_TILE_PIXELS) {
        const int32_t count = pixels - i < EP_TILE_PIXELS ? pixels - i : EP_TILE_PIXELS;
        for (int32_t k = 0; k < count; k++) ep_gather_next(p, in, &at, columns + k);
        if (nibbles) ep_scalar_tile4(p, columns, size, out, count);
        else ep_scalar_tile(p, columns, size, out, count);
        out += EP_TILE_PIXELS * p->out_c;
    }
}

EP_KERNEL void ep_conv_scalar(const ep_conv *p, const int8_t *in, int8_t *out, int8_t *columns) {
    ep_conv_scalar_tiles(p, in, out, columns, 0);
}

EP_KERNEL void ep_conv_scalar4(const ep_conv *p, const int8_t *in, int8_t *out, int8_t *columns) {
    ep_conv_scalar_tiles(p, in, out, columns, 1);
}

#endif
