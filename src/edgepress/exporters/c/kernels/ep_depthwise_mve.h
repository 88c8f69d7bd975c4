/* Depthwise convolution with Helium, any kernel size: eight channels at a time.
 *
 * For each output pixel the taps' addresses are looked up first; a tap outside the image points to a row of zero points
 * in scratch. VMULLB and VMULLT give the products of even and odd channels; bias, multipliers and shifts are stored in
 * that order (eight channels: 0 2 4 6 1 3 5 7), padded to a multiple of 8. weight [taps][channels]. */
#ifndef EP_DEPTHWISE_MVE_H
#define EP_DEPTHWISE_MVE_H

#include "ep_mve_base.h"

EP_INLINE void ep_depthwise_mve_taps(const ep_conv *p, const int8_t *in, int32_t y, int32_t x, const int8_t *outside, const int8_t **taps) {
    for (int32_t ky = 0; ky < p->kernel_h; ky++, y += p->dilation_h)
        for (int32_t kx = 0; kx < p->kernel_w; kx++) {
            const int32_t column = x + kx * p->dilation_w;
            const int inside = y >= 0 && y < p->in_h && column >= 0 && column < p->in_w;
            *taps++ = inside ? in + (y * p->in_w + column) * p->in_c : outside;
        }
}

EP_INLINE void ep_depthwise_mve_pixel(const ep_conv *p, const int8_t *const *taps, int32_t count, int8_t *out) {
    for (int32_t c = 0; c < p->out_c; c += 8) {
        const mve_pred16_t some = vctp16q((uint32_t)(p->out_c - c));
        const int8_t *w = p->weight + c;
        int32x4_t even = vldrwq_s32(p->bias + c), odd = vldrwq_s32(p->bias + c + 4);
        for (int32_t t = 0; t < count; t++, w += p->out_c) {
            const int16x8_t x = vldrbq_z_s16(taps[t] + c, some), v = vldrbq_z_s16(w, some);
            even = vaddq_s32(even, vmullbq_int_s16(x, v));
            odd = vaddq_s32(odd, vmulltq_int_s16(x, v));
        }
        even = ep_mve_rescale(even, vldrwq_s32(p->multiplier + c), vldrbq_s32(p->shift + c));
        odd = ep_mve_rescale(odd, vldrwq_s32(p->multiplier + c + 4), vldrbq_s32(p->shift + c + 4));
        even = ep_mve_clamp(vaddq_n_s32(even, p->out_zero), p->low, p->high);
        odd = ep_mve_clamp(vaddq_n_s32(odd, p->out_zero), p->low, p->high);
        const int16x8_t both = vmovntq_s32(vmovnbq_s32(vdupq_n_s16(0), even), odd);
        vstrbq_p_s16(out + c, both, some);
    }
}

EP_KERNEL void ep_depthwise_mve(const ep_conv *p, const int8_t *in, int8_t *out, const int8_t **taps) {
    const int32_t count = p->kernel_h * p->kernel_w;
    int8_t *outside = (int8_t *)(void *)(taps + count);
    for (int32_t c = 0; c < p->in_c; c++) outside[c] = (int8_t)p->in_zero;
    for (int32_t oy = 0; oy < p->out_h; oy++)
        for (int32_t ox = 0; ox < p->out_w; ox++, out += p->out_c) {
            ep_depthwise_mve_taps(p, in, oy * p->stride_h - p->pad_top, ox * p->stride_w - p->pad_left, outside, taps);
            ep_depthwise_mve_pixel(p, taps, count, out);
        }
}

#endif
