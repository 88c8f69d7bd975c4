#ifndef EP_FILL_H
#define EP_FILL_H

#include "ep_base.h"

EP_KERNEL void ep_fill(int8_t *out, int32_t value, int32_t size) {
    for (int32_t i = 0; i < size; i++) out[i] = (int8_t)value;
}

#endif
