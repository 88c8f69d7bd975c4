/* Layer normalization of rows: mean, variance and the root are exact integers; a normalized value is Q.16.
 * gamma and beta are in steps of the output, times 2^bits. */
#ifndef EP_LAYER_NORM_H
#define EP_LAYER_NORM_H

#include "ep_base.h"

typedef struct {
    const int16_t *gamma;
    const int32_t *beta;
    int64_t epsilon; /* times length^2, in squared steps of the input */
    int32_t rows, length, bits, out_zero;
} ep_layer_norm;

/* floor(sqrt(x)) for x in [2^60, 2^62), bit by bit */
EP_INLINE uint32_t ep_root(uint64_t x) {
    uint64_t root = 0;
    for (uint64_t bit = (uint64_t)1 << 60; bit; bit >>= 2) {
        const uint64_t trial = root + bit;
        root >>= 1;
        if (x >= trial) {
            x -= trial;
            root += bit;
        }
    }
    return (uint32_t)root;
}

EP_KERNEL void ep_layer_norm_row(const ep_layer_norm *p, const int8_t *in, int8_t *out) {
    int32_t total = 0, squares = 0, half = 0;
    for (int32_t i = 0; i < p->length; i++) {
        total += in[i];
        squares += in[i] * in[i];
    }
    int64_t variance = (int64_t)p->length * squares - (int64_t)total * total + p->epsilon;
    if (variance < 1) variance = 1;
    while (variance < (int64_t)1 << 60) {
        variance *= 4;
        half++;
    }
    const int64_t inverse = (int64_t)(((uint64_t)1 << 61) / ep_root((uint64_t)variance));
    const int32_t shift = 45 - half, last = 16 + p->bits;
    for (int32_t i = 0; i < p->length; i++) {
        const int64_t x = ((p->length * in[i] - total) * inverse + ((int64_t)1 << (shift - 1))) >> shift;
        const int64_t y = x * p->gamma[i] + (int64_t)p->beta[i] * 65536 + ((int64_t)1 << (last - 1));
        const int64_t z = (y >> last) + p->out_zero;
        out[i] = (int8_t)(z < -128 ? -128 : (z > 127 ? 127 : z));
    }
}

EP_KERNEL void ep_layer_norm_ref(const ep_layer_norm *p, const int8_t *in, int8_t *out) {
    for (int32_t row = 0; row < p->rows; row++, in += p->length, out += p->length) ep_layer_norm_row(p, in, out);
}

#endif
