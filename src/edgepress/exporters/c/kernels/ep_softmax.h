/* Softmax over rows in fixed point, output scale 1/256 and zero point -128; gemmlowp's exp and reciprocal. */
#ifndef EP_SOFTMAX_H
#define EP_SOFTMAX_H

#include "ep_base.h"

typedef struct {
    int32_t rows, length, multiplier, left_shift, diff_min;
} ep_softmax;

EP_INLINE int32_t ep_saturating_left(int32_t x, int32_t bits) {
    const int64_t wide = (int64_t)x * ((int64_t)1 << bits);
    return wide > INT32_MAX ? INT32_MAX : (wide < INT32_MIN ? INT32_MIN : (int32_t)wide);
}

/* exp(a) in Q0.31 for a in [-1/4, 0) in Q0.31: Taylor series around -1/8 */
EP_INLINE int32_t ep_exp_quarter(int32_t a) {
    const int32_t x = a + (1 << 28), x2 = ep_high_product(x, x);
    const int32_t x3 = ep_high_product(x2, x), x4 = ep_high_product(x2, x2);
    const int32_t third = ep_high_product(ep_shift_right(x4, 2) + x3, 715827883);
    return 1895147668 + ep_high_product(x + ep_shift_right(third + x2, 1), 1895147668);
}

/* exp(a) in Q0.31 for a <= 0 in Q5.26 */
static __attribute__((noinline)) int32_t ep_exp_negative(int32_t a) {
    static const int32_t factors[7] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
    const int32_t quarter = 1 << 24, modulo = (a & (quarter - 1)) - quarter;
    const uint32_t remainder = (uint32_t)(modulo - a);
    int32_t result = ep_exp_quarter(ep_saturating_left(modulo, 5));
    if (a == 0) return INT32_MAX;
    for (uint32_t i = 0; i < 7; i++)
        if (remainder >> (24 + i) & 1u) result = ep_high_product(result, factors[i]);
    return result;
}

/* 1 / (1 + a) in Q0.31 for a in [0, 1): Newton */
EP_INLINE int32_t ep_reciprocal(int32_t a) {
    const int32_t half = (int32_t)(((int64_t)a + INT32_MAX + 1) / 2);
    int32_t x = 1515870810 + ep_high_product(half, -1010580540);
    for (int32_t i = 0; i < 3; i++) {
        const int32_t residue = (1 << 29) - ep_high_product(half, x);
        x += ep_saturating_left(ep_high_product(x, residue), 2);
    }
    return ep_saturating_left(x, 1);
}

EP_INLINE int32_t ep_softmax_exp(const ep_softmax *p, int32_t diff) {
    return ep_exp_negative(ep_high_product(diff * ((int32_t)1 << p->left_shift), p->multiplier));
}

EP_INLINE void ep_softmax_row(const ep_softmax *p, const int8_t *in, int8_t *out) {
    int32_t best = -128, headroom = 0;
    uint32_t total = 0;
    for (int32_t i = 0; i < p->length; i++) best = in[i] > best ? in[i] : best;
    for (int32_t i = 0; i < p->length; i++)
        if (in[i] - best >= p->diff_min) total += (uint32_t)ep_shift_right(ep_softmax_exp(p, in[i] - best), 12);
    while (!(total >> (31 - headroom) & 1u)) headroom++;
    const int32_t scale = ep_reciprocal((int32_t)((total << headroom) - (1u << 31)));
    for (int32_t i = 0; i < p->length; i++) {
        int32_t y = -128;
        if (in[i] - best >= p->diff_min)
            y += ep_shift_right(ep_high_product(scale, ep_softmax_exp(p, in[i] - best)), 35 - headroom);
        out[i] = ep_clamp(y, -128, 127);
    }
}

EP_KERNEL void ep_softmax_ref(const ep_softmax *p, const int8_t *in, int8_t *out) {
    for (int32_t row = 0; row < p->rows; row++, in += p->length, out += p->length) ep_softmax_row(p, in, out);
}

#endif
