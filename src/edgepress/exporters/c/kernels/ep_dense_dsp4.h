/* One row times a matrix of four bits per weight on DSP cores, four output channels at a time. Weights per two inputs: a
 * word as in ep_conv_dsp4.h, used as 16 times its value; sums are exact. Inputs a multiple of 4, channels padded to one. */
#ifndef EP_DENSE_DSP4_H
#define EP_DENSE_DSP4_H

#include "ep_dense_dsp.h"

EP_INLINE void ep_dense_dsp4_step(const int8_t *weight, uint32_t x, int32_t *s) {
    const uint32_t both = ep_load32(weight), low = both << 4 & 0xf0f0f0f0u, high = both & 0xf0f0f0f0u;
    s[0] = ep_smlad(ep_sxtb16(low), x, s[0]);
    s[1] = ep_smlad(ep_sxtb16_odd(low), x, s[1]);
    s[2] = ep_smlad(ep_sxtb16(high), x, s[2]);
    s[3] = ep_smlad(ep_sxtb16_odd(high), x, s[3]);
}

EP_KERNEL void ep_dense_dsp4(const ep_dense *p, const int8_t *in, int8_t *out) {
    const int8_t *weight = p->weight, *end = in + p->in_c;
    for (int32_t c = 0; c < p->out_c; c += 4) {
        int32_t s[4] = {0, 0, 0, 0};
        for (const int8_t *x = in; x != end; x += 4, weight += 8) {
            const uint32_t v = ep_load32(x);
            ep_dense_dsp4_step(weight, ep_sxtb16(v), s);
            ep_dense_dsp4_step(weight + 4, ep_sxtb16_odd(v), s);
        }
        for (int32_t k = 0; k < 4; k++) ep_dense_dsp_put(p, c + k, s[k] >> 4, out);
    }
}

#endif
