/* How a program lies in memory: a header, operations, numbers. engine/layout.py writes this file. */

#ifndef ONESTRIDE_LAYOUT_H
#define ONESTRIDE_LAYOUT_H

#include <stdint.h>

#define MAGIC "ONESTRID"

enum { VERSION = 6, MAX_BUFFERS = 16 };

enum { START = 0, NOISE = 1, NORM = 2, PRODUCT = 3, TIMES = 4, CLAMP = 5, SCORE = 6, ARM = 7 };
enum { PLAIN_TASK = 0, ARM_TASK = 1 };
enum { SILU = 1, KNOWN = 2, EIGHT_BITS = 4, ADD = 8 };

/* weight, bias: where in the numbers; -1: none. With KNOWN, bias is where in the known. */
typedef struct {
  int32_t kind, flags, from, from_column, to, to_column, inputs, outputs, groups, weight, bias;
  float scale;
} Op;

typedef struct {
  char magic[8];
  int32_t version, operations, buffers, numbers, task, observation, state, inputs, known, candidates, draws, hidden,
      noise, features, decoded, action, horizon, known_weight, known_bias, offset, noise_bank, skip_bank, handicap,
      finish_weight, finish_bias, low, high, constants, conditions, asked, ask_width, ask_sizes, ask_layers, ask_weight;
  int32_t width[MAX_BUFFERS]; /* of each buffer; buffer 0 holds the features */
} Header;

_Static_assert(sizeof(Op) == 48 && sizeof(Header) == 208, "as engine/layout.py has them");

#endif
