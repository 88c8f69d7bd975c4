/* Types and integer arithmetic shared by all kernels. Plain C99; no heap, no libc.
 *
 * Rounding of x * multiplier * 2^-(31 + right shift):
 *   default             gemmlowp double rounding (TensorFlow Lite Micro, CMSIS-NN)
 *   EP_SINGLE_ROUNDING  one 64-bit product, rounded once, half up
 * A negative right shift shifts left. */
#ifndef EP_BASE_H
#define EP_BASE_H

#include <stdint.h>

#ifdef EP_SPECIALISE /* speed: every layer gets its own copy, its sizes are constants */
#define EP_KERNEL static inline __attribute__((always_inline, unused))
#else
#define EP_KERNEL static __attribute__((noinline, unused))
#endif
#define EP_INLINE static inline __attribute__((always_inline))
#define EP_NAKED __attribute__((unused)) /* parameters of functions that are all assembly */

/* round(x * multiplier / 2^31), half up */
EP_INLINE int32_t ep_high_product(int32_t x, int32_t multiplier) {
    return (int32_t)(((int64_t)x * multiplier + ((int64_t)1 << 30)) >> 31);
}

/* round(x / 2^shift), half away from zero; shift >= 0 */
EP_INLINE int32_t ep_shift_right(int32_t x, int32_t shift) {
    if (shift == 0) return x;
    return (int32_t)(((int64_t)x + ((int64_t)1 << (shift - 1)) - (x < 0)) >> shift);
}

EP_INLINE int32_t ep_rescale(int32_t x, int32_t multiplier, int32_t right_shift) {
#ifdef EP_SINGLE_ROUNDING
    const int32_t total = 31 + right_shift;
    return (int32_t)(((int64_t)x * multiplier + ((int64_t)1 << (total - 1))) >> total);
#else
    if (right_shift < 0) return ep_high_product((int32_t)((uint32_t)x << -right_shift), multiplier);
    return ep_shift_right(ep_high_product(x, multiplier), right_shift);
#endif
}

EP_INLINE int8_t ep_clamp(int32_t x, int32_t low, int32_t high) {
    return (int8_t)(x < low ? low : (x > high ? high : x));
}

/* The low half of a byte as a number from -8 to 7; the high half is the byte >> 4. */
EP_INLINE int32_t ep_low_nibble(int8_t both) { return ((both & 15) ^ 8) - 8; }

/* One of these lies in flash per layer: sizes take as few bytes as they need. */
#ifdef EP_WIDE_SIZES
typedef int32_t ep_size, ep_small_size;
#else
typedef uint16_t ep_size;
typedef uint8_t ep_small_size;
#endif
#if defined(__ARM_FEATURE_DSP) && !defined(__ARM_FEATURE_MVE)
typedef int8_t ep_value; /* the inner loops there never read one from here */
#else
typedef int32_t ep_value;
#endif

/* A convolution-like layer. The bias holds what the input's zero point contributes, so that kernels multiply raw
 * inputs; positions outside the image read as the zero point. Weight layout: see each kernel. */
typedef struct {
    const int8_t *weight;
    const int32_t *bias, *multiplier;
    const int8_t *shift; /* right shifts */
    ep_size in_h, in_w, in_c, out_h, out_w, out_c, groups;
    ep_small_size kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
    ep_value in_zero, out_zero, low, high;
#ifdef EP_FOUR_BIT
    int8_t four_bit; /* two weights in a byte */
#endif
#ifdef EP_PLAIN_SUMS
    int8_t plain; /* see ep_conv_dsp.h */
#endif
} ep_conv;

#endif
