/* Products of a block's rows with a layer's weights, packed for the machine's registers; in float32 and in 8 bits. */

#ifndef ONESTRIDE_PRODUCTS_H
#define ONESTRIDE_PRODUCTS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"
#include "vectors.h"

enum { VECS = 3, PANEL = VECS * LANES, BLOCK = 2 * ROWS, ALIGN = 64 };
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

/* ---------------------------------------------------------------- in float32 */

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
    for (int v = 0; v < vecs; v++) weight[v] = *(const vec*)(w + (long)k * vecs * LANES + v * LANES);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
      const float here = x[r * stride + k];
#pragma GCC unroll 3
      for (int v = 0; v < vecs; v++) sums[r][v] += here * weight[v];
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

#if defined(__AVX512VNNI__)
/* The same in 8 bits: inputs x = (q - zero) unit per row, weights w = q scale per output, sums in 32 bits. */
INLINE void tile_8(int rows, int vecs, const uint8_t* x, long stride, const float* unit, const float* zero,
                   const int8_t* w, int fours, const Packed* packed, int at, const float* bias, float* y, long y_stride,
                   int outputs, int flags) {
  __m512i sums[ROWS][VECS];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
    for (int v = 0; v < vecs; v++) sums[r][v] = _mm512_setzero_si512();
  for (int k = 0; k < fours; k++) {
    __m512i weight[VECS];
#pragma GCC unroll 3
    for (int v = 0; v < vecs; v++) weight[v] = _mm512_load_si512(w + ((long)k * vecs + v) * 64);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
      const __m512i here = _mm512_broadcastd_epi32(_mm_loadu_si32(x + r * stride + 4 * k));
#pragma GCC unroll 3
      for (int v = 0; v < vecs; v++) /* as the intrinsic, which GCC 12 spills to memory */
        __asm__("vpdpbusd %2, %1, %0" : "+v"(sums[r][v]) : "v"(here), "v"(weight[v]));
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
    for (int v = 0; v < vecs; v++) {
      const long left = outputs - v * LANES;
      if (left <= 0) continue;
      const int n = at + v * LANES;
      const vec value = (vec)_mm512_cvtepi32_ps(sums[r][v]) - zero[r] * load(packed->sums + n);
      put(y + r * y_stride + v * LANES, value * (unit[r] * load(packed->scale + n)), bias ? bias + v * LANES : NULL,
          left, flags);
    }
}

/* The range of a row's numbers and 0; finite is not 0 where one of them is not. Two of each: each waits for its last. */
INLINE void ranged(const float* x, int inputs, float* bottom, float* top, float* finite) {
  vec low[2] = {}, high[2] = {}, check[2] = {};
  int k = 0;
  for (; k + 2 * LANES <= inputs; k += 2 * LANES)
#pragma GCC unroll 2
    for (int s = 0; s < 2; s++) {
      const vec value = load(x + k + s * LANES);
      low[s] = least(value, low[s]), high[s] = most(value, high[s]), check[s] += value * 0.0f;
    }
  for (; k < inputs; k += LANES) {
    const vec value = inputs - k >= LANES ? load(x + k) : load_some(x + k, inputs - k);
    low[0] = least(value, low[0]), high[0] = most(value, high[0]), check[0] += value * 0.0f;
  }
  *bottom = _mm512_reduce_min_ps((__m512)least(low[0], low[1]));
  *top = _mm512_reduce_max_ps((__m512)most(high[0], high[1]));
  *finite = sum(check[0] + check[1]);
}

/* Rows of inputs as 0 ... 255; a row that is not finite becomes NaN behind the product. */
static void to_eight(const float* x, long stride, int rows, int inputs, uint8_t* q, long q_stride, float* unit,
                     float* zero) {
  float finite[BLOCK];
  for (int r = 0; r < rows; r++) {
    float bottom, top;
    ranged(x + r * stride, inputs, &bottom, &top, finite + r);
    unit[r] = fmaxf((top - bottom) / 255.0f, LEAST);
    zero[r] = nearbyintf(-bottom / unit[r]);
  }
  for (int r = 0; r < rows; r++) {
    const float* from = x + r * stride;
    uint8_t* to = q + r * q_stride;
    const float per = 1.0f / unit[r];
    for (int k = 0; k < inputs; k += LANES) {
      const long left = inputs - k;
      const vec value = left >= LANES ? load(from + k) : load_some(from + k, left);
      const __m512i whole = _mm512_cvtps_epi32((__m512)(value * per + zero[r])); /* rounds to nearest */
      _mm_storeu_si128((__m128i*)(to + k), _mm512_cvtusepi32_epi8(_mm512_max_epi32(whole, _mm512_setzero_si512())));
    }
    unit[r] += finite[r];
  }
}

INLINE void tiles_8(int vecs, int rows, const uint8_t* x, long stride, const float* unit, const float* zero,
                    const int8_t* w, int fours, const Packed* packed, int at, const float* bias, float* y,
                    long y_stride, int outputs, int flags) {
  int r = 0;
  for (; r + ROWS <= rows; r += ROWS)
    tile_8(ROWS, vecs, x + r * stride, stride, unit + r, zero + r, w, fours, packed, at, bias, y + r * y_stride,
           y_stride, outputs, flags);
  for (; r < rows; r++)
    tile_8(1, vecs, x + r * stride, stride, unit + r, zero + r, w, fours, packed, at, bias, y + r * y_stride, y_stride,
           outputs, flags);
}

static void product_8(const Op* op, const Packed* packed, const float* bias, int rows, const float* x, long stride,
                      float* y, long y_stride, uint8_t* q, long q_stride) {
  float unit[BLOCK], zero[BLOCK];
  to_eight(x, stride, rows, op->inputs, q, q_stride, unit, zero);
  const int8_t* w = packed->weight;
  const int fours = (op->inputs + 3) / 4;
  for (int n = 0; n < op->outputs; n += PANEL) {
    const int left = op->outputs - n;
    const float* b = bias ? bias + n : NULL;
    if (left > 2 * LANES) {
      tiles_8(3, rows, q, q_stride, unit, zero, w, fours, packed, n, b, y + n, y_stride, left, op->flags);
    } else if (left > LANES) {
      tiles_8(2, rows, q, q_stride, unit, zero, w, fours, packed, n, b, y + n, y_stride, left, op->flags);
    } else {
      tiles_8(1, rows, q, q_stride, unit, zero, w, fours, packed, n, b, y + n, y_stride, left, op->flags);
    }
    w += (long)fours * 4 * PANEL;
  }
}
#endif

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
      float largest = LEAST;
      for (int k = 0; k < inputs; k++) largest = fmaxf(largest, fabsf(weight[(long)n * inputs + k]));
      to->scale[n] = largest / 127.0f;
    }
  }
  for (int n = 0; n < outputs; n += PANEL) {
    const int wide = outputs - n >= PANEL ? PANEL : (int)up(outputs - n, LANES);
    for (int j = 0; j < wide && n + j < outputs; j++)
      for (int k = 0; k < inputs; k++) {
        const float value = weight[(long)(n + j) * inputs + k];
        if (eight) {
          const int8_t q = (int8_t)lrintf(value / to->scale[n + j]);
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
