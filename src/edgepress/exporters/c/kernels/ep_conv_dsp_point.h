/* 1x1 convolution, stride 1, input channels a multiple of 4. Layout and tile: ep_conv_dsp.h. */
#ifndef EP_CONV_DSP_POINT_H
#define EP_CONV_DSP_POINT_H

#include "ep_conv_dsp.h"

EP_KERNEL void ep_conv_dsp_point(const ep_conv *p, const int8_t *in, int8_t *out, uint32_t *columns) {
    const int32_t pixels = p->out_h * p->out_w, words = p->in_c >> 2;
    const ep_tile tile = ep_dsp_tile(p, words);
    int8_t *spare = (int8_t *)(columns + 8 * words);
    for (int32_t i = 0; i < pixels; i += 4) {
        const int32_t count = pixels - i < 4 ? pixels - i : 4;
        for (int32_t k = 0; k < count; k++, in += p->in_c) ep_dsp_widen(columns + k, in, words);
        ep_dsp_finish(p, &tile, columns, out, count, spare);
        out += 4 * p->out_c;
    }
}

#endif
