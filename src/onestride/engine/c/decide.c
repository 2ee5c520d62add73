/* One decision of a folded policy, by a C compiler alone: observation and noise -> scores -> the best plan's action.

   A program (engine/program.py writes it) is a list of operations on blocks of candidates. Each thread takes a block
   through the whole network, so that threads meet once, at the end, and a thread's activations stay in its own cache.

   Read layout.h, program.h, products.h, eight_bits.h, memory.h, operations.h, rounds.h, then this. Nothing is allocated
   after onestride_create. */

#define _GNU_SOURCE
#if (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) || defined(__ASSOCIATIVE_MATH__)
#error "numbers have to be what they are: build without -ffast-math, -Ofast and what these switch on"
#endif
#include "decide.h"

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
  free(e->packed), free(e->weights), free(e->worker), free(e->centred), free(e->free_entries), free(e->bias);
  for (int s = 0; s < MAX_SLOTS; s++) free(e->slot[s].inputs), free(e->slot[s].known);
  free(e->done), free(e->copy), free(e);
}

/* Blocks of candidates. Whether there was memory for them. */
static int plan_blocks(Engine* e, int threads) {
  const long n = e->head->candidates, share = up(n, threads) / threads;
  e->rows = (int)(share < BLOCK ? share : BLOCK);
  e->blocks = (int)((n + e->rows - 1) / e->rows);
  return (e->done = calloc((size_t)e->blocks, sizeof *e->done)) != NULL;
}

/* All weights, one behind the other. Whether there was memory for them, and the processor has what they want. */
static int pack_all(Engine* e) {
  size_t size = 0;
  for (int i = 0; i < e->head->operations; i++)
    if (e->op[i].kind == PRODUCT) size += packed_size(e->op + i, e->op[i].flags & EIGHT_BITS);
  char* room = e->weights = aligned(size);
  int whole = room != NULL;
  for (int i = 0; whole && i < e->head->operations; i++) {
    const Op* op = e->op + i;
    const int eight = op->flags & EIGHT_BITS;
    if (op->kind != PRODUCT) continue;
    if (eight && !LEVELS) return 0;
    if (eight && up(op->inputs, 64) > e->eight_stride) e->eight_stride = up(op->inputs, 64);
    whole &= pack(op, e->data + op->weight, eight, room, e->packed + i);
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
  if (memcmp(given.magic, MAGIC, sizeof given.magic) || given.version != VERSION || bytes != wanted || threads < 1)
    return NULL;
  Engine* e = calloc(1, sizeof *e);
  if (!e) return NULL;
  e->threads = 1, e->process = getpid();
  int whole = (e->copy = aligned((size_t)bytes)) != NULL;
  if (!whole) return onestride_destroy(e), NULL;
  memcpy(e->copy, program, (size_t)bytes);
  e->head = e->copy;
  e->op = (const Op*)(e->head + 1);
  e->data = (const float*)(e->op + e->head->operations);
  if (!validate(e->head, e->op)) return onestride_destroy(e), NULL;
  if (!plan_blocks(e, threads)) return onestride_destroy(e), NULL;
  if (threads > e->blocks) threads = e->blocks;
  if (threads >= MAX_THREADS) threads = MAX_THREADS - 1;
  whole &= (e->centred = aligned(4 * (size_t)e->head->inputs)) != NULL;
  for (int s = 0; s <= threads; s++) {
    whole &= (e->slot[s].inputs = aligned(4 * (size_t)e->head->inputs)) != NULL;
    whole &= (e->slot[s].known = aligned(4 * (size_t)e->head->known)) != NULL;
  }
  whole &= (e->free_entries = aligned(4 * (size_t)e->head->decoded)) != NULL;
  whole &= (e->bias = aligned(4 * (size_t)e->head->known)) != NULL;
  if (whole) memcpy(e->bias, e->data + e->head->known_bias, 4 * (size_t)e->head->known);
  whole &= (e->packed = calloc((size_t)e->head->operations, sizeof(Packed))) != NULL;
  whole &= (e->worker = calloc(MAX_THREADS, sizeof(Worker))) != NULL;
  for (int b = 0; b < e->head->buffers; b++) e->stride[b] = up(e->head->width[b], LANES);
  whole = whole && pack_all(e);
  for (int t = 0; whole && t < threads; t++) {
    Worker* w = e->worker + t;
    w->engine = e, w->number = t;
    atomic_init(&w->reading, -1);
    for (int b = 0; b < e->head->buffers; b++)
      whole &= (w->buffer[b] = aligned(4 * (size_t)e->stride[b] * (size_t)(b ? e->rows : e->head->candidates))) != NULL;
    whole &= (w->score = aligned(4 * (size_t)e->head->candidates)) != NULL;
    whole &= (w->eight = aligned((size_t)e->eight_stride * BLOCK)) != NULL;
  }
  for (int t = 1; whole && t < threads; t++) {
    pthread_mutex_init(&e->worker[t].lock, NULL), pthread_cond_init(&e->worker[t].wake, NULL);
    whole &= pthread_create(&e->worker[t].thread, NULL, worker_main, e->worker + t) == 0;
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

/* ---------------------------------------------------------------- deciding */

/* y = weight x + bias, for a single x. */
static void gemv(const float* weight, const float* bias, const float* x, int inputs, int outputs, float* y) {
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

/* What is asked for is part of the known's bias, so that a decision does no more for it: to the bias comes, of every
   condition whose numbers are all there, what its embedding, two layers with a SiLU between, adds by ask_weight. */
void onestride_ask(Engine* e, const float* asked) {
  const Header* head = e->head;
  const int width = head->ask_width, all = head->conditions * width;
  const float *sizes = e->data + head->ask_sizes, *layer = e->data + head->ask_layers;
  memcpy(e->bias, e->data + head->known_bias, 4 * (size_t)head->known);
  for (int c = 0; c < head->conditions; c++) {
    const int size = (int)sizes[c];
    const float *first = layer, *first_bias = first + width * size, *second = first_bias + width;
    const float* second_bias = second + width * width;
    int there = 1;
    for (int i = 0; i < size; i++) there &= asked[i] == asked[i];
    for (int n = 0; there && n < width; n++) { /* entry n of the embedding */
      float value = second_bias[n];
      for (int k = 0; k < width; k++) {
        float hidden = first_bias[k];
        for (int i = 0; i < size; i++) hidden += first[k * size + i] * asked[i];
        value += second[n * width + k] * (hidden / (1.0f + expf(-hidden)));
      }
      const float* column = e->data + head->ask_weight + c * width + n;
      for (int k = 0; k < head->known; k++) e->bias[k] += column[(long)k * all] * value;
    }
    asked += size, layer = second_bias + width;
  }
}

/* Whether an observation can be acted on: 0, or the reason why not. */
static int refused(const Engine* e, const float* observation) {
  float check = 0;
  for (int i = 0; i < e->head->observation; i++) check += observation[i] * 0.0f;
  if (check != 0) return ONESTRIDE_NOT_FINITE; /* and NaN is not 0 */
  return e->head->task == ARM_TASK ? arm_refused(e->data + e->head->constants, observation) : 0;
}

static int decide(Engine* e, const float* observation, int draw, float* action, float* plan, float* scores,
                  float* best) {
  const Header* head = e->head;
  const float* data = e->data;
  const int number = free_slot(e);
  Slot* slot = e->slot + number;
  if (head->task == ARM_TASK) {
    arm_encode(data + head->constants, observation, slot->inputs, &slot->frame);
  } else {
    memcpy(slot->inputs, observation, 4 * (size_t)head->inputs);
  }
  for (int i = 0; i < head->inputs; i++) e->centred[i] = slot->inputs[i] - data[head->offset + i];
  gemv(data + head->known_weight, e->bias, e->centred, head->inputs, head->known, slot->known);
  slot->draw = (draw % head->draws + head->draws) % head->draws;
  run_jobs(e, number);
  int winner = 0;
  for (int i = 0; i < head->candidates; i++) {
    const float score = publisher(e, i / e->rows)->score[i];
    scores[i] = score - score == 0 ? score : -INFINITY; /* a candidate that is not finite never wins */
    if (scores[i] > scores[winner]) winner = i;
  }
  *best = scores[winner];
  const float* features = publisher(e, winner / e->rows)->buffer[0] + winner * e->stride[0];
  gemv(data + head->finish_weight, data + head->finish_bias, features, head->features, head->decoded, e->free_entries);
  if (head->task == ARM_TASK) {
    arm_command(&slot->frame, e->free_entries, action);
  } else {
    for (int i = 0; i < head->action; i++) {
      const float value = e->free_entries[i], low = data[head->low + i], high = data[head->high + i];
      action[i] = value < low ? low : value > high ? high : value;
    }
  }
  if (plan) {
    memcpy(plan, slot->inputs, 4 * (size_t)head->state);
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
