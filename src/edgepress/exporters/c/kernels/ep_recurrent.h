/* LSTM and GRU, one direction. Gate sums are Q3.12, gates and hidden states Q0.15 (int16), cell states Q16.15.
 * Gate order: LSTM input, output, forget, cell; GRU update, reset, new. The two biases lie on the grids of the input's
 * and the state's sums; the input's holds what its zero point contributes.
 * EP_KEEP_STATE: a run goes on from where the last one stopped; the model's reset function starts anew. */
#ifndef EP_RECURRENT_H
#define EP_RECURRENT_H

#include "ep_dot.h"

typedef struct {
    const int8_t *weight, *recurrent;                                  /* [gates * hidden][inputs], [...][hidden] */
    const int32_t *bias, *multiplier, *recurrent_bias, *recurrent_multiplier; /* per row */
    const int8_t *shift, *recurrent_shift;
    const int16_t *sigmoid, *tanh; /* 513 entries from -8 to 8, Q0.15 */
    int32_t steps, inputs, hidden, reverse, multiplier_out, shift_out, out_zero;
} ep_recurrent;

EP_INLINE int32_t ep_saturate16(int32_t x) { return x < -32768 ? -32768 : (x > 32767 ? 32767 : x); }

EP_INLINE int32_t ep_between(int32_t low, int32_t high, int32_t part) { return low + (((high - low) * part + 64) >> 7); }

EP_INLINE int32_t ep_sigmoid(const ep_recurrent *p, int32_t x) {
    const int32_t at = ep_saturate16(x) + 32768, i = at >> 7;
    return ep_between(p->sigmoid[i], p->sigmoid[i + 1], at & 127);
}

EP_INLINE int32_t ep_tanh(const ep_recurrent *p, int32_t x) {
    const int32_t at = ep_saturate16(x) + 32768, i = at >> 7;
    return ep_between(p->tanh[i], p->tanh[i + 1], at & 127);
}

EP_INLINE int32_t ep_product15(int32_t a, int32_t b) { return (int32_t)(((int64_t)a * b + (1 << 14)) >> 15); }

/* What the input, or the state, gives to one gate row, Q3.12 */
EP_KERNEL int32_t ep_from_input(const ep_recurrent *p, const int8_t *x, int32_t row) {
    const int32_t total = ep_dot8(p->weight + row * p->inputs, x, p->inputs, p->bias[row]);
    return ep_rescale(total, p->multiplier[row], p->shift[row]);
}

EP_KERNEL int32_t ep_from_state(const ep_recurrent *p, const int16_t *h, int32_t row) {
    const int32_t total = ep_dot16(p->recurrent + row * p->hidden, h, p->hidden, p->recurrent_bias[row]);
    return ep_rescale(total, p->recurrent_multiplier[row], p->recurrent_shift[row]);
}

EP_INLINE int32_t ep_gate_sum(const ep_recurrent *p, const int8_t *x, const int16_t *h, int32_t row) {
    return ep_from_input(p, x, row) + ep_from_state(p, h, row);
}

EP_INLINE void ep_state_out(const ep_recurrent *p, int32_t state, int8_t *out) {
    *out = ep_clamp(ep_rescale(state, p->multiplier_out, p->shift_out) + p->out_zero, -128, 127);
}

/* The state lies in two places in turn; the next run looks for it in the first. */
EP_INLINE void ep_state_begin(const ep_recurrent *p, int16_t *state) {
#ifdef EP_KEEP_STATE
    (void)p, (void)state;
#else
    for (int32_t i = 0; i < p->hidden; i++) state[i] = 0;
#endif
}

EP_INLINE void ep_state_end(const ep_recurrent *p, const int16_t *last, int16_t *first) {
#ifdef EP_KEEP_STATE
    for (int32_t i = 0; last != first && i < p->hidden; i++) first[i] = last[i];
#else
    (void)p, (void)last, (void)first;
#endif
}

/* scratch: the state before and after a step (int16), the cell (int32) */
EP_KERNEL void ep_lstm_ref(const ep_recurrent *p, const int8_t *in, int8_t *out, int32_t *cell) {
    const int32_t n = p->hidden;
    int16_t *const first = (int16_t *)(void *)(cell + n), *before = first, *after = first + n;
    ep_state_begin(p, first);
#ifndef EP_KEEP_STATE
    for (int32_t i = 0; i < n; i++) cell[i] = 0;
#endif
    for (int32_t t = 0; t < p->steps; t++) {
        const int32_t step = p->reverse ? p->steps - 1 - t : t;
        const int8_t *x = in + step * p->inputs;
        for (int32_t j = 0; j < n; j++) {
            const int32_t let_in = ep_sigmoid(p, ep_gate_sum(p, x, before, j));
            const int32_t let_out = ep_sigmoid(p, ep_gate_sum(p, x, before, n + j));
            const int32_t keep = ep_sigmoid(p, ep_gate_sum(p, x, before, 2 * n + j));
            const int32_t fresh = ep_tanh(p, ep_gate_sum(p, x, before, 3 * n + j));
            cell[j] = ep_product15(keep, cell[j]) + ep_product15(let_in, fresh);
            after[j] = (int16_t)ep_product15(let_out, ep_tanh(p, (cell[j] + 4) >> 3));
            ep_state_out(p, after[j], out + step * n + j);
        }
        int16_t *const other = before;
        before = after;
        after = other;
    }
    ep_state_end(p, before, first);
}

EP_KERNEL void ep_gru_ref(const ep_recurrent *p, const int8_t *in, int8_t *out, int32_t *scratch) {
    const int32_t n = p->hidden;
    int16_t *const first = (int16_t *)(void *)scratch, *before = first, *after = first + n;
    ep_state_begin(p, first);
    for (int32_t t = 0; t < p->steps; t++) {
        const int32_t step = p->reverse ? p->steps - 1 - t : t;
        const int8_t *x = in + step * p->inputs;
        for (int32_t j = 0; j < n; j++) {
            const int32_t update = ep_sigmoid(p, ep_gate_sum(p, x, before, j));
            const int32_t reset = ep_sigmoid(p, ep_gate_sum(p, x, before, n + j));
            const int32_t kept = ep_product15(reset, ep_saturate16(ep_from_state(p, before, 2 * n + j)));
            const int32_t fresh = ep_tanh(p, ep_from_input(p, x, 2 * n + j) + kept);
            after[j] = (int16_t)(fresh + ep_product15(update, before[j] - fresh));
            ep_state_out(p, after[j], out + step * n + j);
        }
        int16_t *const other = before;
        before = after;
        after = other;
    }
    ep_state_end(p, before, first);
}

#endif
