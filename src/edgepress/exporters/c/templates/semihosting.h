/* The two semihosting calls of the example: print a text, leave with a status. */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include <stdint.h>

#if defined(__arm__) || defined(__riscv)
static inline intptr_t semihosting_call(intptr_t number, const void *argument) {
#ifdef __riscv
    register intptr_t a0 __asm__("a0") = number;
    register const void *a1 __asm__("a1") = argument;
    __asm__ volatile(".option push\n.balign 16\n.option norvc\nslli x0, x0, 0x1f\nebreak\nsrai x0, x0, 7\n.option pop"
                     : "+r"(a0) : "r"(a1) : "memory");
    return a0;
#else
    register intptr_t r0 __asm__("r0") = number;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
#endif
}

static inline void semihosting_write(const char *text) { semihosting_call(0x04, text); }

static inline void semihosting_exit(int status) {
    const intptr_t block[2] = {0x20026, status}; /* ADP_Stopped_ApplicationExit */
    semihosting_call(0x20, block);
}
#else
#include <stdio.h>
static inline void semihosting_write(const char *text) { fputs(text, stdout); }
#endif

#endif
