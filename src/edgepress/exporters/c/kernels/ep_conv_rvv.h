/* Ungrouped convolution with RISC-V vectors: as many output channels as a vector holds x four pixels. Each input of a
 * pixel is a number that multiplies a row of weights: one widening multiply-add. weight [inputs][out_c]. */
#ifndef EP_CONV_RVV_H
#define EP_CONV_RVV_H

#include "ep_rvv_base.h"

EP_INLINE void ep_conv_rvv_put(const ep_conv *p, vint32m4_t total, int32_t c, int8_t *out, size_t vl) {
    const vint32m4_t y = ep_rvv_rescale(total, p->multiplier + c, p->shift + c, vl);
    ep_rvv_put(y, p->out_zero, p->low, p->high, out + c, vl);
}

/* The first `count` of four pixels, whose windows of `size` inputs lie `step` apart. */
EP_KERNEL void ep_conv_rvv_tile(const ep_conv *p, const int8_t *x, int32_t size, int32_t step, int8_t *out, int32_t count) {
    const int32_t second = count > 1 ? step : 0, third = count > 2 ? 2 * step : 0, fourth = count > 3 ? 3 * step : 0;
    size_t vl;
    for (int32_t c = 0; c < p->out_c; c += (int32_t)vl) {
        vl = __riscv_vsetvl_e8m1((size_t)(p->out_c - c));
        const int8_t *w = p->weight + c, *v0 = x, *v1 = x + second, *v2 = x + third, *v3 = x + fourth, *end = x + size;
        vint32m4_t a = __riscv_vle32_v_i32m4(p->bias + c, vl), b = a, d = a, e = a;
        for (; v0 != end; w += p->out_c) {
            const vint16m2_t row = ep_rvv_widened(w, vl);
            a = __riscv_vwmacc_vx_i32m4(a, *v0++, row, vl);
            b = __riscv_vwmacc_vx_i32m4(b, *v1++, row, vl);
            d = __riscv_vwmacc_vx_i32m4(d, *v2++, row, vl);
            e = __riscv_vwmacc_vx_i32m4(e, *v3++, row, vl);
        }
        ep_conv_rvv_put(p, a, c, out, vl);
        if (count > 1) ep_conv_rvv_put(p, b, c, out + p->out_c, vl);
        if (count > 2) ep_conv_rvv_put(p, d, c, out + 2 * p->out_c, vl);
        if (count > 3) ep_conv_rvv_put(p, e, c, out + 3 * p->out_c, vl);
    }
}

EP_INLINE int32_t ep_rvv_tile_of(int32_t left) { return left < 4 ? left : 4; }

EP_INLINE int8_t *ep_rvv_copy(int8_t *to, const int8_t *from, int32_t size) {
    for (size_t vl; size > 0; size -= (int32_t)vl, from += vl, to += vl) {
        vl = __riscv_vsetvl_e8m8((size_t)size);
        __riscv_vse8_v_i8m8(to, __riscv_vle8_v_i8m8(from, vl), vl);
    }
    return to;
}

EP_INLINE int8_t *ep_rvv_fill(int8_t *to, int32_t value, int32_t size) {
    for (size_t vl; size > 0; size -= (int32_t)vl, to += vl) {
        vl = __riscv_vsetvl_e8m8((size_t)size);
        __riscv_vse8_v_i8m8(to, __riscv_vmv_v_x_i8m8((int8_t)value, vl), vl);
    }
    return to;
}

/* 1x1, stride 1, no padding: windows are pixels. They are copied, so that results may lie over them. */
EP_KERNEL void ep_conv_rvv_point(const ep_conv *p, const int8_t *in, int8_t *out, int8_t *windows) {
    for (int32_t left = p->out_h * p->out_w; left > 0; left -= 4, in += 4 * p->in_c, out += 4 * p->out_c) {
        const int32_t count = ep_rvv_tile_of(left);
        ep_rvv_copy(windows, in, count * p->in_c);
        ep_conv_rvv_tile(p, windows, p->in_c, p->in_c, out, count);
    }
}

/* The window whose first input lies at row y, column x. */
EP_KERNEL void ep_rvv_window(const ep_conv *p, const int8_t *in, int32_t y, int32_t x, int8_t *to) {
    for (int32_t ky = 0; ky < p->kernel_h; ky++, y += p->dilation_h) {
        const int8_t *row = in + (y * p->in_w + x) * p->in_c;
        const int inside = y >= 0 && y < p->in_h;
        if (p->dilation_w == 1 && inside && x >= 0 && x + p->kernel_w <= p->in_w) {
            to = ep_rvv_copy(to, row, p->kernel_w * p->in_c);
            continue;
        }
        for (int32_t kx = 0; kx < p->kernel_w; kx++, row += p->dilation_w * p->in_c) {
            const int32_t column = x + kx * p->dilation_w;
            if (inside && column >= 0 && column < p->in_w) to = ep_rvv_copy(to, row, p->in_c);
            else to = ep_rvv_fill(to, p->in_zero, p->in_c);
        }
    }
}

EP_KERNEL void ep_conv_rvv(const ep_conv *p, const int8_t *in, int8_t *out, int8_t *windows) {
    const int32_t size = p->kernel_h * p->kernel_w * p->in_c;
    int32_t x = 0, y = 0;
    for (int32_t left = p->out_h * p->out_w; left > 0; left -= 4, out += 4 * p->out_c) {
        const int32_t count = ep_rvv_tile_of(left);
        for (int32_t i = 0; i < count; i++) {
            ep_rvv_window(p, in, y * p->stride_h - p->pad_top, x * p->stride_w - p->pad_left, windows + i * size);
            if (++x == p->out_w) x = 0, y++;
        }
        ep_conv_rvv_tile(p, windows, size, size, out, count);
    }
}

#endif
