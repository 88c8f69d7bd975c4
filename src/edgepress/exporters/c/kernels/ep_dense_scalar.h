/* One row times a matrix, two output channels at a time; weight per pair: [inputs][2], or with four bits
 * per weight [inputs], channel a in the low half of a byte. */
#ifndef EP_DENSE_SCALAR_H
#define EP_DENSE_SCALAR_H

#include "ep_dense_ref.h"

EP_INLINE void ep_dense_scalar_put(const ep_dense *p, int32_t total, int32_t c, int8_t *out) {
    out[c] = ep_clamp(ep_rescale(total, p->multiplier[c], p->shift[c]) + p->out_zero, p->low, p->high);
}

EP_INLINE void ep_dense_scalar_pairs(const ep_dense *p, const int8_t *in, int8_t *out, int nibbles) {
    const int8_t *w = p->weight;
    for (int32_t c = 0; c < p->out_c; c += 2) {
        const int8_t *end = in + p->in_c;
        int32_t a = p->bias[c], b = p->bias[c + 1];
        for (const int8_t *x = in; x != end; w += nibbles ? 1 : 2) {
            const int32_t v = *x++;
            a += v * (nibbles ? ep_low_nibble(w[0]) : w[0]);
            b += v * (nibbles ? w[0] >> 4 : w[1]);
        }
        ep_dense_scalar_put(p, a, c, out);
        if (c + 1 < p->out_c) ep_dense_scalar_put(p, b, c + 1, out);
    }
}

EP_KERNEL void ep_dense_scalar(const ep_dense *p, const int8_t *in, int8_t *out) { ep_dense_scalar_pairs(p, in, out, 0); }

EP_KERNEL void ep_dense_scalar4(const ep_dense *p, const int8_t *in, int8_t *out) { ep_dense_scalar_pairs(p, in, out, 1); }

#endif
