/* Reset: copy .data, clear .bss, let the FPU and MVE run where there are some, call main, leave. */
#include "semihosting.h"

extern uint32_t image_data_source[], image_data_start[], image_data_end[], image_bss_start[], image_bss_end[], image_stack_top[];
int main(void);

static __attribute__((noreturn)) void stop(int status) {
    semihosting_exit(status);
    for (;;) {
    }
}

static void fault(void) { stop(99); }

__attribute__((noreturn)) void reset(void) {
    for (uint32_t *to = image_data_start, *from = image_data_source; to != image_data_end;) *to++ = *from++;
    for (uint32_t *to = image_bss_start; to != image_bss_end;) *to++ = 0;
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* CPACR: full access to CP10, CP11 */
    __asm__ volatile("dsb\nisb");
#endif
    stop(main());
}

__attribute__((section(".vectors"), used)) void (*const vectors[16])(void) = {
    (void (*)(void))image_stack_top, (void (*)(void))reset, fault, fault, fault, fault, fault};
