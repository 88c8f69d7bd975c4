/* Batched product of two activations: a [batch][m][k], b [batch][k][n] or, transposed, [batch][n][k]. */
#ifndef EP_MATMUL_REF_H
#define EP_MATMUL_REF_H

#include "ep_base.h"

typedef struct {
    int32_t batch, m, k, n, b_step_k, b_step_n;
    int32_t a_zero, b_zero, multiplier, shift, out_zero;
} ep_matmul;

EP_KERNEL void ep_matmul_ref(const ep_matmul *p, const int8_t *a, const int8_t *b, int8_t *out) {
    for (int32_t batch = 0; batch < p->batch; batch++, b += p->k * p->n)
        for (int32_t i = 0; i < p->m; i++, a += p->k)
            for (int32_t j = 0; j < p->n; j++) {
                int32_t total = 0;
                for (int32_t k = 0; k < p->k; k++)
                    total += (a[k] - p->a_zero) * (b[k * p->b_step_k + j * p->b_step_n] - p->b_zero);
                *out++ = ep_clamp(ep_rescale(total, p->multiplier, p->shift) + p->out_zero, -128, 127);
            }
}

#endif
