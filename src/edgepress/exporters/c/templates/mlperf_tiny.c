/* The three functions that MLPerf Tiny asks of a model: link them with the benchmark's own api/ folder and with what your
 * board has for its serial port and its timer (th_printf, th_getchar, th_timestamp). The runner sends the input as bytes.
 *
 * MLPERF_INPUT: what those bytes are. 0: int8, as the model takes them (keyword spotting). 1: uint8 pixels of images
 * (image classification, visual wake words). 2: float32 (anomaly detection). */
#include <stddef.h>
#include <string.h>

#include "${name}.h"
#include "${name}_float.h"

#ifndef MLPERF_INPUT
#define MLPERF_INPUT 0
#endif

void th_load_tensor(void);
void th_infer(void);
void th_results(void);
void th_printf(const char *format, ...);
size_t ee_get_buffer(uint8_t *buffer, size_t max_len);

static uint8_t arena[${NAME}_ARENA_BYTES] __attribute__((aligned(8)));
static int8_t kept[${input_bytes}]; /* an inference may overwrite its input, and the runner repeats it */

void th_load_tensor(void) {
#if MLPERF_INPUT == 2
    static float values[${input_bytes}];
    ee_get_buffer((uint8_t *)values, sizeof values);
    ${name}_set_input(arena, 0, values);
    memcpy(kept, ${name}_input(arena, 0), sizeof kept);
#else
    ee_get_buffer((uint8_t *)kept, sizeof kept);
    for (size_t i = 0; MLPERF_INPUT == 1 && i < sizeof kept; i++) kept[i] = (int8_t)((uint8_t)kept[i] ^ 0x80);
#endif
}

void th_infer(void) {
    memcpy(${name}_input(arena, 0), kept, sizeof kept);
    ${name}_run(arena);
}

void th_results(void) {
    static float values[${output_bytes}];
    ${name}_get_output(arena, 0, values);
    th_printf("m-results-[");
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) th_printf(i ? ",%0.3f" : "%0.3f", (double)values[i]);
    th_printf("]\r\n");
}
