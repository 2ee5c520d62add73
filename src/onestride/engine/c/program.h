/* Whether a program (engine/program.py writes it) is sound: nothing in it leads outside of it. */

#ifndef ONESTRIDE_PROGRAM_H
#define ONESTRIDE_PROGRAM_H

#include <stdint.h>

#include "arm.h"
#include "layout.h"

/* Whether a stretch of columns lies within a buffer, and of numbers within the program. */
static int within(const Header* head, int buffer, int column, int64_t count) {
  return buffer >= 0 && buffer < head->buffers && column >= 0 && count > 0 && column + count <= head->width[buffer];
}

static int inside(const Header* head, int at, int64_t count) {
  return at >= 0 && count >= 0 && at + count <= head->numbers;
}

/* Whether what embeds conditions lies within the program, and their sizes add up. */
static int asked_sound(const Header* h, const float* numbers) {
  enum { MOST = 1 << 10 };
  const int64_t n = h->conditions, width = h->ask_width;
  if (n == 0) return h->asked == 0;
  if (n < 0 || n > MOST || width < 1 || width > MOST || h->asked < n || h->asked > MOST) return 0;
  if (!inside(h, h->ask_sizes, n) || !inside(h, h->ask_weight, h->known * n * width)) return 0;
  int64_t all = 0;
  for (int c = 0; c < n; c++) {
    const float size = numbers[h->ask_sizes + c];
    if (!(size >= 1 && size <= MOST)) return 0;
    all += (int64_t)size;
  }
  return all == h->asked && inside(h, h->ask_layers, width * all + n * width * (width + 2));
}

/* Whether nothing in a program leads outside of it. */
static int validate(const Header* h, const Op* op) {
  enum { MANY = 1 << 20 };
  const int64_t n = h->candidates, draws = h->draws;
  int good = h->state > 0 && h->inputs >= h->state && h->inputs < MANY && h->state <= h->observation && n < MANY &&
             draws < MANY && h->observation < MANY && h->known < MANY && h->hidden < MANY && h->decoded < MANY &&
             h->noise >= 0 && h->noise < MANY;
  for (int b = 0; b < h->buffers; b++) good = good && h->width[b] > 0 && h->width[b] < MANY;
  good = good && h->observation > 0 && n > 0 && draws > 0 && h->action > 0 && h->decoded >= h->action &&
         h->hidden > 0 && h->known >= h->hidden && h->features > 0 && h->features <= h->width[0] &&
         inside(h, h->known_weight, (int64_t)h->known * h->inputs) && inside(h, h->known_bias, h->known) &&
         inside(h, h->offset, h->inputs) && inside(h, h->noise_bank, draws * n * h->hidden) &&
         (h->handicap < 0 || inside(h, h->handicap, n)) &&
         inside(h, h->finish_weight, (int64_t)h->decoded * h->features) && inside(h, h->finish_bias, h->decoded) &&
         inside(h, h->low, h->action) && inside(h, h->high, h->action) &&
         asked_sound(h, (const float*)(op + h->operations));
  if (h->task == ARM_TASK) {
    good = good && inside(h, h->constants, ARM_LISTS) &&
           arm_sound((const float*)(op + h->operations) + h->constants, h->numbers - h->constants, h->observation,
                     h->state, h->inputs, h->action);
  } else {
    good = good && h->task == PLAIN_TASK && h->inputs == h->state && h->state == h->observation;
  }
  for (int i = 0; good && i < h->operations; i++, op++) {
    const int64_t in = op->inputs, out = op->outputs, groups = op->groups;
    good = in > 0 && out > 0 && groups > 0 && in < MANY && out < MANY && groups < MANY && op->from >= 0 &&
           op->to >= 0 && op->from < h->buffers && op->to < h->buffers;
    if (!good) break;
    const int reads = within(h, op->from, op->from_column, op->kind == NORM || op->kind == SCORE ? in * groups : in);
    const int writes = within(h, op->to, op->to_column, op->kind == NORM ? in * groups : out);
    switch (op->kind) {
      case START: good = writes && out == h->hidden; break;
      case NOISE: good = writes && out == h->noise && inside(h, h->skip_bank, draws * n * out); break;
      case NORM:
        good = reads && writes && (op->weight < 0 || (inside(h, op->weight, in) && inside(h, op->bias, in)));
        break;
      case PRODUCT:
        good = reads && writes && (op->from != op->to) && inside(h, op->weight, in * out) &&
               (op->bias < 0 || (op->flags & KNOWN ? op->bias + out <= h->known : inside(h, op->bias, out)));
        break;
      case TIMES: good = reads && writes && in == out; break;
      case CLAMP: good = reads && writes && in == out && inside(h, op->weight, out) && inside(h, op->bias, out); break;
      case ARM: good = reads && h->task == ARM_TASK && in % 3 == 0 && in <= 3 * (ARM_ROWS - 1); break;
      case SCORE: good = reads && writes && inside(h, op->weight, in * groups) && inside(h, op->bias, groups); break;
      default: good = 0;
    }
  }
  return good;
}

#endif
