/* One decision of a reduced planner, by a C compiler alone: observation and noise -> scores -> the best plan's action.

   A program (engine/program.py writes it) is a list of operations on blocks of candidates. Each thread takes a block
   through the whole network, so that threads meet once, at the end, and a thread's activations stay in its own cache.

   Where a program's first operations bound every score from above (of a plan's worth by several critics, which is the
   least of them, that by one), the others are carried out for the best alone, until nobody else can win: exactly the
   winner of them all, for a fraction of the work.

   Where the program allows it candidates are screened: all are computed in 8 bits, the best of them in float32 too, and
   once more as many where others might win. How far 8 bits are off here and now is measured on those that are computed
   both ways. The work has a bound, whatever is observed.

   Read program.h, products.h, eight_bits.h, memory.h, operations.h, rounds.h, then this. Nothing is allocated after
   onestride_create. */

#define _GNU_SOURCE
#if (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) || defined(__ASSOCIATIVE_MATH__)
#error "numbers have to be what they are: build without -ffast-math, -Ofast and what these switch on"
#endif
#include "decide.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#endif

#include "arm.h"
#include "eight_bits.h"
#include "memory.h"
#include "products.h"
#include "program.h"
#include "rounds.h"
#include "vectors.h"

/* Candidates of a further round: those that are screened are all computed again, those with bounds a little further,
   a tile for each of two threads. */
enum { BEST = 16, FURTHER = 2 * ROWS };
#define SURE 2.0f      /* times as far from their mean as measured errors: errors that are not measured */

/* ---------------------------------------------------------------- making it */

int onestride_lanes(void) { return LANES; }

int onestride_levels(void) { return LEVELS; }

void onestride_destroy(Engine* e) {
  if (!e) return;
  atomic_store(&e->quit, 1);
  for (int t = 1; t < e->threads && e->process == getpid(); t++) { /* a forked process has no helpers to wait for */
    Worker* w = e->worker + t;
    pthread_mutex_lock(&w->lock);
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_mutex_destroy(&w->lock), pthread_cond_destroy(&w->wake);
  }
  for (int t = 0; e->worker && t < MAX_THREADS; t++) {
    for (int b = 0; b < MAX_BUFFERS; b++) free(e->worker[t].buffer[b]);
    free(e->worker[t].score);
    free(e->worker[t].eight);
  }
  for (int i = 0; e->packed && i < e->head->operations; i++) unpack(e->packed + i);
  for (int i = 0; e->packed_8 && i < e->head->operations; i++) unpack(e->packed_8 + i);
  free(e->packed), free(e->packed_8), free(e->weights), free(e->worker), free(e->inputs), free(e->off), free(e->known), free(e->free_entries);
  free(e->job), free(e->who), free(e->place), free(e->settled), free(e->asked), free(e->order), free(e->done);
  free(e->copy);
  free(e);
}

/* Blocks of candidates, and jobs of further rounds. Whether there was memory for them. */
static int plan_jobs(Engine* e, int threads) {
  const int n = e->head->candidates, first = e->head->first, all = e->head->operations;
  for (int i = 0; i < all; i++) e->screens |= e->op[i].kind == PRODUCT && (e->op[i].flags & SCREENED);
  e->screens = e->screens && n > BEST && LEVELS;
  e->defers = !e->screens && first < all && n > FURTHER;
  const long share = up(n, threads) / threads;
  e->rows = (int)(share < BLOCK ? share : BLOCK);
  e->blocks = (n + e->rows - 1) / e->rows;
  e->batch = e->screens ? BEST : FURTHER;
  /* No more jobs than there are threads, since each reads all weights; 1, 2, 4 ..., which divide a batch. */
  for (e->shares = 1; 2 * e->shares <= threads && 2 * e->shares * ROWS <= e->batch;) e->shares *= 2;
  const int regions = e->screens ? 2 : e->defers, further = regions * e->shares, jobs = e->blocks + further;
  e->places = n + regions * e->batch;
  e->job = calloc((size_t)jobs, sizeof *e->job), e->done = calloc((size_t)jobs, sizeof *e->done);
  e->order = calloc((size_t)jobs, sizeof *e->order), e->asked = calloc((size_t)jobs, sizeof *e->asked);
  e->who = calloc((size_t)e->places, sizeof *e->who);
  e->place = calloc((size_t)n, sizeof *e->place), e->settled = calloc((size_t)n, sizeof *e->settled);
  if (!e->job || !e->done || !e->order || !e->asked || !e->who || !e->place || !e->settled) return 0;
  for (int i = 0; i < n; i++) atomic_init(e->who + i, i), e->place[i] = i;
  for (int b = 0; b < e->blocks; b++) {
    const int at = b * e->rows;
    e->job[b] = (Job){at, n - at < e->rows ? n - at : e->rows, 0, e->defers ? first : all, e->screens};
  }
  for (int k = 0, rows = e->batch / e->shares; k < further; k++)
    e->job[e->blocks + k] = (Job){n + k * rows, rows, e->screens ? 0 : first, all, 0};
  return 1;
}

/* Whether a product's weights are wanted in float32 (0), in 8 bits (1). */
static int wanted(const Engine* e, const Op* op, int eight) {
  if (op->kind != PRODUCT) return 0;
  return eight ? op->flags & EIGHT_BITS || (e->screens && op->flags & SCREENED) : !(op->flags & EIGHT_BITS);
}

/* All weights, one behind the other. Whether there was memory for them, and the processor has what they want. */
static int pack_all(Engine* e) {
  size_t size = 0;
  for (int eight = 0; eight < 2; eight++)
    for (int i = 0; i < e->head->operations; i++)
      if (wanted(e, e->op + i, eight)) size += packed_size(e->op + i, eight);
  char* room = e->weights = aligned(size);
  int whole = room != NULL;
  for (int eight = 0; eight < 2; eight++)
    for (int i = 0; whole && i < e->head->operations; i++) {
      const Op* op = e->op + i;
      if (!wanted(e, op, eight)) continue;
      if (op->flags & EIGHT_BITS && !LEVELS) return 0;
      if (up(op->inputs, 64) > e->eight_stride) e->eight_stride = up(op->inputs, 64);
      whole &= pack(op, e->data + op->weight, eight, room, (eight ? e->packed_8 : e->packed) + i);
      room += packed_size(op, eight);
    }
  return whole;
}

Engine* onestride_create(const void* program, long bytes, int threads, const int* cores) {
  Header given;
  if (bytes < (long)sizeof given) return NULL;
  memcpy(&given, program, sizeof given);
  if (given.operations < 1 || given.numbers < 0 || given.buffers < 1 || given.buffers > MAX_BUFFERS) return NULL;
  const int64_t wanted = (int64_t)sizeof given + given.operations * (int64_t)sizeof(Op) + (int64_t)4 * given.numbers;
  if (memcmp(given.magic, "ONESTRID", 8) || given.version != VERSION || bytes != wanted || threads < 1) return NULL;
  Engine* e = calloc(1, sizeof *e);
  if (!e) return NULL;
  e->threads = 1, e->process = getpid();
  int whole = (e->copy = aligned((size_t)bytes)) != NULL;
  if (!whole) return onestride_destroy(e), NULL;
  memcpy(e->copy, program, (size_t)bytes);
  e->head = e->copy;
  e->op = (const Op*)(e->head + 1);
  e->data = (const float*)(e->op + e->head->operations);
  if (!sound(e->head, e->op)) return onestride_destroy(e), NULL;
  if (!plan_jobs(e, threads)) return onestride_destroy(e), NULL;
  int rows = e->rows; /* of any job, at most */
  if (e->places > e->head->candidates && e->batch / e->shares > rows) rows = e->batch / e->shares;
  if (threads > e->blocks) threads = e->blocks;
  if (threads >= MAX_THREADS) threads = MAX_THREADS - 1;
  whole &= (e->inputs = aligned(4 * (size_t)e->head->inputs)) != NULL;
  whole &= (e->off = aligned(4 * (size_t)e->head->inputs)) != NULL;
  whole &= (e->known = aligned(4 * (size_t)e->head->known)) != NULL;
  whole &= (e->free_entries = aligned(4 * (size_t)e->head->decoded)) != NULL;
  whole &= (e->packed = calloc((size_t)e->head->operations, sizeof(Packed))) != NULL;
  whole &= (e->packed_8 = calloc((size_t)e->head->operations, sizeof(Packed))) != NULL;
  whole &= (e->worker = calloc(MAX_THREADS, sizeof(Worker))) != NULL;
  for (int b = 0; b < e->head->buffers; b++) e->stride[b] = up(e->head->width[b], LANES);
  whole = whole && pack_all(e);
  for (int t = 0; whole && t < threads; t++) {
    Worker* w = e->worker + t;
    w->engine = e, w->number = t;
    for (int b = 0; b < e->head->buffers; b++)
      whole &= (w->buffer[b] = aligned(4 * (size_t)e->stride[b] * (size_t)(b ? rows : e->places))) != NULL;
    whole &= (w->score = aligned(4 * (size_t)e->places)) != NULL;
    whole &= (w->eight = aligned((size_t)e->eight_stride * BLOCK)) != NULL;
  }
  for (int t = 1; whole && t < threads; t++) {
    pthread_mutex_init(&e->worker[t].lock, NULL), pthread_cond_init(&e->worker[t].wake, NULL);
    whole &= pthread_create(&e->worker[t].thread, NULL, help, e->worker + t) == 0;
    if (whole) e->threads = t + 1;
#if defined(__linux__)
    if (whole && cores) {
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cores[t - 1], &one);
      pthread_setaffinity_np(e->worker[t].thread, sizeof one, &one); /* a wish: without it all is as right */
    }
#else
    (void)cores;
#endif
  }
  if (!whole) return onestride_destroy(e), NULL;
  return e;
}

/* ---------------------------------------------------------------- further rounds */

/* The best of those that are not settled yet, of what is worth ``least`` or more; how many there are. */
static int favourites(const Engine* e, const float* scores, float least, int* who) {
  int found = 0;
  for (int i = 0; i < e->head->candidates; i++) {
    if (e->settled[i] || !(scores[i] >= least)) continue;
    int k = found < e->batch ? found++ : e->batch;
    for (; k > 0 && scores[who[k - 1]] < scores[i]; k--)
      if (k < e->batch) who[k] = who[k - 1];
    if (k < e->batch) who[k] = i;
  }
  return found;
}

/* So many candidates (at least one) computed further, in the region of places that is given. */
static void compute_further(Engine* e, const int* who, int count, int region) {
  const int first = e->head->candidates + region * e->batch;
  for (int k = 0; k < e->batch; k++)
    atomic_store_explicit(e->who + first + k, who[k < count ? k : count - 1], memory_order_relaxed);
  for (int k = 0; k < e->shares; k++) e->asked[k] = e->blocks + region * e->shares + k;
  go_round(e, e->asked, e->shares);
  for (int k = 0; k < count; k++) e->settled[who[k]] = 1;
}

/* From bounds to the scores of all who may win. */
static void settle(Engine* e, float* scores) {
  int who[BEST], count;
  float best = -FLT_MAX;
  while ((count = favourites(e, scores, best, who))) {
    compute_further(e, who, count, 0);
    for (int k = 0; k < count; k++) {
      const int place = e->head->candidates + k;
      const float value = scores[who[k]] = at(e, place)->score[place];
      if (value - value == 0 && value > best) best = value;
    }
  }
}

/* From scores in 8 bits to those in float32 of whoever may win. */
static void screen(Engine* e, float* scores) {
  int who[BEST];
  float off[BEST], best = -INFINITY, least = -FLT_MAX;
  for (int region = 0; region < 2; region++) {
    const int count = favourites(e, scores, least, who), first = e->head->candidates + region * BEST;
    if (!count) return;
    compute_further(e, who, count, region);
    float mean = 0, away = 0;
    for (int k = 0; k < count; k++) {
      const float value = at(e, first + k)->score[first + k];
      off[k] = value - scores[who[k]];
      mean += off[k] / (float)count;
      if (value - value == 0 && value > best) best = value;
      scores[who[k]] = value, e->place[who[k]] = first + k;
    }
    /* Errors of one decision lie around a mean of their own. */
    for (int k = 0; k < count; k++) away = fmaxf(away, fabsf(off[k] - mean));
    least = best - mean - SURE * away;
    if (least - least != 0) least = -FLT_MAX; /* nothing is known of them */
  }
}

/* ---------------------------------------------------------------- deciding */

/* y = weight x + bias, for a single x. */
static void one(const float* weight, const float* bias, const float* x, int inputs, int outputs, float* y) {
  for (int n = 0; n < outputs; n++) {
    const float* w = weight + (long)n * inputs;
    vec total = {};
    int k = 0;
    for (; k + LANES <= inputs; k += LANES) total += load(w + k) * load(x + k);
    float rest = 0;
    for (; k < inputs; k++) rest += w[k] * x[k];
    y[n] = sum(total) + rest + bias[n];
  }
}

/* Whether an observation can be acted on: 0, or the reason why not. */
static int refused(const Engine* e, const float* observation) {
  float check = 0;
  for (int i = 0; i < e->head->observation; i++) check += observation[i] * 0.0f;
  if (check != 0) return ONESTRIDE_NOT_FINITE; /* and NaN is not 0 */
  return e->head->task == ARM_TASK ? arm_refused(e->data + e->head->constants, observation) : 0;
}

static int decide(Engine* e, const float* observation, int draw, float* action, float* plan, float* scores, float* best) {
  const Header* head = e->head;
  const float* data = e->data;
  if (head->task == ARM_TASK) {
    arm_encode(data + head->constants, observation, e->inputs, &e->frame);
  } else {
    memcpy(e->inputs, observation, 4 * (size_t)head->inputs);
  }
  for (int i = 0; i < head->inputs; i++) e->off[i] = e->inputs[i] - data[head->offset + i];
  one(data + head->known_weight, data + head->known_bias, e->off, head->inputs, head->known, e->known);
  e->draw = (draw % head->draws + head->draws) % head->draws;
  for (int b = 0; b < e->blocks; b++) e->asked[b] = b;
  go_round(e, e->asked, e->blocks);
  for (int i = 0; i < head->candidates; i++) {
    scores[i] = at(e, i)->score[i];
    e->place[i] = i, e->settled[i] = !e->screens && !e->defers;
  }
  if (e->screens) screen(e, scores);
  if (e->defers) settle(e, scores);

  int winner = 0, decided = 0;
  for (int i = 0; i < head->candidates; i++) {
    if (scores[i] - scores[i] != 0) scores[i] = -INFINITY;
    if (!e->settled[i]) continue;
    if (!decided || scores[i] > scores[winner]) winner = i;
    decided = 1;
  }
  for (int i = 0; i < head->candidates; i++) scores[i] = fminf(scores[i], scores[winner]);
  *best = scores[winner];
  const int place = e->place[winner];
  const float* features = at(e, place)->buffer[0] + place * e->stride[0];
  one(data + head->finish_weight, data + head->finish_bias, features, head->features, head->decoded, e->free_entries);
  if (head->task == ARM_TASK) {
    arm_command(&e->frame, e->free_entries, action);
  } else {
    for (int i = 0; i < head->action; i++) {
      const float value = e->free_entries[i], low = data[head->low + i], high = data[head->high + i];
      action[i] = value < low ? low : value > high ? high : value;
    }
  }
  if (plan) {
    memcpy(plan, e->inputs, 4 * (size_t)head->state);
    memcpy(plan + head->state, e->free_entries, 4 * (size_t)head->decoded);
  }
  return winner;
}

int onestride_decide(Engine* e, const float* observation, int draw, float* action, float* plan, float* scores,
                     float* best) {
  const unsigned long before = flush_subnormals();
  int outcome = refused(e, observation);
  *best = -INFINITY;
  if (!outcome) outcome = decide(e, observation, draw, action, plan, scores, best);
  restore_subnormals(before);
  return outcome;
}

int onestride_settled(const Engine* e) {
  int count = 0;
  for (int i = 0; i < e->head->candidates; i++) count += e->settled[i];
  return count;
}
