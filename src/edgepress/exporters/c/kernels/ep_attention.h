/* softmax(q k^T * factor) v, one row of q at a time: scores stay int32, probabilities are Q0.15, and only one row of
 * them is ever held (scratch). q [batch][rows][depth], k [batch][columns][depth], v [batch][columns][width]. */
#ifndef EP_ATTENTION_H
#define EP_ATTENTION_H

#include "ep_dot.h"
#include "ep_exp.h"

typedef struct {
    ep_exp exp; /* from products to Q5.26 */
    int32_t batch, rows, columns, depth, width, causal;
    int32_t q_zero, v_zero, multiplier, shift, out_zero;
} ep_attention;

/* Scores of one row, less what all of them have in common: softmax does not see it. */
EP_INLINE int32_t ep_attention_scores(const ep_attention *p, const int8_t *q, const int8_t *k, int32_t seen, int32_t *scores) {
    int32_t best = INT32_MIN;
    for (int32_t j = 0; j < seen; j++, k += p->depth) {
        int32_t total = 0;
        if (p->q_zero) {
            for (int32_t d = 0; d < p->depth; d++) total -= k[d];
            total *= p->q_zero;
        }
        scores[j] = total = ep_dot8(q, k, p->depth, total);
        if (total > best) best = total;
    }
    return best;
}

/* Scores become probabilities in Q0.15. */
EP_INLINE void ep_attention_softmax(const ep_attention *p, int32_t seen, int32_t best, int32_t *scores) {
    uint32_t total = 0;
    for (int32_t j = 0; j < seen; j++) {
        const int32_t diff = scores[j] - best;
        scores[j] = diff >= p->exp.diff_min ? ep_exp_scaled(&p->exp, diff) : 0;
        total += ep_exp_part(scores[j]);
    }
    const ep_share share = ep_share_of(total, 15);
    for (int32_t j = 0; j < seen; j++) scores[j] = ep_shift_right(ep_high_product(share.scale, scores[j]), share.shift);
}

EP_INLINE void ep_attention_put(const ep_attention *p, int32_t total, int8_t *out) {
    *out = ep_clamp(ep_rescale(total, p->multiplier, p->shift) + p->out_zero, -128, 127);
}

EP_KERNEL void ep_attention_row(const ep_attention *p, const int8_t *q, const int8_t *k, const int8_t *v, int32_t seen, int8_t *out, int32_t *scores) {
    const int32_t best = ep_attention_scores(p, q, k, seen, scores), width = p->width;
    int32_t share = 0, e = 0;
    ep_attention_softmax(p, seen, best, scores);
    for (int32_t j = 0; j < seen; j++) share += scores[j];
    share *= -p->v_zero;
    for (; e + 4 <= width; e += 4) { /* four columns of v at a time */
        int32_t a = share, b = share, c = share, d = share;
        const int8_t *from = v + e;
        for (int32_t j = 0; j < seen; j++, from += width) {
            const int32_t part = scores[j];
            a += part * from[0];
            b += part * from[1];
            c += part * from[2];
            d += part * from[3];
        }
        ep_attention_put(p, a, out + e);
        ep_attention_put(p, b, out + e + 1);
        ep_attention_put(p, c, out + e + 2);
        ep_attention_put(p, d, out + e + 3);
    }
    for (; e < width; e++) {
        int32_t total = share;
        for (int32_t j = 0; j < seen; j++) total += scores[j] * v[j * width + e];
        ep_attention_put(p, total, out + e);
    }
}

EP_KERNEL void ep_attention_ref(const ep_attention *p, const int8_t *q, const int8_t *k, const int8_t *v, int8_t *out, int32_t *scores) {
    for (int32_t batch = 0; batch < p->batch; batch++) {
        for (int32_t i = 0; i < p->rows; i++, q += p->depth, out += p->width) {
            const int32_t seen = p->causal && i < p->columns ? i + 1 : p->columns;
            ep_attention_row(p, q, k, v, seen, out, scores);
        }
        k += p->columns * p->depth;
        v += p->columns * p->width;
    }
}

#endif
