/* Runs the golden vectors and tells the debugger or emulator (semihosting): exit status 0 if every byte is right. */
#include "${name}.h"
#include "${name}_golden.h"
#include "semihosting.h"

static uint8_t arena[${NAME}_ARENA_BYTES] __attribute__((aligned(8)));

int main(void) {
    static const int input_size[${NAME}_INPUTS] = {${input_sizes}}, output_size[${NAME}_OUTPUTS] = {${output_sizes}};
    const int8_t *x = ${name}_golden_inputs, *y = ${name}_golden_outputs;
    int wrong = 0;
${reset}    for (int v = 0; v < ${NAME}_GOLDEN_VECTORS; v++) {
        for (int k = 0; k < ${NAME}_INPUTS; k++)
            for (int i = 0; i < input_size[k]; i++) ${name}_input(arena, k)[i] = *x++;
        ${name}_run(arena);
        for (int k = 0; k < ${NAME}_OUTPUTS; k++)
            for (int i = 0; i < output_size[k]; i++) wrong += ${name}_output(arena, k)[i] != *y++;
    }
    semihosting_write(wrong ? "${name}: WRONG\n" : "${name}: all golden vectors match\n");
    return wrong != 0;
}
