/* Products of a block's rows with a layer's weights, and how weights are packed for the machine's registers. */

#ifndef ONESTRIDE_PRODUCTS_H
#define ONESTRIDE_PRODUCTS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"
#include "vectors.h"

enum { VECS = 3, PANEL = VECS * LANES, BLOCK = 16, ALIGN = 64 }; /* BLOCK: rows of a job, at most */
#define LEAST 1e-15f /* of what is divided by where all weights or inputs are 0: products of two are no subnormals */

typedef struct {
  void* weight;        /* packed: panels of PANEL outputs, inputs after inputs */
  float *scale, *sums; /* 8 bits: of each output */
} Packed;

INLINE long up(long value, long to) { return (value + to - 1) / to * to; }

static void* aligned(size_t bytes) {
  void* memory = NULL;
  if (posix_memalign(&memory, ALIGN, (size_t)up((long)bytes + 1, ALIGN))) return NULL;
  memset(memory, 0, (size_t)up((long)bytes + 1, ALIGN)); /* touched now, not in the first decision */
  return memory;
}

/* A vector of outputs, or its first ``left``, where it belongs. */
INLINE void put(float* to, vec value, const float* bias, long left, int flags) {
  if (bias) value += left >= LANES ? load(bias) : load_some(bias, left);
  if (flags & SILU) value = silu(value);
  if (left >= LANES) {
    store(to, flags & ADD ? value + load(to) : value);
  } else {
    store_some(to, flags & ADD ? value + load_some(to, left) : value, left);
  }
}

/* rows x vecs vectors of outputs; both are constants wherever this is called, and everything stays in registers. */
INLINE void tile(int rows, int vecs, const float* x, long stride, const float* w, int inputs, const float* bias,
                 float* y, long y_stride, int outputs, int flags) {
  vec sums[ROWS][VECS];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
    for (int v = 0; v < vecs; v++) sums[r][v] = (vec){};
  for (int k = 0; k < inputs; k++) {
    vec weight[VECS];
#pragma GCC unroll 3
    for (int v = 0; v < vecs; v++) weight[v] = held(*(const vec*)(w + ((long)k * vecs + v) * LANES));
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
      const float here = x[r * stride + k];
#pragma GCC unroll 3
      for (int v = 0; v < vecs; v++) sums[r][v] = fused(sums[r][v], here, weight[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
    for (int v = 0; v < vecs; v++) {
      const long left = outputs - v * LANES;
      if (left > 0) put(y + r * y_stride + v * LANES, sums[r][v], bias ? bias + v * LANES : NULL, left, flags);
    }
}

INLINE void tiles(int vecs, int rows, const float* x, long stride, const float* w, int inputs, const float* bias,
                  float* y, long y_stride, int outputs, int flags) {
  int r = 0;
  for (; r + ROWS <= rows; r += ROWS)
    tile(ROWS, vecs, x + r * stride, stride, w, inputs, bias, y + r * y_stride, y_stride, outputs, flags);
  for (; r + 2 <= rows; r += 2)
    tile(2, vecs, x + r * stride, stride, w, inputs, bias, y + r * y_stride, y_stride, outputs, flags);
  for (; r < rows; r++)
    tile(1, vecs, x + r * stride, stride, w, inputs, bias, y + r * y_stride, y_stride, outputs, flags);
}

static void product(const Op* op, const Packed* packed, const float* bias, int rows, const float* x, long stride,
                    float* y, long y_stride) {
  const float* w = packed->weight;
  for (int n = 0; n < op->outputs; n += PANEL) {
    const int left = op->outputs - n, inputs = op->inputs;
    const float* b = bias ? bias + n : NULL;
    if (left > 2 * LANES) {
      tiles(3, rows, x, stride, w, inputs, b, y + n, y_stride, left, op->flags);
    } else if (left > LANES) {
      tiles(2, rows, x, stride, w, inputs, b, y + n, y_stride, left, op->flags);
    } else {
      tiles(1, rows, x, stride, w, inputs, b, y + n, y_stride, left, op->flags);
    }
    w += (long)inputs * PANEL; /* only the last panel is narrower */
  }
}

/* ---------------------------------------------------------------- packing */

static void unpack(Packed* packed) { free(packed->weight), free(packed->scale), free(packed->sums); }

/* Whether there was memory for it. */
static int pack(const Op* op, const float* weight, int eight, Packed* to) {
  const int inputs = op->inputs, outputs = op->outputs, fours = (inputs + 3) / 4;
  const long all = up(outputs, LANES);
  char* at = to->weight = aligned((size_t)(eight ? fours * 4 : inputs * 4) * (size_t)all);
  if (!at) return 0;
  if (eight) {
    to->scale = aligned(4 * (size_t)up(outputs, PANEL));
    to->sums = aligned(4 * (size_t)up(outputs, PANEL));
    if (!to->scale || !to->sums) return 0;
    for (int n = 0; n < outputs; n++) {
      float largest = LEAST, check = 0;
      for (int k = 0; k < inputs; k++) {
        const float value = weight[(long)n * inputs + k];
        largest = fmaxf(largest, fabsf(value)), check += value * 0.0f;
      }
      to->scale[n] = largest / 127.0f + check; /* not finite where a weight is not, and so is what comes out */
    }
  }
  for (int n = 0; n < outputs; n += PANEL) {
    const int wide = outputs - n >= PANEL ? PANEL : (int)up(outputs - n, LANES);
    for (int j = 0; j < wide && n + j < outputs; j++)
      for (int k = 0; k < inputs; k++) {
        const float value = weight[(long)(n + j) * inputs + k];
        if (eight) {
          const float per = to->scale[n + j];
          const int8_t q = per - per == 0 ? (int8_t)lrintf(value / per) : 0;
          to->sums[n + j] += q;
          ((int8_t*)at)[(long)k / 4 * wide * 4 + j * 4 + k % 4] = q;
        } else {
          ((float*)at)[(long)k * wide + j] = value;
        }
      }
    at += (long)wide * (eight ? fours * 4 : inputs * 4);
  }
  return 1;
}

#endif
