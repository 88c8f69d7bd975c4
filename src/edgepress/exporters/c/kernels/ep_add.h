/* a + b, a - b or b - a with scales of their own. Each operand takes only 256 values: its rescaled form is tabulated first
 * (2 KB of scratch), then an element costs two loads, one addition and one rescale. b may repeat (broadcast). */
#ifndef EP_ADD_H
#define EP_ADD_H

#include "ep_base.h"

typedef struct {
    int32_t size, repeat; /* b has `repeat` elements and starts over after them; repeat = size: no broadcast */
    int32_t a_zero, a_multiplier, a_shift, b_zero, b_multiplier, b_shift, left_shift, a_sign, b_sign;
    int32_t multiplier, shift, out_zero, low, high;
} ep_add;

EP_INLINE void ep_add_table(int32_t *table, int32_t zero, int32_t left_shift, int32_t multiplier, int32_t shift, int32_t sign) {
    for (int32_t v = 0; v < 256; v++) {
        const int32_t x = (int32_t)(int8_t)v - zero;
        table[v] = sign * ep_rescale(x * ((int32_t)1 << left_shift), multiplier, shift);
    }
}

EP_KERNEL void ep_add_tables(const ep_add *p, int32_t *tables) {
    ep_add_table(tables, p->a_zero, p->left_shift, p->a_multiplier, p->a_shift, p->a_sign);
    ep_add_table(tables + 256, p->b_zero, p->left_shift, p->b_multiplier, p->b_shift, p->b_sign);
}

EP_KERNEL void ep_add_ref(const ep_add *p, const int8_t *a, const int8_t *b, int8_t *out, int32_t *tables) {
    ep_add_tables(p, tables);
    for (int32_t i = 0, j = 0; i < p->size; i++) {
        const int32_t total = tables[(uint8_t)a[i]] + tables[256 + (uint8_t)b[j]];
        out[i] = ep_clamp(ep_rescale(total, p->multiplier, p->shift) + p->out_zero, p->low, p->high);
        if (++j == p->repeat) j = 0;
    }
}

#endif
