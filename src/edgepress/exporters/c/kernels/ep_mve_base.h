/* Helium (MVE): dot products of 16 int8, and the rescale of four sums at once.
 *
 * VQRDMULH is gemmlowp's rounding doubling high product; VRSHL rounds half up, so negative values are lowered by one
 * before it (half away from zero). Under the exporter's conditions (right shifts >= 0; single rounding: >= 2) both
 * roundings equal ep_rescale. */
#ifndef EP_MVE_BASE_H
#define EP_MVE_BASE_H

#include "ep_base.h"
#include <arm_mve.h>

EP_INLINE int32x4_t ep_mve_rescale(int32x4_t x, int32x4_t multiplier, int32x4_t right) {
#ifdef EP_SINGLE_ROUNDING
    return vrshlq_s32(vmulhq_s32(x, multiplier), vsubq_s32(vdupq_n_s32(1), right));
#else
    const int32x4_t left = vnegq_s32(right), high = vqrdmulhq_s32(x, multiplier);
    return vrshlq_s32(vqaddq_s32(high, vshrq_n_s32(vandq_s32(high, left), 31)), left);
#endif
}

EP_INLINE int32x4_t ep_mve_clamp(int32x4_t x, int32_t low, int32_t high) {
    return vminq_s32(vmaxq_s32(x, vdupq_n_s32(low)), vdupq_n_s32(high));
}

/* Four dot products with one vector w, added to nothing: sums[i * step]. Tail-predicated: size need not be a multiple
 * of 16 and nothing is read beyond. */
EP_INLINE void ep_mve_dot4(const int8_t *w, const int8_t *const x[4], int32_t size, int32_t *sums, int32_t step) {
    const int8_t *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    __asm__ volatile("dlstp.8 lr, %[size]\n"
                     "1:\n\t"
                     "vldrb.8 q0, [%[w]], #16\n\t"
                     "vldrb.8 q1, [%[x0]], #16\n\t"
                     "vmladava.s8 %[s0], q0, q1\n\t"
                     "vldrb.8 q2, [%[x1]], #16\n\t"
                     "vmladava.s8 %[s1], q0, q2\n\t"
                     "vldrb.8 q3, [%[x2]], #16\n\t"
                     "vmladava.s8 %[s2], q0, q3\n\t"
                     "vldrb.8 q1, [%[x3]], #16\n\t"
                     "vmladava.s8 %[s3], q0, q1\n\t"
                     "letp lr, 1b"
                     : [w] "+r"(w), [x0] "+r"(x0), [x1] "+r"(x1), [x2] "+r"(x2), [x3] "+r"(x3), [s0] "+Te"(s0),
                       [s1] "+Te"(s1), [s2] "+Te"(s2), [s3] "+Te"(s3)
                     : [size] "r"(size)
                     : "lr", "q0", "q1", "q2", "q3", "memory");
    sums[0] = s0;
    sums[step] = s1;
    sums[2 * step] = s2;
    sums[3 * step] = s3;
}

/* The constants of four channels. */
typedef struct {
    int32x4_t bias, multiplier, right;
} ep_mve_channels;

EP_INLINE ep_mve_channels ep_mve_load(const int32_t *bias, const int32_t *multiplier, const int8_t *shift) {
    const ep_mve_channels k = {vldrwq_s32(bias), vldrwq_s32(multiplier), vldrbq_s32(shift)};
    return k;
}

/* Four sums to int8 values in 32-bit lanes. */
EP_INLINE int32x4_t ep_mve_finish(int32x4_t sums, ep_mve_channels k, int32_t zero, int32_t low, int32_t high) {
    const int32x4_t y = ep_mve_rescale(vaddq_s32(sums, k.bias), k.multiplier, k.right);
    return ep_mve_clamp(vaddq_n_s32(y, zero), low, high);
}

#endif
