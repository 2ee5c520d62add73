/* Vectors of the machine, in GNU C: AVX-512, AVX2, or 128 bits of anything. */

#ifndef ONESTRIDE_VECTORS_H
#define ONESTRIDE_VECTORS_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX2__) && !defined(__AVX512F__)
#define AVX2_ALONE
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
typedef int32_t eights __attribute__((vector_size(4 * LANES), may_alias)); /* four numbers of 8 bits in every lane */
typedef int8_t bytes __attribute__((vector_size(LANES)));
#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float* from) { return *(const loose*)from; }
INLINE void store(float* to, vec value) { *(loose*)to = value; }

/* Kept in a register. With AVX2 GCC would else read weights from memory for every row again, and a core that multiplies
   two vectors a cycle loads no more than two. */
INLINE vec held(vec v) {
#if defined(AVX2_ALONE)
  __asm__("" : "+x"(v));
#endif
  return v;
}

/* sum + x * each of y, rounded once wherever the processor can. GCC would else do so in some loops and not in others,
   and a number of outputs or rows would change the last bit. */
INLINE vec fused(vec sum, float x, vec y) {
#if defined(__AVX512F__)
  return (vec)_mm512_fmadd_ps(_mm512_set1_ps(x), (__m512)y, (__m512)sum);
#elif defined(__AVX2__) && defined(__FMA__)
  return (vec)_mm256_fmadd_ps(_mm256_set1_ps(x), (__m256)y, (__m256)sum);
#elif defined(__aarch64__)
  return (vec)vfmaq_n_f32((float32x4_t)sum, (float32x4_t)y, x);
#else
  return sum + x * y;
#endif
}

/* A product that is rounded before it is added to, for the same reason. */
INLINE vec rounded_once(vec product) {
#if defined(__AVX512F__)
  __asm__("" : "+v"(product));
#elif defined(__SSE__)
  __asm__("" : "+x"(product));
#elif defined(__aarch64__)
  __asm__("" : "+w"(product));
#endif
  return product;
}

/* a < b ? a : b and a > b ? a : b, in each lane: b where either is NaN. */
#if defined(__AVX512F__)
INLINE vec least(vec a, vec b) { return (vec)_mm512_min_ps((__m512)a, (__m512)b); }
INLINE vec most(vec a, vec b) { return (vec)_mm512_max_ps((__m512)a, (__m512)b); }
#elif defined(__AVX2__)
INLINE vec least(vec a, vec b) { return (vec)_mm256_min_ps((__m256)a, (__m256)b); }
INLINE vec most(vec a, vec b) { return (vec)_mm256_max_ps((__m256)a, (__m256)b); }
#else
INLINE vec select_(ivec mask, vec yes, vec no) { return (vec)(((ivec)yes & mask) | ((ivec)no & ~mask)); }
INLINE vec least(vec a, vec b) { return select_(a < b, a, b); }
INLINE vec most(vec a, vec b) { return select_(a > b, a, b); }
#endif

/* To the nearest whole numbers, of what is between -2^22 and 2^22. */
INLINE ivec rounded(vec x) {
#if defined(__AVX512F__)
  return (ivec)_mm512_cvtps_epi32((__m512)x);
#elif defined(__AVX2__)
  return (ivec)_mm256_cvtps_epi32((__m256)x);
#else
  const float magic = 12582912.0f; /* 1.5 * 2^23: adding it leaves no bits for fractions */
  return __builtin_convertvector(x + magic - magic, ivec);
#endif
}

/* Whole numbers in 8 bits: 0 ... 255 with AVX2, else as bytes are. */
INLINE bytes narrowed(ivec whole) {
#if defined(AVX2_ALONE) /* GCC 12 takes them out one by one */
  const __m256i all = (__m256i)whole;
  const __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
  const __m128i packed = _mm_packus_epi16(half, half);
  bytes narrow;
  memcpy(&narrow, &packed, sizeof narrow);
  return narrow;
#else
  return __builtin_convertvector(whole, bytes);
#endif
}

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

INLINE float lowest(vec v) {
  for (int half = LANES / 2; half; half /= 2)
    for (int i = 0; i < half; i++) v[i] = v[i + half] < v[i] ? v[i + half] : v[i];
  return v[0];
}

INLINE float highest(vec v) { return -lowest(-v); }

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
#elif defined(__AVX2__)
  return (vec)_mm256_sqrt_ps((__m256)v);
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
