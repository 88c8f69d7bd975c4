/* One row times a matrix with RISC-V vectors, output channels in the lanes. weight [in_c][out_c]. */
#ifndef EP_DENSE_RVV_H
#define EP_DENSE_RVV_H

#include "ep_dense_ref.h"
#include "ep_rvv_base.h"

EP_KERNEL void ep_dense_rvv(const ep_dense *p, const int8_t *in, int8_t *out) {
    size_t vl;
    for (int32_t c = 0; c < p->out_c; c += (int32_t)vl) {
        vl = __riscv_vsetvl_e8m1((size_t)(p->out_c - c));
        vint32m4_t total = __riscv_vle32_v_i32m4(p->bias + c, vl);
        const int8_t *w = p->weight + c;
        for (const int8_t *x = in, *end = in + p->in_c; x != end; w += p->out_c)
            total = __riscv_vwmacc_vx_i32m4(total, *x++, ep_rvv_widened(w, vl), vl);
        const vint32m4_t y = ep_rvv_rescale(total, p->multiplier + c, p->shift + c, vl);
        ep_rvv_put(y, p->out_zero, p->low, p->high, out + c, vl);
    }
}

#endif
