/* Nearest neighbour: out[i][j] = in[rows[i]][columns[j]]. */
#ifndef EP_RESIZE_H
#define EP_RESIZE_H

#include "ep_base.h"

typedef struct {
    const int16_t *rows, *columns;
    int32_t in_w, out_h, out_w, channels;
} ep_resize;

EP_KERNEL void ep_resize_nearest(const ep_resize *p, const int8_t *in, int8_t *out) {
    for (int32_t y = 0; y < p->out_h; y++)
        for (int32_t x = 0; x < p->out_w; x++) {
            const int8_t *v = in + (p->rows[y] * p->in_w + p->columns[x]) * p->channels;
            for (int32_t c = 0; c < p->channels; c++) *out++ = v[c];
        }
}

#endif
