/* Real numbers in and out of ${name}, for cores and teams that have floats. Inline: what is not used takes no flash.
 * Images are in NHWC order. Inputs are rounded half away from zero and saturated.${numbers} */
#ifndef ${NAME}_FLOAT_H
#define ${NAME}_FLOAT_H

#include "${name}.h"

static inline void ${name}_set_input(void *arena, int index, const float *values) {
    static const float scale[${NAME}_INPUTS] = {${input_scales}};
    static const int size[${NAME}_INPUTS] = {${input_sizes}}, zero[${NAME}_INPUTS] = {${input_zeros}};
    int8_t *to = ${name}_input(arena, index);
    for (int i = 0; i < size[index]; i++) {
        float x = values[i] / scale[index] + (float)zero[index];
        x = x < -128.0f ? -128.0f : (x > 127.0f ? 127.0f : x);
        to[i] = (int8_t)(x < 0.0f ? x - 0.5f : x + 0.5f);
    }
}

static inline void ${name}_get_output(const void *arena, int index, float *values) {
    static const float scale[${NAME}_OUTPUTS] = {${output_scales}};
    static const int size[${NAME}_OUTPUTS] = {${output_sizes}}, zero[${NAME}_OUTPUTS] = {${output_zeros}};
    const int8_t *from = ${name}_output(arena, index);
    for (int i = 0; i < size[index]; i++) values[i] = scale[index] * (float)(from[i] - zero[index]);
}

#endif
