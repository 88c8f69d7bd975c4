/* Runs the golden vectors and tells the debugger or emulator (semihosting): exit status 0 if every byte is right. */
#include "${name}.h"
#include "${name}_golden.h"
#include "semihosting.h"

static uint8_t arena[${NAME}_ARENA_BYTES] __attribute__((aligned(8)));

int main(void) {
    int wrong = 0;
    for (int v = 0; v < ${NAME}_GOLDEN_VECTORS; v++) {
        const int8_t *x = ${name}_golden_inputs + v * ${input_bytes}, *y = ${name}_golden_outputs + v * ${output_bytes};
        for (int i = 0; i < ${input_bytes}; i++) ${name}_input(arena, 0)[i] = x[i];
        ${name}_run(arena);
        for (int i = 0; i < ${output_bytes}; i++) wrong += ${name}_output(arena, 0)[i] != y[i];
    }
    semihosting_write(wrong ? "${name}: WRONG\n" : "${name}: all golden vectors match\n");
    return wrong != 0;
}
