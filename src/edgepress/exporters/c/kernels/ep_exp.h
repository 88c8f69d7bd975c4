/* exp and 1 / (1 + x) in fixed point (gemmlowp), and what softmax makes of them. */
#ifndef EP_EXP_H
#define EP_EXP_H

#include "ep_base.h"

typedef struct {
    int32_t multiplier, left_shift, diff_min; /* from a difference to Q5.26; below diff_min exp counts as 0 */
} ep_exp;

/* value / sum = value * scale >> 31 >> shift */
typedef struct {
    int32_t scale, shift;
} ep_share;

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
    int32_t result = ep_exp_quarter(modulo * 32);
    if (a == 0) return INT32_MAX;
    for (uint32_t i = 0; i < 7; i++)
        if (remainder >> (24 + i) & 1u) result = ep_high_product(result, factors[i]);
    return result;
}

/* 1 / (1 + a) in Q0.31 for a in [0, 1): Newton */
EP_INLINE int32_t ep_reciprocal(int32_t a) {
    const int32_t half = (int32_t)(((uint32_t)a + (1u << 31)) >> 1);
    int32_t x = 1515870810 + ep_high_product(half, -1010580540);
    for (int32_t i = 0; i < 3; i++) {
        const int32_t residue = (1 << 29) - ep_high_product(half, x);
        x += ep_saturating_left(ep_high_product(x, residue), 2);
    }
    return ep_saturating_left(x, 1);
}

/* exp of a difference <= 0, Q0.31 */
EP_INLINE int32_t ep_exp_scaled(const ep_exp *p, int32_t diff) {
    return ep_exp_negative(ep_high_product(diff * ((int32_t)1 << p->left_shift), p->multiplier));
}

/* An exp as a part of their sum in Q12.19. */
EP_INLINE uint32_t ep_exp_part(int32_t exp) { return ((uint32_t)exp + (1u << 11)) >> 12; }

/* What turns exps into shares with `bits` fractional bits; total: their sum in Q12.19. */
EP_INLINE ep_share ep_share_of(uint32_t total, int32_t bits) {
    int32_t headroom = 0;
    while (!(total >> (31 - headroom) & 1u)) headroom++;
    const ep_share share = {ep_reciprocal((int32_t)((total << headroom) - (1u << 31))), 43 - headroom - bits};
    return share;
}

#endif
