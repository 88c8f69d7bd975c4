/* RISC-V vectors (Zve32x): output channels in the lanes, whatever their number; sums of 32 bits in groups of four
 * registers. */
#ifndef EP_RVV_BASE_H
#define EP_RVV_BASE_H

#include <riscv_vector.h>
#include <stddef.h>

#include "ep_base.h"

/* ep_rescale of each lane. VSMUL is the rounding doubling high product; the rounding shift goes half up, so what is
 * negative and shifted loses one first: half away from zero. */
EP_INLINE vint32m4_t ep_rvv_rescale(vint32m4_t x, const int32_t *multiplier, const int8_t *shift, size_t vl) {
    const vint32m4_t right = __riscv_vsext_vf4_i32m4(__riscv_vle8_v_i8m1(shift, vl), vl);
#ifdef EP_RVV_LEFT /* some layer multiplies by more than one */
    const vint32m4_t left = __riscv_vmax_vx_i32m4(__riscv_vneg_v_i32m4(right, vl), 0, vl);
    x = __riscv_vsll_vv_i32m4(x, __riscv_vreinterpret_v_i32m4_u32m4(left), vl);
#endif
    x = __riscv_vsmul_vv_i32m4(x, __riscv_vle32_v_i32m4(multiplier, vl), __RISCV_VXRM_RNU, vl);
    const vbool8_t shifted = __riscv_vmsgt_vx_i32m4_b8(right, 0, vl);
    x = __riscv_vadd_vv_i32m4_mu(shifted, x, x, __riscv_vsra_vx_i32m4(x, 31, vl), vl);
    const vint32m4_t amount = __riscv_vmax_vx_i32m4(right, 0, vl);
    return __riscv_vssra_vv_i32m4(x, __riscv_vreinterpret_v_i32m4_u32m4(amount), __RISCV_VXRM_RNU, vl);
}

EP_INLINE void ep_rvv_put(vint32m4_t y, int32_t zero, int32_t low, int32_t high, int8_t *out, size_t vl) {
    y = __riscv_vadd_vx_i32m4(y, zero, vl);
    y = __riscv_vmin_vx_i32m4(__riscv_vmax_vx_i32m4(y, low, vl), high, vl);
    __riscv_vse8_v_i8m1(out, __riscv_vncvt_x_x_w_i8m1(__riscv_vncvt_x_x_w_i16m2(y, vl), vl), vl);
}

/* A row of weights as 16 bits. */
EP_INLINE vint16m2_t ep_rvv_widened(const int8_t *row, size_t vl) {
    return __riscv_vsext_vf2_i16m2(__riscv_vle8_v_i8m1(row, vl), vl);
}

#endif
