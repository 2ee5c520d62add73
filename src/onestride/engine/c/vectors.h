/* Vectors of the machine, in GNU C: AVX-512, AVX2, or 128 bits of anything. */

#ifndef ONESTRIDE_VECTORS_H
#define ONESTRIDE_VECTORS_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 8 }; /* ROWS x VECS accumulators fill the registers */
#elif defined(__AVX2__)
enum { LANES = 8, ROWS = 4 };
#elif defined(__aarch64__)
enum { LANES = 4, ROWS = 8 };
#else
enum { LANES = 4, ROWS = 4 };
#endif
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias)); /* anywhere in memory */
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float* from) { return *(const loose*)from; }
INLINE void store(float* to, vec value) { *(loose*)to = value; }

/* a < b ? a : b and a > b ? a : b, in each lane: b where either is NaN. */
#if defined(__AVX512F__)
INLINE vec least(vec a, vec b) { return (vec)_mm512_min_ps((__m512)a, (__m512)b); }
INLINE vec most(vec a, vec b) { return (vec)_mm512_max_ps((__m512)a, (__m512)b); }
#else
INLINE vec select_(ivec mask, vec yes, vec no) { return (vec)(((ivec)yes & mask) | ((ivec)no & ~mask)); }
INLINE vec least(vec a, vec b) { return select_(a < b, a, b); }
INLINE vec most(vec a, vec b) { return select_(a > b, a, b); }
#endif

/* e^x to a few units in the last place; held between e^-87 and e^88. Coefficients: Cephes' expf. */
INLINE vec exponential(vec x) {
  const vec top = (vec){} + 88.0f, bottom = (vec){} - 87.0f;
  const vec held = least(most(x, bottom), top);
#if defined(__AVX512F__)
  const vec n = (vec)_mm512_roundscale_ps((__m512)(held * 1.44269504f), 0); /* to the nearest whole number */
#else
  const vec magic = (vec){} + 12582912.0f; /* 1.5 * 2^23: adding it rounds to whole numbers */
  const vec n = held * 1.44269504f + magic - magic;
#endif
  const vec r = held - n * 0.693359375f + n * 2.12194440e-4f;
  vec p = (vec){} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
#if defined(__AVX512F__)
  return (vec)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  const ivec power = (__builtin_convertvector(n, ivec) + 127) << 23;
  return p * (vec)power;
#endif
}

/* NaN stays NaN. */
INLINE vec silu(vec x) {
  const vec below = exponential(-x) + 1.0f;
#if defined(__AVX512F__)
  const vec near = (vec)_mm512_rcp14_ps((__m512)below); /* 14 bits of 1 / below, and one step of Newton's */
  return x * (near * (2.0f - below * near));
#else
  return x / below;
#endif
}

INLINE float sum(vec v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v);
#else
  for (int half = LANES / 2; half; half /= 2)
    for (int i = 0; i < half; i++) v[i] += v[i + half];
  return v[0];
#endif
}

/* The first count < LANES numbers, zeros behind them. */
INLINE vec load_some(const float* from, long count) {
  float all[LANES] = {0};
  memcpy(all, from, (size_t)count * 4);
  return load(all);
}

INLINE void store_some(float* to, vec value, long count) { memcpy(to, &value, (size_t)count * 4); }

INLINE vec root(vec v) {
#if defined(__AVX512F__)
  return (vec)_mm512_sqrt_ps((__m512)v);
#else
  for (int i = 0; i < LANES; i++) v[i] = sqrtf(v[i]);
  return v;
#endif
}

INLINE void pause_(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* Numbers below 1e-38 count as 0 in this thread: processors take a hundred times as long for them. Returns how it was
   before, for restore_subnormals. */
INLINE unsigned long flush_subnormals(void) {
#if defined(__SSE__)
  const unsigned before = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(before | 0x8040);
  return before;
#elif defined(__aarch64__)
  unsigned long before;
  __asm__ volatile("mrs %0, fpcr" : "=r"(before));
  __asm__ volatile("msr fpcr, %0" : : "r"(before | 1ul << 24));
  return before;
#else
  return 0;
#endif
}

INLINE void restore_subnormals(unsigned long before) {
#if defined(__SSE__)
  __builtin_ia32_ldmxcsr((unsigned)before);
#elif defined(__aarch64__)
  __asm__ volatile("msr fpcr, %0" : : "r"(before));
#else
  (void)before;
#endif
}

INLINE vec magnitude(vec v) { return (vec)((ivec)v & 0x7fffffff); }

#endif
