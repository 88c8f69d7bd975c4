/* 1x1 convolution, stride 1, input channels a multiple of 4. Layout and tile: ep_conv_dsp.h. */
#ifndef EP_CONV_DSP_POINT_H
#define EP_CONV_DSP_POINT_H

#include "ep_conv_dsp.h"

EP_KERNEL void ep_conv_dsp_point(const ep_conv *p, const int8_t *in, int8_t *out, uint32_t *columns) {
    const int32_t in_c = p->in_c, out_c = p->out_c, words = in_c >> 2;
    ep_quads tile = ep_dsp_tile(p, words);
    int8_t *spare = (int8_t *)(columns + 4 * words), *to = out;
    int32_t left = p->out_h * p->out_w;
    for (; left > 1; left -= 2, in += 2 * in_c, to += 2 * out_c) {
        ep_dsp_widen_both(columns, in, in + in_c, words);
        ep_dsp_finish(p, &tile, columns, to, spare);
    }
    if (left) {
        tile.step = 0;
        ep_dsp_widen(columns, in, words);
        ep_dsp_finish(p, &tile, columns, to, spare);
    }
    ep_dsp_limit(p, out);
}

#endif
