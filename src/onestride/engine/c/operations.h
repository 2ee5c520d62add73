/* What a program does to a block's rows: one operation, in a worker's own memory. */

#ifndef ONESTRIDE_OPERATIONS_H
#define ONESTRIDE_OPERATIONS_H

#include "eight_bits.h"
#include "memory.h"
#include "products.h"

/* A row's numbers off ``mean``, or their squares, summed up; four sums at a time, since each waits for its last one. */
INLINE float summed(const float* x, int width, float mean, int squared) {
  enum { SUMS = 4 };
  vec total[SUMS] = {};
  int i = 0;
  for (; i + SUMS * LANES <= width; i += SUMS * LANES)
#pragma GCC unroll 4
    for (int s = 0; s < SUMS; s++) {
      const vec off = load(x + i + s * LANES) - mean;
      total[s] += squared ? off * off : off;
    }
  for (; i < width; i += LANES) {
    const int left = width - i;
    vec off = (left >= LANES ? load(x + i) : load_some(x + i, left)) - mean;
    if (left < LANES) {
      float some[LANES] = {0};
      store_some(some, off, left);
      off = load(some);
    }
    total[0] += squared ? off * off : off;
  }
  return sum(total[0] + total[1] + (total[2] + total[3]));
}

INLINE vec scaled(vec x, float mean, float scale, vec gain, vec shift, int flags) {
  const vec value = (x - mean) * scale * gain + shift;
  return flags & SILU ? silu(value) : value;
}

/* One group of columns. Every row's mean, then every row's scale: rows do not wait for each other, passes do. */
INLINE void norm_group(const Op* op, const float* gain, const float* shift, int rows, const float* x, long stride,
                       float* y, long y_stride, int flags) {
  const int width = op->inputs;
  float mean[BLOCK], scale[BLOCK];
  for (int r = 0; r < rows; r++) mean[r] = summed(x + r * stride, width, 0, 0) / (float)width;
  for (int r = 0; r < rows; r++)
    scale[r] = 1.0f / sqrtf(summed(x + r * stride, width, mean[r], 1) / (float)width + op->scale);
  const vec one = (vec){} + 1.0f, nothing = {};
  for (int r = 0; r < rows; r++) {
    const float* from = x + r * stride;
    float* to = y + r * y_stride;
    int i = 0;
    for (; i + LANES <= width; i += LANES)
      store(to + i, scaled(load(from + i), mean[r], scale[r], gain ? load(gain + i) : one,
                           gain ? load(shift + i) : nothing, flags));
    const int left = width - i;
    if (left) {
      const vec g = gain ? load_some(gain + i, left) : one, s = gain ? load_some(shift + i, left) : nothing;
      store_some(to + i, scaled(load_some(from + i, left), mean[r], scale[r], g, s, flags), left);
    }
  }
}

/* Each of the groups normalised to mean 0 and variance 1, then gain, shift and SiLU where asked for. */
static void norm(const Op* op, const float* data, int rows, const float* x, long stride, float* y, long y_stride) {
  const float *gain = op->weight < 0 ? NULL : data + op->weight, *shift = op->weight < 0 ? NULL : data + op->bias;
  for (int g = 0; g < op->groups; g++, x += op->inputs, y += op->inputs) {
    if (op->flags & SILU) {
      norm_group(op, gain, shift, rows, x, stride, y, y_stride, SILU);
    } else {
      norm_group(op, gain, shift, rows, x, stride, y, y_stride, 0);
    }
  }
}

/* score += scale * the least of the groups' dot products. Whatever is not finite comes through. */
static void score(const Op* op, const float* data, int rows, const float* x, long stride, float* scores) {
  for (int r = 0; r < rows; r++) {
    float worst = INFINITY, check = 0;
    for (int g = 0; g < op->groups; g++) {
      const float *from = x + r * stride + g * op->inputs, *w = data + op->weight + g * op->inputs;
      vec total = {};
      int i = 0;
      for (; i + LANES <= op->inputs; i += LANES) total += load(from + i) * load(w + i);
      if (i < op->inputs) total += load_some(from + i, op->inputs - i) * load_some(w + i, op->inputs - i);
      const float worth = sum(total) + data[op->bias + g];
      worst = worth < worst ? worth : worst;
      check += worth * 0.0f;
    }
    scores[r] += op->scale * worst + check;
  }
}

/* One operation on a block's candidates, ``rows`` of them from ``first`` on, in a worker's own memory. */
static void operate(Worker* w, int index, const Slot* slot, int first, int rows) {
  const Engine* e = w->engine;
  const Header* head = e->head;
  const Op* op = e->op + index;
  const float* data = e->data;
  float* scores = w->score + first;
  const long from_stride = e->stride[op->from], to_stride = e->stride[op->to];
  /* Buffer 0 holds every candidate, the others one block's. */
  const float* x = w->buffer[op->from] + (op->from ? 0 : first * from_stride) + op->from_column;
  float* y = w->buffer[op->to] + (op->to ? 0 : first * to_stride) + op->to_column;
  const float* bias = op->bias < 0 ? NULL : op->flags & KNOWN ? slot->known + op->bias : data + op->bias;
  const long drawn = (long)slot->draw * head->candidates + first; /* rows of the banks of noise */
  switch (op->kind) {
    case START:
      for (int r = 0; r < rows; r++) {
        const float* bank = data + head->noise_bank + (drawn + r) * op->outputs;
        for (int i = 0; i < op->outputs; i++) y[r * to_stride + i] = bank[i] + slot->known[i];
      }
      break;
    case NOISE:
      for (int r = 0; r < rows; r++)
        memcpy(y + r * to_stride, data + head->skip_bank + (drawn + r) * op->outputs, 4 * (size_t)op->outputs);
      break;
    case NORM: norm(op, data, rows, x, from_stride, y, to_stride); break;
    case PRODUCT:
      if (op->flags & EIGHT_BITS) {
        product_8(op, e->packed + index, bias, rows, x, from_stride, y, to_stride, w->eight, e->eight_stride);
      } else {
        product(op, e->packed + index, bias, rows, x, from_stride, y, to_stride);
      }
      break;
    case TIMES:
      for (int r = 0; r < rows; r++)
        for (int i = 0; i < op->outputs; i++) y[r * to_stride + i] *= x[r * from_stride + i];
      break;
    case CLAMP: /* and an entry that is not finite makes the score so */
      for (int r = 0; r < rows; r++) {
        float check = 0;
        for (int i = 0; i < op->outputs; i++) {
          const float value = x[r * from_stride + i], low = data[op->weight + i], high = data[op->bias + i];
          check += value * 0.0f;
          y[r * to_stride + i] = value < low ? low : value > high ? high : value;
        }
        scores[r] += check;
      }
      break;
    case SCORE: score(op, data, rows, x, from_stride, scores); break;
    case ARM:
      for (int r = 0; r < rows; r++)
        scores[r] += arm_score(data + head->constants, &slot->frame, slot->inputs, x + r * from_stride, op->inputs / 3);
      break;
  }
}

#endif
