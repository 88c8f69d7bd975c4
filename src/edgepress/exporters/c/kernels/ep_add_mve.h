/* a + b or a - b with Helium, four at a time, no tables; no broadcast. Factors shift right only. */
#ifndef EP_ADD_MVE_H
#define EP_ADD_MVE_H

#include "ep_add.h"
#include "ep_mve_base.h"

EP_INLINE int32x4_t ep_add_mve_operand(const int8_t *from, mve_pred16_t some, int32_t zero, int32_t left, int32_t multiplier, int32_t shift) {
    const int32x4_t x = vshlq_r_s32(vsubq_n_s32(vldrbq_z_s32(from, some), zero), left);
    return ep_mve_rescale(x, vdupq_n_s32(multiplier), vdupq_n_s32(shift));
}

EP_KERNEL void ep_add_mve(const ep_add *p, const int8_t *a, const int8_t *b, int8_t *out) {
    for (int32_t left = p->size; left > 0; left -= 4, a += 4, b += 4, out += 4) {
        const mve_pred16_t some = vctp32q((uint32_t)left);
        const int32x4_t x = ep_add_mve_operand(a, some, p->a_zero, p->left_shift, p->a_multiplier, p->a_shift);
        const int32x4_t y = ep_add_mve_operand(b, some, p->b_zero, p->left_shift, p->b_multiplier, p->b_shift);
        const int32x4_t total = p->b_sign < 0 ? vsubq_s32(x, y) : vaddq_s32(x, y);
        const int32x4_t z = ep_mve_rescale(total, vdupq_n_s32(p->multiplier), vdupq_n_s32(p->shift));
        vstrbq_p_s32(out, ep_mve_clamp(vaddq_n_s32(z, p->out_zero), p->low, p->high), some);
    }
}

#endif
