/* One row times a matrix with Helium, four output channels at a time. weight [out_c, a multiple of 4][in_c]. */
#ifndef EP_DENSE_MVE_H
#define EP_DENSE_MVE_H

#include "ep_dense_ref.h"
#include "ep_mve_base.h"

EP_KERNEL void ep_dense_mve(const ep_dense *p, const int8_t *in, int8_t *out) {
    const int8_t *w = p->weight;
    for (int32_t c = 0; c < p->out_c; c += 4, w += 4 * p->in_c) {
        const int8_t *const rows[4] = {w, w + p->in_c, w + 2 * p->in_c, w + 3 * p->in_c};
        int32_t sums[4];
        const int32_t count = p->out_c - c < 4 ? p->out_c - c : 4;
        ep_mve_dot4(in, rows, p->in_c, sums, 1);
        const ep_mve_channels k = ep_mve_load(p->bias + c, p->multiplier + c, p->shift + c);
        const int32x4_t y = ep_mve_finish(vldrwq_s32(sums), k, p->out_zero, p->low, p->high);
        vstrbq_p_s32(out + c, y, vctp32q((uint32_t)count));
    }
}

#endif
