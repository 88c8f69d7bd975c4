/* a + b or a - b with RISC-V vectors; no broadcast, no factor above one. */
#ifndef EP_ADD_RVV_H
#define EP_ADD_RVV_H

#include "ep_add.h"
#include "ep_rvv_base.h"

EP_INLINE vint32m4_t ep_rvv_scaled(vint32m4_t x, int32_t multiplier, int32_t right, size_t vl) {
    x = __riscv_vsmul_vx_i32m4(x, multiplier, __RISCV_VXRM_RNU, vl);
    if (right == 0) return x;
    x = __riscv_vadd_vv_i32m4(x, __riscv_vsra_vx_i32m4(x, 31, vl), vl);
    return __riscv_vssra_vx_i32m4(x, (size_t)right, __RISCV_VXRM_RNU, vl);
}

EP_INLINE vint32m4_t ep_rvv_addend(const int8_t *from, int32_t zero, int32_t left, int32_t multiplier, int32_t right, size_t vl) {
    const vint32m4_t x = __riscv_vsext_vf4_i32m4(__riscv_vle8_v_i8m1(from, vl), vl);
    const vint32m4_t lifted = __riscv_vsll_vx_i32m4(__riscv_vsub_vx_i32m4(x, zero, vl), (size_t)left, vl);
    return ep_rvv_scaled(lifted, multiplier, right, vl);
}

EP_KERNEL void ep_add_rvv(const ep_add *p, const int8_t *a, const int8_t *b, int8_t *out) {
    size_t vl;
    for (int32_t left = p->size; left > 0; left -= (int32_t)vl, a += vl, b += vl, out += vl) {
        vl = __riscv_vsetvl_e8m1((size_t)left);
        const vint32m4_t x = ep_rvv_addend(a, p->a_zero, p->left_shift, p->a_multiplier, p->a_shift, vl);
        const vint32m4_t y = ep_rvv_addend(b, p->b_zero, p->left_shift, p->b_multiplier, p->b_shift, vl);
        const vint32m4_t total = p->b_sign < 0 ? __riscv_vsub_vv_i32m4(x, y, vl) : __riscv_vadd_vv_i32m4(x, y, vl);
        ep_rvv_put(ep_rvv_scaled(total, p->multiplier, p->shift, vl), p->out_zero, p->low, p->high, out, vl);
    }
}

#endif
