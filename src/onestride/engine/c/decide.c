/* One decision of a reduced planner, by a C compiler alone: observation and noise -> scores -> the best plan's action.

   A program (engine/program.py writes it) is a list of operations on blocks of candidates. Each thread takes a block
   through the whole network, so that threads meet once, at the end, and a thread's activations stay in its own cache.

   Nobody waits for a thread that the system has taken off its core: who asked for the decision also computes whatever
   is not there yet. Results are published with a compare-and-swap that carries the round's number, so a thread that
   comes back late writes into its own memory and is not heard.

   Candidates that start with a handicap seldom win. Where the program allows it they are screened: computed in 8 bits
   first, and in float32 only if by that they might win. How far 8 bits are off here and now is measured on candidates
   that are computed both ways.

   Nothing is allocated after onestride_create. */

#define _GNU_SOURCE
#include "decide.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sched.h>
#endif

#include "arm.h"
#include "products.h"
#include "program.h"
#include "vectors.h"

enum { MAX_THREADS = 64 };
#define SURE 3.0f /* times the measured error: what a screened candidate may be worth more than it seems */

/* ---------------------------------------------------------------- what a decision is made in */

/* A block of candidates, and how it is computed. */
typedef struct {
  int first, rows;
  int place;  /* of the first one's features and score; n: behind those of all candidates */
  int screen; /* in 8 bits, where the program allows it */
} Job;

typedef struct {
  Engine* engine;
  pthread_t thread;
  int number;
  float* buffer[MAX_BUFFERS]; /* [0]: the features of all candidates and of a probe, others: of one block */
  float* score;               /* of all candidates and of a probe */
  uint8_t* eight;             /* a block's inputs in 8 bits */
} Worker;

struct Engine {
  const Header* head;
  const Op* op;
  const float* data;
  Packed *packed, *packed_8; /* each product's weights, in float32 and in 8 bits */
  void* copy;
  float *inputs, *known, *free_entries; /* inputs: [state | context] */
  ArmFrame frame;
  long stride[MAX_BUFFERS], eight_stride;
  int blocks, rows, threads;
  Worker* worker;
  int32_t draw;
  Job* job;               /* the blocks; the same blocks, screened; the probe, which is block ``probe`` screened */
  int probe;              /* -1: nothing is screened */
  int *opening, openings; /* jobs of every decision's first round */
  int* again;             /* and of its second, if there is one */
  atomic_int *order, next, count; /* of the round: its jobs, whose turn is next, how many there are */
  _Atomic uint64_t* done;         /* of each job: round's number * MAX_THREADS + who published it */
  _Atomic uint64_t round;
  pthread_mutex_t lock;
  pthread_cond_t wake;
  _Atomic uint64_t ticket;
  int quit;
};

/* ---------------------------------------------------------------- operations */

/* A row's numbers off ``mean``, or their squares, summed up; four sums at a time, since each waits for its last one. */
INLINE float summed(const float* x, int width, float mean, int squared) {
  enum { SUMS = 4 };
  vec total[SUMS] = {};
  int i = 0;
  for (; i + SUMS * LANES <= width; i += SUMS * LANES)
#pragma GCC unroll 4
    for (int s = 0; s < SUMS; s++) {
      const vec off = load(x + i + s * LANES) - mean;
      total[s] += squared ? off * off : off;
    }
  for (; i < width; i += LANES) {
    const int left = width - i;
    vec off = (left >= LANES ? load(x + i) : load_some(x + i, left)) - mean;
    if (left < LANES) {
      float some[LANES] = {0};
      store_some(some, off, left);
      off = load(some);
    }
    total[0] += squared ? off * off : off;
  }
  return sum(total[0] + total[1] + (total[2] + total[3]));
}

INLINE vec scaled(vec x, float mean, float scale, vec gain, vec shift, int flags) {
  const vec value = (x - mean) * scale * gain + shift;
  return flags & SILU ? silu(value) : value;
}

/* One group of columns. Every row's mean, then every row's scale: rows do not wait for each other, passes do. */
INLINE void norm_group(const Op* op, const float* gain, const float* shift, int rows, const float* x, long stride,
                       float* y, long y_stride, int flags) {
  const int width = op->inputs;
  float mean[BLOCK], scale[BLOCK];
  for (int r = 0; r < rows; r++) mean[r] = summed(x + r * stride, width, 0, 0) / (float)width;
  for (int r = 0; r < rows; r++)
    scale[r] = 1.0f / sqrtf(summed(x + r * stride, width, mean[r], 1) / (float)width + op->scale);
  const vec one = (vec){} + 1.0f, nothing = {};
  for (int r = 0; r < rows; r++) {
    const float* from = x + r * stride;
    float* to = y + r * y_stride;
    int i = 0;
    for (; i + LANES <= width; i += LANES)
      store(to + i, scaled(load(from + i), mean[r], scale[r], gain ? load(gain + i) : one,
                           gain ? load(shift + i) : nothing, flags));
    const int left = width - i;
    if (left) {
      const vec g = gain ? load_some(gain + i, left) : one, s = gain ? load_some(shift + i, left) : nothing;
      store_some(to + i, scaled(load_some(from + i, left), mean[r], scale[r], g, s, flags), left);
    }
  }
}

/* Each of the groups normalised to mean 0 and variance 1, then gain, shift and SiLU where asked for. */
static void norm(const Op* op, const float* data, int rows, const float* x, long stride, float* y, long y_stride) {
  const float *gain = op->weight < 0 ? NULL : data + op->weight, *shift = op->weight < 0 ? NULL : data + op->bias;
  for (int g = 0; g < op->groups; g++, x += op->inputs, y += op->inputs) {
    if (op->flags & SILU) {
      norm_group(op, gain, shift, rows, x, stride, y, y_stride, SILU);
    } else {
      norm_group(op, gain, shift, rows, x, stride, y, y_stride, 0);
    }
  }
}

/* score += scale * the least of the groups' dot products. Whatever is not finite comes through. */
static void score(const Op* op, const float* data, int rows, const float* x, long stride, float* scores) {
  for (int r = 0; r < rows; r++) {
    float least = 0, check = 0;
    for (int g = 0; g < op->groups; g++) {
      const float *from = x + r * stride + g * op->inputs, *w = data + op->weight + g * op->inputs;
      vec total = {};
      int i = 0;
      for (; i + LANES <= op->inputs; i += LANES) total += load(from + i) * load(w + i);
      if (i < op->inputs) total += load_some(from + i, op->inputs - i) * load_some(w + i, op->inputs - i);
      const float worth = sum(total) + data[op->bias + g];
      least = g == 0 || worth < least ? worth : least;
      check += worth * 0.0f;
    }
    scores[r] += op->scale * least + check;
  }
}

/* One operation of a job, in a worker's own memory. */
static void operate(Worker* w, int index, const Job* job) {
  const Engine* e = w->engine;
  const Header* head = e->head;
  const Op* op = e->op + index;
  const float* data = e->data;
  const int rows = job->rows;
  float* scores = w->score + job->place;
  const long from_stride = e->stride[op->from], to_stride = e->stride[op->to];
  /* Buffer 0 holds every candidate, the others one block. */
  const float* x = w->buffer[op->from] + (op->from ? 0 : job->place * from_stride) + op->from_column;
  float* y = w->buffer[op->to] + (op->to ? 0 : job->place * to_stride) + op->to_column;
  const float* bias = op->bias < 0 ? NULL : op->flags & KNOWN ? e->known + op->bias : data + op->bias;
  const long drawn = ((long)e->draw * head->candidates + job->first) * op->outputs;
  switch (op->kind) {
    case START:
      for (int r = 0; r < rows; r++) {
        const float* bank = data + head->bank + drawn + (long)r * op->outputs;
        for (int i = 0; i < op->outputs; i++) y[r * to_stride + i] = bank[i] + e->known[i];
      }
      break;
    case NOISE:
      for (int r = 0; r < rows; r++)
        memcpy(y + r * to_stride, data + head->noise_bank + drawn + (long)r * op->outputs, 4 * (size_t)op->outputs);
      break;
    case NORM: norm(op, data, rows, x, from_stride, y, to_stride); break;
    case PRODUCT:
#if defined(__AVX512VNNI__)
      if ((op->flags & EIGHT_BITS) || (job->screen && (op->flags & SCREENED))) {
        product_8(op, e->packed_8 + index, bias, rows, x, from_stride, y, to_stride, w->eight, e->eight_stride);
        break;
      }
#endif
      product(op, e->packed + index, bias, rows, x, from_stride, y, to_stride);
      break;
    case TIMES:
      for (int r = 0; r < rows; r++)
        for (int i = 0; i < op->outputs; i++) y[r * to_stride + i] *= x[r * from_stride + i];
      break;
    case CLAMP: /* and an entry that is not finite makes the score so */
      for (int r = 0; r < rows; r++) {
        float check = 0;
        for (int i = 0; i < op->outputs; i++) {
          const float value = x[r * from_stride + i], low = data[op->weight + i], high = data[op->bias + i];
          check += value * 0.0f;
          y[r * to_stride + i] = value < low ? low : value > high ? high : value;
        }
        scores[r] += check;
      }
      break;
    case SCORE: score(op, data, rows, x, from_stride, scores); break;
    case ARM:
      for (int r = 0; r < rows; r++)
        scores[r] += arm_score(data + head->constants, &e->frame, e->inputs, x + r * from_stride, op->inputs / 3);
      break;
  }
}

/* ---------------------------------------------------------------- threads */

INLINE int published(const Engine* e, int id, uint64_t round) {
  return atomic_load_explicit(&e->done[id], memory_order_acquire) / MAX_THREADS >= round;
}

/* Who has what a published job found. */
INLINE const Worker* publisher(const Engine* e, int id) {
  return e->worker + atomic_load_explicit(&e->done[id], memory_order_acquire) % MAX_THREADS;
}

/* A job from its noise to its scores; given up where somebody else has published it. */
static void compute(Worker* w, int id, uint64_t round) {
  Engine* e = w->engine;
  const Job* job = e->job + id;
  const float* handicap = e->head->handicap < 0 ? NULL : e->data + e->head->handicap + job->first;
  for (int i = 0; i < e->head->operations; i++) {
    if (published(e, id, round)) return;
    for (int r = 0; i == 0 && r < job->rows; r++) w->score[job->place + r] = handicap ? -handicap[r] : 0;
    operate(w, i, job);
  }
  uint64_t before = atomic_load_explicit(&e->done[id], memory_order_relaxed);
  while (before / MAX_THREADS < round &&
         !atomic_compare_exchange_weak_explicit(&e->done[id], &before, round * MAX_THREADS + (uint64_t)w->number,
                                                memory_order_release, memory_order_relaxed)) {
  }
}

/* Who comes late may take a job that nobody asked for in this round: it does no harm, whoever reads it or does not. */
static void work(Worker* w) {
  Engine* e = w->engine;
  for (;;) {
    const int turn = atomic_fetch_add_explicit(&e->next, 1, memory_order_acq_rel);
    if (turn >= atomic_load_explicit(&e->count, memory_order_relaxed)) return;
    const uint64_t round = atomic_load_explicit(&e->round, memory_order_acquire);
    compute(w, atomic_load_explicit(&e->order[turn], memory_order_relaxed), round);
  }
}

/* Looks out for the next round for some 0.1 ms before it sleeps: where rounds follow each other, none waits for it. */
static void* help(void* argument) {
  enum { LOOKS = 4000 };
  Worker* w = argument;
  Engine* e = w->engine;
  uint64_t seen = 0;
  for (;;) {
    for (int i = 0; i < LOOKS && atomic_load_explicit(&e->ticket, memory_order_relaxed) == seen; i++) pause_();
    if (atomic_load(&e->ticket) == seen) {
      pthread_mutex_lock(&e->lock);
      while (atomic_load(&e->ticket) == seen && !e->quit) pthread_cond_wait(&e->wake, &e->lock);
      const int quit = e->quit;
      pthread_mutex_unlock(&e->lock);
      if (quit) return NULL;
    }
    seen = atomic_load(&e->ticket);
    work(w);
  }
}

/* A helper that sleeps wakes up. One that was taken off its core with the lock in its hands is not waited for. */
static void call_helpers(Engine* e) {
  enum { TRIES = 1000 };
  atomic_fetch_add(&e->ticket, 1);
  for (int i = 0; i < TRIES; i++) {
    if (pthread_mutex_trylock(&e->lock)) continue;
    pthread_cond_broadcast(&e->wake);
    pthread_mutex_unlock(&e->lock);
    return;
  }
}

/* Jobs by all threads; when it returns, all are published. Returns the round's number. */
static uint64_t go_round(Engine* e, const int* ids, int count) {
  for (int i = 0; i < count; i++) atomic_store_explicit(&e->order[i], ids[i], memory_order_relaxed);
  atomic_store_explicit(&e->count, count, memory_order_relaxed);
  const uint64_t round = atomic_load_explicit(&e->round, memory_order_relaxed) + 1;
  atomic_store_explicit(&e->round, round, memory_order_release);
  atomic_store_explicit(&e->next, 0, memory_order_release);
  if (e->threads > 1) call_helpers(e);
  work(e->worker);
  for (int i = count - 1; i >= 0; i--) compute(e->worker, ids[i], round); /* returns at once where it is published */
  return round;
}

/* ---------------------------------------------------------------- making it */

int onestride_lanes(void) { return LANES; }

int onestride_has_8_bits(void) {
#if defined(__AVX512VNNI__)
  return 1;
#else
  return 0;
#endif
}

void onestride_destroy(Engine* e) {
  if (!e) return;
  pthread_mutex_lock(&e->lock);
  e->quit = 1;
  pthread_cond_broadcast(&e->wake);
  pthread_mutex_unlock(&e->lock);
  for (int t = 1; t < e->threads; t++) pthread_join(e->worker[t].thread, NULL);
  for (int t = 0; e->worker && t < MAX_THREADS; t++) {
    for (int b = 0; b < MAX_BUFFERS; b++) free(e->worker[t].buffer[b]);
    free(e->worker[t].score);
    free(e->worker[t].eight);
  }
  for (int i = 0; e->packed && i < e->head->operations; i++) unpack(e->packed + i);
  for (int i = 0; e->packed_8 && i < e->head->operations; i++) unpack(e->packed_8 + i);
  free(e->packed), free(e->packed_8), free(e->worker), free(e->inputs), free(e->known), free(e->free_entries);
  free(e->job), free(e->opening), free(e->again), free(e->order), free(e->done), free(e->copy);
  pthread_mutex_destroy(&e->lock), pthread_cond_destroy(&e->wake);
  free(e);
}

/* Whether any of a job's candidates may win as it starts. */
static int favoured(const Engine* e, const Job* job) {
  for (int r = job->first; r < job->first + job->rows; r++)
    if (!(e->data[e->head->handicap + r] > 0)) return 1;
  return 0;
}

/* Blocks, jobs, and what every decision starts with. Whether there was memory for them. */
static int plan_jobs(Engine* e, int threads) {
  const int n = e->head->candidates;
  int screens = 0, favourites = 0;
  for (int i = 0; i < e->head->operations; i++) screens |= e->op[i].kind == PRODUCT && (e->op[i].flags & SCREENED);
  screens = screens && e->head->handicap >= 0 && onestride_has_8_bits();
  const long share = up(n, threads) / threads, most = screens ? ROWS : BLOCK;
  e->rows = (int)(share < most ? share : most);
  e->blocks = (n + e->rows - 1) / e->rows;
  const size_t jobs = 2 * (size_t)e->blocks + 1;
  e->job = calloc(jobs, sizeof *e->job), e->order = calloc(jobs, sizeof *e->order);
  e->done = calloc(jobs, sizeof *e->done);
  e->opening = calloc(jobs, sizeof(int)), e->again = calloc(jobs, sizeof(int));
  if (!e->job || !e->order || !e->done || !e->opening || !e->again) return 0;
  e->probe = -1;
  for (int b = 0; b < e->blocks; b++) {
    const int first = b * e->rows, rows = n - first < e->rows ? n - first : e->rows;
    e->job[b] = (Job){first, rows, first, 0};
    e->job[e->blocks + b] = (Job){first, rows, first, 1};
    if (screens && favoured(e, e->job + b)) e->opening[favourites++] = e->probe = b;
  }
  if (!favourites || favourites == e->blocks) e->probe = -1; /* nobody is, or everybody: nothing to screen by */
  if (e->probe < 0) {
    for (int b = 0; b < e->blocks; b++) e->opening[b] = b;
    e->openings = e->blocks;
    return 1;
  }
  e->openings = favourites; /* first, since they take longest; then the probe, and all others screened */
  const Job* probe = e->job + e->probe;
  e->job[2 * e->blocks] = (Job){probe->first, probe->rows, n, 1};
  e->opening[e->openings++] = 2 * e->blocks;
  for (int b = 0; b < e->blocks; b++)
    if (!favoured(e, e->job + b)) e->opening[e->openings++] = e->blocks + b;
  return 1;
}

Engine* onestride_create(const void* program, long bytes, int threads, const int* cores) {
  Header given;
  if (bytes < (long)sizeof given) return NULL;
  memcpy(&given, program, sizeof given);
  if (given.operations < 1 || given.numbers < 0 || given.buffers < 1 || given.buffers > MAX_BUFFERS) return NULL;
  const long wanted = (long)sizeof given + (long)given.operations * (long)sizeof(Op) + 4L * given.numbers;
  if (memcmp(given.magic, "ONESTRID", 8) || given.version != VERSION || bytes != wanted || threads < 1) return NULL;
  Engine* e = calloc(1, sizeof *e);
  if (!e) return NULL;
  pthread_mutex_init(&e->lock, NULL);
  pthread_cond_init(&e->wake, NULL);
  e->threads = 1;
  int whole = (e->copy = aligned((size_t)bytes)) != NULL;
  if (!whole) return onestride_destroy(e), NULL;
  memcpy(e->copy, program, (size_t)bytes);
  e->head = e->copy;
  e->op = (const Op*)(e->head + 1);
  e->data = (const float*)(e->op + e->head->operations);
  if (!sound(e->head, e->op)) return onestride_destroy(e), NULL;
  if (!plan_jobs(e, threads)) return onestride_destroy(e), NULL;
  const int n = e->head->candidates;
  if (threads > e->blocks) threads = e->blocks;
  if (threads >= MAX_THREADS) threads = MAX_THREADS - 1;
  whole &= (e->inputs = aligned(4 * (size_t)e->head->inputs)) != NULL;
  whole &= (e->known = aligned(4 * (size_t)e->head->known)) != NULL;
  whole &= (e->free_entries = aligned(4 * (size_t)e->head->decoded)) != NULL;
  whole &= (e->packed = calloc((size_t)e->head->operations, sizeof(Packed))) != NULL;
  whole &= (e->packed_8 = calloc((size_t)e->head->operations, sizeof(Packed))) != NULL;
  whole &= (e->worker = calloc(MAX_THREADS, sizeof(Worker))) != NULL;
  for (int b = 0; b < e->head->buffers; b++) e->stride[b] = up(e->head->width[b], LANES);
  for (int i = 0; whole && i < e->head->operations; i++) {
    const Op* op = e->op + i;
    if (op->kind != PRODUCT) continue;
    const int eight = op->flags & EIGHT_BITS, both = e->probe >= 0 && (op->flags & SCREENED);
    if (eight && !onestride_has_8_bits()) whole = 0;
    if (up(op->inputs, 64) > e->eight_stride) e->eight_stride = up(op->inputs, 64);
    if (!eight) whole &= pack(op, e->data + op->weight, 0, e->packed + i);
    if (eight || both) whole &= pack(op, e->data + op->weight, 1, e->packed_8 + i);
  }
  for (int t = 0; whole && t < threads; t++) {
    Worker* w = e->worker + t;
    w->engine = e, w->number = t;
    for (int b = 0; b < e->head->buffers; b++)
      whole &= (w->buffer[b] = aligned(4 * (size_t)e->stride[b] * (size_t)(b ? e->rows : n + e->rows))) != NULL;
    whole &= (w->score = aligned(4 * (size_t)(n + e->rows))) != NULL;
    whole &= (w->eight = aligned((size_t)e->eight_stride * BLOCK)) != NULL;
  }
  for (int t = 1; whole && t < threads; t++) {
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

/* Blocks of screened candidates that might win after all, of those of round ``opened``; fills ``again``. */
static int doubtful(Engine* e, uint64_t opened) {
  float best = -INFINITY, off = 0;
  for (int b = 0; b < e->blocks; b++)
    for (int r = 0; published(e, b, opened) && r < e->job[b].rows; r++) {
      const float value = publisher(e, b)->score[e->job[b].first + r];
      if (value - value == 0 && value > best) best = value;
    }
  const Job* probe = e->job + 2 * e->blocks;
  for (int r = 0; r < probe->rows; r++) {
    const float away = fabsf(publisher(e, 2 * e->blocks)->score[probe->place + r] -
                             publisher(e, e->probe)->score[probe->first + r]);
    if (!(away <= off)) off = away; /* and what is no number stays */
  }
  int count = 0;
  for (int b = 0; b < e->blocks; b++) {
    if (published(e, b, opened)) continue;
    const float* seems = publisher(e, e->blocks + b)->score + e->job[b].first;
    int may = 0;
    for (int r = 0; r < e->job[b].rows; r++) may |= !(seems[r] + SURE * off < best);
    if (may) e->again[count++] = b;
  }
  return count;
}

int onestride_decide(Engine* e, const float* observation, int draw, float* action, float* plan, float* scores,
                     float* best) {
  const Header* head = e->head;
  const float* data = e->data;
  if (head->task == ARM_TASK) {
    arm_encode(data + head->constants, observation, e->inputs, &e->frame);
  } else {
    memcpy(e->inputs, observation, 4 * (size_t)head->inputs);
  }
  float from_offset[head->inputs];
  for (int i = 0; i < head->inputs; i++) from_offset[i] = e->inputs[i] - data[head->offset + i];
  one(data + head->known_weight, data + head->known_bias, from_offset, head->inputs, head->known, e->known);
  e->draw = (draw % head->draws + head->draws) % head->draws;
  const uint64_t opened = go_round(e, e->opening, e->openings);
  const int count = e->probe < 0 ? 0 : doubtful(e, opened);
  if (count) go_round(e, e->again, count);

  int winner = 0;
  for (int i = 0; i < head->candidates; i++) {
    const int block = i / e->rows, screened = !published(e, block, opened);
    const float value = publisher(e, screened ? e->blocks + block : block)->score[i];
    scores[i] = value - value == 0 ? value : -INFINITY;
    if (scores[i] > scores[winner]) winner = i;
  }
  const float* features = publisher(e, winner / e->rows)->buffer[0] + winner * e->stride[0];
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
  *best = scores[winner];
  return winner;
}
