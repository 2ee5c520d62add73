/* Products of a block's rows with a layer's weights, and how weights are packed for the machine's registers. */

#ifndef ONESTRIDE_PRODUCTS_H
#define ONESTRIDE_PRODUCTS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "program.h"
#include "vectors.h"

enum { VECS = 3, PANEL = VECS * LANES, BLOCK = LANES == 16 ? 32 : 16, ALIGN = 64 }; /* BLOCK: rows of a job, at most */
enum { LINE = 64, LINES = (4 * PANEL + LINE - 1) / LINE }; /* bytes of a cache line; lines of a step of a panel */
enum { LARGE_PAGE = 1 << 21 };
#define LEAST 1e-15f /* of what is divided by where all weights or inputs are 0: products of two are no subnormals */

typedef struct {
  void* weight;        /* packed: panels of PANEL outputs, inputs after inputs */
  float *scale, *sums; /* 8 bits: of each output */
} Packed;

INLINE long up(long value, long to) { return (value + to - 1) / to * to; }

/* In large pages, where there are any: what a decision reads has mostly left the caches since the last one. */
static void* aligned(size_t bytes) {
  void* memory = NULL;
  const size_t size = (size_t)up((long)bytes + 1, ALIGN);
  if (posix_memalign(&memory, size < LARGE_PAGE ? ALIGN : LARGE_PAGE, size)) return NULL;
#if defined(MADV_HUGEPAGE)
  if (size >= LARGE_PAGE) (void)madvise(memory, size, MADV_HUGEPAGE); /* a wish */
#endif
  memset(memory, 0, size); /* touched now, not in the first decision */
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

/* Towards the second cache. */
INLINE void fetch(const char* from, int lines) {
  for (int i = 0; i < lines; i++) __builtin_prefetch(from + i * LINE, 0, 2);
}

/* What a pass over a block's rows fetches of the panel after this one, which lies behind it: lines in every step. In a
   control loop weights come from memory, since milliseconds have passed, and a core would wait for them. */
INLINE int lines_of(int pass, int passes) {
  const int each = (LINES + passes - 1) / passes;
  return pass * each < LINES ? each : 0;
}

/* rows x vecs vectors of outputs; both are constants wherever this is called, and everything stays in registers. */
INLINE void tile(int rows, int vecs, const float* x, long stride, const float* w, int inputs, const float* bias,
                 float* y, long y_stride, int outputs, int flags, const char* ahead, int lines) {
  vec sums[ROWS][VECS];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
    for (int v = 0; v < vecs; v++) sums[r][v] = (vec){};
  for (int k = 0; k < inputs; k++, ahead += lines * LINE) {
    fetch(ahead, lines);
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
  const char* ahead = (const char*)(w + (long)inputs * vecs * LANES);
  int r = 0;
  for (; r + ROWS <= rows; r += ROWS) {
    const int lines = lines_of(r / ROWS, rows / ROWS);
    tile(ROWS, vecs, x + r * stride, stride, w, inputs, bias, y + r * y_stride, y_stride, outputs, flags, ahead, lines);
    ahead += (long)inputs * lines * LINE;
  }
  for (; r + 2 <= rows; r += 2)
    tile(2, vecs, x + r * stride, stride, w, inputs, bias, y + r * y_stride, y_stride, outputs, flags, ahead, 0);
  for (; r < rows; r++)
    tile(1, vecs, x + r * stride, stride, w, inputs, bias, y + r * y_stride, y_stride, outputs, flags, ahead, 0);
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

static void unpack(Packed* packed) { free(packed->scale), free(packed->sums); }

/* Bytes of a product's weights, which lie one behind the other in the order of their use. */
static size_t packed_size(const Op* op, int eight) {
  return (size_t)up((eight ? up(op->inputs, 4) : 4L * op->inputs) * up(op->outputs, LANES), ALIGN);
}

/* A product's weights to where there is room for them. Whether there was memory for the rest. */
static int pack(const Op* op, const float* weight, int eight, void* room, Packed* to) {
  const int inputs = op->inputs, outputs = op->outputs, fours = (inputs + 3) / 4;
  char* at = to->weight = room;
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
