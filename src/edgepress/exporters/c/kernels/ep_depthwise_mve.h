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

/* Sums of eight channels over all taps. */
EP_INLINE void ep_depthwise_mve_sums(const int8_t *const *taps, int32_t count, int32_t c, const int8_t *w, int32_t width,
                                     int32x4_t *even, int32x4_t *odd) {
    int32x4_t e = vdupq_n_s32(0), o = e;
    const int8_t *tap;
    __asm__ volatile("dls lr, %[count]\n"
                     "1:\n\t"
                     "ldr %[tap], [%[taps]], #4\n\t"
                     "vldrb.s16 q1, [%[w]]\n\t"
                     "add %[tap], %[tap], %[c]\n\t"
                     "vldrb.s16 q0, [%[tap]]\n\t"
                     "add %[w], %[w], %[width]\n\t"
                     "vmullb.s16 q2, q0, q1\n\t"
                     "vmullt.s16 q3, q0, q1\n\t"
                     "vadd.i32 %q[e], %q[e], q2\n\t"
                     "vadd.i32 %q[o], %q[o], q3\n\t"
                     "le lr, 1b"
                     : [taps] "+r"(taps), [w] "+l"(w), [tap] "=&l"(tap), [e] "+w"(e), [o] "+w"(o)
                     : [count] "r"(count), [c] "r"(c), [width] "r"(width)
                     : "lr", "q0", "q1", "q2", "q3", "memory");
    *even = e;
    *odd = o;
}

/* The same for the last channels, fewer than eight. */
EP_INLINE void ep_depthwise_mve_rest(const int8_t *const *taps, int32_t count, int32_t c, const int8_t *w, int32_t width,
                                     int32x4_t *even, int32x4_t *odd) {
    const mve_pred16_t some = vctp16q((uint32_t)(width - c));
    int32x4_t e = vdupq_n_s32(0), o = e;
    for (int32_t t = 0; t < count; t++, w += width) {
        const int16x8_t x = vldrbq_z_s16(taps[t] + c, some), v = vldrbq_z_s16(w, some);
        e = vaddq_s32(e, vmullbq_int_s16(x, v));
        o = vaddq_s32(o, vmulltq_int_s16(x, v));
    }
    *even = e;
    *odd = o;
}

EP_INLINE void ep_depthwise_mve_pixel(const ep_conv *p, const int8_t *const *taps, int32_t count, int8_t *out) {
    const int32_t zero = p->out_zero, low = p->low, high = p->high, width = p->out_c;
    const int32_t *bias = p->bias, *multiplier = p->multiplier;
    const int8_t *shift = p->shift;
    for (int32_t c = 0; c < width; c += 8, bias += 8, multiplier += 8, shift += 8) {
        int32x4_t even, odd;
        if (c + 8 <= width) ep_depthwise_mve_sums(taps, count, c, p->weight + c, width, &even, &odd);
        else ep_depthwise_mve_rest(taps, count, c, p->weight + c, width, &even, &odd);
        even = ep_mve_finish(even, ep_mve_load(bias, multiplier, shift), zero, low, high);
        odd = ep_mve_finish(odd, ep_mve_load(bias + 4, multiplier + 4, shift + 4), zero, low, high);
        const int16x8_t both = vmovntq_s32(vmovnbq_s32(vdupq_n_s16(0), even), odd);
        vstrbq_p_s16(out + c, both, vctp16q((uint32_t)(width - c)));
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
