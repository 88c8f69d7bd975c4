/* Any int8 -> int8 function by table: out = table[in + 128]. Works in place. */
#ifndef EP_LOOKUP_H
#define EP_LOOKUP_H

#include "ep_base.h"

EP_KERNEL void ep_lookup(const int8_t *table, const int8_t *in, int8_t *out, int32_t size) {
    for (int32_t i = 0; i < size; i++) out[i] = table[in[i] + 128];
}

#endif
