/* Rows of a table; numbers (int32) outside it meet the nearest row. */
#ifndef EP_EMBEDDING_H
#define EP_EMBEDDING_H

#include "ep_base.h"

EP_KERNEL void ep_embedding(const int8_t *table, const int8_t *numbers, int8_t *out, int32_t count, int32_t rows, int32_t width) {
    for (int32_t i = 0; i < count; i++) {
        int32_t row;
        __builtin_memcpy(&row, numbers + 4 * i, 4);
        row = row < 0 ? 0 : (row < rows ? row : rows - 1);
        for (int32_t c = 0; c < width; c++) *out++ = table[row * width + c];
    }
}

#endif
