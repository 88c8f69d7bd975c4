/* Pooling over windows; only positions inside the image take part, except that `divisor` > 0 fixes the divisor of an
 * average whose padding counts (as zeros). */
#ifndef EP_POOL_H
#define EP_POOL_H

#include "ep_base.h"

typedef struct {
    int32_t in_h, in_w, channels, out_h, out_w;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, zero, divisor, low, high;
} ep_pool;

typedef struct {
    int32_t y0, y1, x0, x1;
} ep_window;

EP_INLINE ep_window ep_pool_window(const ep_pool *p, int32_t oy, int32_t ox) {
    const int32_t y = oy * p->stride_h - p->pad_top, x = ox * p->stride_w - p->pad_left;
    const int32_t y1 = y + p->kernel_h, x1 = x + p->kernel_w;
    const ep_window w = {y < 0 ? 0 : y, y1 > p->in_h ? p->in_h : y1, x < 0 ? 0 : x, x1 > p->in_w ? p->in_w : x1};
    return w;
}

EP_INLINE int32_t ep_pool_sum(const ep_pool *p, const int8_t *in, ep_window w, int32_t c) {
    int32_t total = 0;
    for (int32_t y = w.y0; y < w.y1; y++)
        for (int32_t x = w.x0; x < w.x1; x++) total += in[(y * p->in_w + x) * p->channels + c];
    return total;
}

/* total / count, half away from zero */
EP_INLINE int32_t ep_average(int32_t total, int32_t count) {
    return total > 0 ? (total + count / 2) / count : (total - count / 2) / count;
}

EP_KERNEL void ep_pool_average(const ep_pool *p, const int8_t *in, int8_t *out) {
    for (int32_t oy = 0; oy < p->out_h; oy++)
        for (int32_t ox = 0; ox < p->out_w; ox++) {
            const ep_window w = ep_pool_window(p, oy, ox);
            const int32_t inside = (w.y1 - w.y0) * (w.x1 - w.x0), count = p->divisor ? p->divisor : inside;
            for (int32_t c = 0; c < p->channels; c++) {
                const int32_t total = ep_pool_sum(p, in, w, c) + (count - inside) * p->zero;
                *out++ = ep_clamp(ep_average(total, count), p->low, p->high);
            }
        }
}

EP_KERNEL void ep_pool_max(const ep_pool *p, const int8_t *in, int8_t *out) {
    for (int32_t oy = 0; oy < p->out_h; oy++)
        for (int32_t ox = 0; ox < p->out_w; ox++) {
            const ep_window w = ep_pool_window(p, oy, ox);
            for (int32_t c = 0; c < p->channels; c++) {
                int32_t best = -128;
                for (int32_t y = w.y0; y < w.y1; y++)
                    for (int32_t x = w.x0; x < w.x1; x++) {
                        const int32_t v = in[(y * p->in_w + x) * p->channels + c];
                        best = v > best ? v : best;
                    }
                *out++ = ep_clamp(best, p->low, p->high);
            }
        }
}

#endif
