/* The same products in 8 bits, where the processor has sums of four of them: AVX-512 or AVX VNNI, AVX2, or ARM's dot
   product.

   Inputs are x = (q - zero) unit, of each row; weights w = q scale, of each output; sums have 32 bits. */

#ifndef ONESTRIDE_EIGHT_BITS_H
#define ONESTRIDE_EIGHT_BITS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "products.h"
#include "program.h"
#include "vectors.h"

/* Inputs are whole numbers FIRST ... FIRST + LEVELS; no LEVELS: the processor cannot. */
#if defined(__AVX512VNNI__)
#define VNNI "vpdpbusd"
enum { FIRST = 0, LEVELS = 255 };
#elif defined(__AVXVNNI__) && defined(AVX2_ALONE)
#define VNNI "%{vex%} vpdpbusd"
enum { FIRST = 0, LEVELS = 255 };
#elif defined(AVX2_ALONE)
enum { FIRST = 0, LEVELS = 127 }; /* two products have to fit into 16 bits */
#elif defined(__ARM_FEATURE_DOTPROD)
enum { FIRST = -128, LEVELS = 255 };
#else
enum { FIRST = 0, LEVELS = 0 };
#endif

/* sums + the four numbers of every lane of here times those of weight. */
INLINE ivec dot(ivec sums, eights here, eights weight) {
#if defined(VNNI) /* as the intrinsic, which GCC 12 spills to memory */
  __asm__(VNNI " %2, %1, %0" : "+v"(sums) : "v"(here), "v"(weight));
  return sums;
#elif defined(AVX2_ALONE)
  const __m256i pairs = _mm256_maddubs_epi16((__m256i)here, (__m256i)weight);
  return sums + (ivec)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#elif defined(__ARM_FEATURE_DOTPROD)
  return (ivec)vdotq_s32((int32x4_t)sums, (int8x16_t)here, (int8x16_t)weight);
#else
  return sums + here * weight; /* never called */
#endif
}

/* rows x vecs vectors of outputs, as in tile. */
INLINE void tile_8(int rows, int vecs, const int8_t* x, long stride, const float* unit, const float* zero,
                   const int8_t* w, int fours, const Packed* packed, int at, const float* bias, float* y, long y_stride,
                   int outputs, int flags, const char* ahead, int lines) {
  ivec sums[ROWS][VECS];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
    for (int v = 0; v < vecs; v++) sums[r][v] = (ivec){};
  for (int k = 0; k < fours; k++, ahead += lines * LINE) {
    fetch(ahead, lines);
    eights weight[VECS];
#pragma GCC unroll 3
    for (int v = 0; v < vecs; v++) weight[v] = *(const eights*)(w + ((long)k * vecs + v) * 4 * LANES);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
      int32_t four;
      memcpy(&four, x + r * stride + 4 * k, 4);
#pragma GCC unroll 3
      for (int v = 0; v < vecs; v++) sums[r][v] = dot(sums[r][v], (eights){} + four, weight[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
    for (int v = 0; v < vecs; v++) {
      const long left = outputs - v * LANES;
      if (left <= 0) continue;
      const int n = at + v * LANES;
      const vec steps = fused(__builtin_convertvector(sums[r][v], vec), -zero[r], load(packed->sums + n));
      const vec value = rounded_once(steps * (unit[r] * load(packed->scale + n)));
      put(y + r * y_stride + v * LANES, value, bias ? bias + v * LANES : NULL, left, flags);
    }
}

/* The range of a row's numbers and 0; finite is not 0 where one of them is not. Two of each, since each waits for its
   last. */
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
  *bottom = lowest(least(low[0], low[1]));
  *top = highest(most(high[0], high[1]));
  *finite = sum(check[0] + check[1]);
}

/* Rows of inputs in 8 bits; a row that is not finite becomes NaN behind the product. */
static void to_eight(const float* x, long stride, int rows, int inputs, int8_t* q, long q_stride, float* unit,
                     float* zero) {
  const vec first = (vec){} + FIRST, last = first + LEVELS;
  float finite[BLOCK];
  for (int r = 0; r < rows; r++) {
    float bottom, top;
    ranged(x + r * stride, inputs, &bottom, &top, finite + r);
    unit[r] = fmaxf((top - bottom) / (float)LEVELS, LEAST);
    zero[r] = FIRST + nearbyintf(-bottom / unit[r]);
  }
  for (int r = 0; r < rows; r++) {
    const float* from = x + r * stride;
    int8_t* to = q + r * q_stride;
    const float per = 1.0f / unit[r];
    for (int k = 0; k < inputs; k += LANES) {
      const long left = inputs - k;
      const vec value = left >= LANES ? load(from + k) : load_some(from + k, left);
      const ivec whole = rounded(least(most(value * per + zero[r], first), last));
      const bytes narrow = narrowed(whole);
      memcpy(to + k, &narrow, sizeof narrow);
    }
    unit[r] += finite[r];
  }
}

INLINE void tiles_8(int vecs, int rows, const int8_t* x, long stride, const float* unit, const float* zero,
                    const int8_t* w, int fours, const Packed* packed, int at, const float* bias, float* y,
                    long y_stride, int outputs, int flags) {
  const char* ahead = (const char*)(w + (long)fours * 4 * vecs * LANES);
  int r = 0;
  for (; r + ROWS <= rows; r += ROWS) {
    const int lines = lines_of(r / ROWS, rows / ROWS);
    tile_8(ROWS, vecs, x + r * stride, stride, unit + r, zero + r, w, fours, packed, at, bias, y + r * y_stride,
           y_stride, outputs, flags, ahead, lines);
    ahead += (long)fours * lines * LINE;
  }
  for (; r < rows; r++)
    tile_8(1, vecs, x + r * stride, stride, unit + r, zero + r, w, fours, packed, at, bias, y + r * y_stride, y_stride,
           outputs, flags, ahead, 0);
}

static void product_8(const Op* op, const Packed* packed, const float* bias, int rows, const float* x, long stride,
                      float* y, long y_stride, int8_t* q, long q_stride) {
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
