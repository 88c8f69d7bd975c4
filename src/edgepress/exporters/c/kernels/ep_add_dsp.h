/* Addition by tables with the short rescale of DSP cores; no broadcast. */
#ifndef EP_ADD_DSP_H
#define EP_ADD_DSP_H

#include "ep_add.h"
#include "ep_dsp_base.h"

EP_KERNEL void ep_add_dsp(const ep_add *p, const int8_t *a, const int8_t *b, int8_t *out, int32_t *tables) {
    const int32_t *left = tables, *right = tables + 256;
    const int32_t multiplier = p->multiplier, shift = EP_DSP_SHIFT(p->shift), zero = p->out_zero;
    const int32_t low = p->low, high = p->high, narrow = low > -128 || high < 127;
    ep_add_tables(p, tables);
    for (const int8_t *end = a + p->size; a != end;) {
        const int32_t total = left[(uint8_t)*a++] + right[(uint8_t)*b++];
        int32_t y = ep_dsp_rescale(EP_DSP_DOUBLED(total), multiplier, shift, zero);
        if (narrow) y = ep_clamp(y, low, high);
        *out++ = (int8_t)y;
    }
}

#endif
