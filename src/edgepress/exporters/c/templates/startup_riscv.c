/* Reset: set the stack, copy .data, clear .bss, call main, leave. */
#include "semihosting.h"

extern uint32_t image_data_source[], image_data_start[], image_data_end[], image_bss_start[], image_bss_end[];
int main(void);

__attribute__((noreturn, used)) void start_c(void) {
    for (uint32_t *to = image_data_start, *from = image_data_source; to != image_data_end;) *to++ = *from++;
    for (uint32_t *to = image_bss_start; to != image_bss_end;) *to++ = 0;
    semihosting_exit(main());
    for (;;) {
    }
}

__attribute__((naked, section(".vectors"), used)) void reset(void) {
#ifdef __riscv_vector
    __asm__ volatile("li t0, 0x200\n\tcsrs mstatus, t0"); /* vectors on */
#endif
    __asm__ volatile("la sp, image_stack_top\n\tj start_c");
}
