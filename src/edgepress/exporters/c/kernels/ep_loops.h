/* Nested loops over two operands with steps of their own: a step of 0 repeats an operand over that axis.
 * Five loops lead over the elements of the result, three more over what is added up. */
#ifndef EP_LOOPS_H
#define EP_LOOPS_H

#include "ep_base.h"

#define EP_OUTER 5
#define EP_SUMMED 3

typedef struct {
    int32_t count[EP_OUTER], a_step[EP_OUTER], b_step[EP_OUTER];
    int32_t summed[EP_SUMMED], a_summed[EP_SUMMED], b_summed[EP_SUMMED];
    int32_t a_zero, b_zero, multiplier, shift, out_zero, low, high, stairs;
} ep_loops;

typedef struct {
    int32_t i[EP_OUTER];
} ep_place;

/* To the next element of the result; 0 behind the last. */
EP_INLINE int32_t ep_next(const ep_loops *p, ep_place *at, const int8_t **a, const int8_t **b) {
    for (int32_t axis = EP_OUTER - 1; axis >= 0; axis--) {
        *a += p->a_step[axis];
        *b += p->b_step[axis];
        if (++at->i[axis] < p->count[axis]) return 1;
        *a -= p->count[axis] * p->a_step[axis];
        *b -= p->count[axis] * p->b_step[axis];
        at->i[axis] = 0;
    }
    return 0;
}

#endif
