/* 1x1 convolution, stride 1, input channels a multiple of 4. Layout and tile: ep_conv_dsp.h. */
#ifndef EP_CONV_DSP_POINT_H
#define EP_CONV_DSP_POINT_H

#include "ep_conv_dsp.h"

EP_KERNEL void ep_conv_dsp_point(const ep_conv *p, const int8_t *in, int8_t *out, uint32_t *columns) {
    const int32_t words = p->in_c >> 2;
    ep_quads tile = ep_dsp_tile(p, words);
    int8_t *spare = (int8_t *)(columns + 4 * words);
    for (int32_t left = p->out_h * p->out_w; left > 0; left -= 2) {
        const int32_t count = left < 2 ? 1 : 2;
        ep_dsp_widen_both(columns, in, in + (count - 1) * p->in_c, words);
        in += count * p->in_c;
        out = ep_dsp_finish(p, &tile, columns, out, count, spare);
    }
    ep_dsp_limit(p, out);
}

#endif
