/* Sums of products over any axes; each sum is rescaled, or looked up in a staircase: the value of the last step that
 * does not start behind it. */
#ifndef EP_CONTRACT_H
#define EP_CONTRACT_H

#include "ep_loops.h"

EP_INLINE int32_t ep_contract_sum(const ep_loops *p, const int8_t *a, const int8_t *b) {
    int32_t total = 0;
    for (int32_t i = 0; i < p->summed[0]; i++)
        for (int32_t j = 0; j < p->summed[1]; j++) {
            const int8_t *x = a + i * p->a_summed[0] + j * p->a_summed[1];
            const int8_t *y = b + i * p->b_summed[0] + j * p->b_summed[1];
            for (int32_t k = 0; k < p->summed[2]; k++, x += p->a_summed[2], y += p->b_summed[2])
                total += (*x - p->a_zero) * (*y - p->b_zero);
        }
    return total;
}

EP_KERNEL void ep_contract_ref(const ep_loops *p, const int8_t *a, const int8_t *b, int8_t *out) {
    ep_place at = {{0, 0, 0, 0, 0}};
    do {
        const int32_t total = ep_contract_sum(p, a, b);
        *out++ = ep_clamp(ep_rescale(total, p->multiplier, p->shift) + p->out_zero, p->low, p->high);
    } while (ep_next(p, &at, &a, &b));
}

EP_KERNEL void ep_contract_stairs(const ep_loops *p, const int8_t *a, const int8_t *b, const int32_t *starts,
                                  const int8_t *values, int8_t *out) {
    ep_place at = {{0, 0, 0, 0, 0}};
    do {
        const int32_t total = ep_contract_sum(p, a, b);
        int32_t low = 0, high = p->stairs;
        while (high - low > 1) {
            const int32_t middle = (low + high) / 2;
            if (starts[middle] <= total)
                low = middle;
            else
                high = middle;
        }
        *out++ = values[low];
    } while (ep_next(p, &at, &a, &b));
}

#endif
