/* The program that qemu runs: inputs from a file of the host, outputs to another, over semihosting.
 * MODEL(x) pastes the model's prefix; input and output tables come from the build (see qemu.py). */
#include "semihosting.h"
#include "runner_model.h"

#define STACK_BYTES 16384
#define PAINT 0xA5
#define MARGIN 64 /* kept for main itself; the least that is reported */

static uint8_t arena[RUNNER_ARENA_BYTES] __attribute__((aligned(8)));

__attribute__((noinline)) void edgepress_done(void) { __asm__ volatile("" ::: "memory"); }

static intptr_t open_file(const char *name, intptr_t mode, intptr_t length) {
    const intptr_t block[3] = {(intptr_t)name, mode, length};
    return semihosting_call(0x01, block);
}

static void transfer(intptr_t call, intptr_t file, void *data, intptr_t size) {
    const intptr_t block[3] = {file, (intptr_t)data, size};
    semihosting_call(call, block);
}

static volatile uint8_t *stack_floor(void) {
    uint8_t here;
    return (volatile uint8_t *)((((uintptr_t)&here) & ~(uintptr_t)7) - STACK_BYTES - MARGIN);
}

int main(void) {
    static const int32_t input_at[] = RUNNER_INPUT_OFFSETS, input_size[] = RUNNER_INPUT_SIZES;
    static const int32_t output_at[] = RUNNER_OUTPUT_OFFSETS, output_size[] = RUNNER_OUTPUT_SIZES;
    const intptr_t inputs = open_file("inputs.bin", 1, 10), outputs = open_file("outputs.bin", 5, 11);
    volatile uint8_t *floor = stack_floor();
    for (int32_t i = 0; i < STACK_BYTES; i++) floor[i] = PAINT;
    for (int32_t vector = 0; vector < RUNNER_VECTORS; vector++) {
        for (uint32_t i = 0; i < sizeof input_at / sizeof *input_at; i++)
            transfer(0x06, inputs, arena + input_at[i], input_size[i]);
        RUNNER_RUN(arena);
        edgepress_done();
        for (uint32_t i = 0; i < sizeof output_at / sizeof *output_at; i++)
            transfer(0x05, outputs, arena + output_at[i], output_size[i]);
    }
    int32_t untouched = 0;
    while (untouched < STACK_BYTES && floor[untouched] == PAINT) untouched++;
    int32_t used = STACK_BYTES + MARGIN - untouched;
    transfer(0x05, outputs, &used, 4);
    return 0;
}
