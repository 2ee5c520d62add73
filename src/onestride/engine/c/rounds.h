/* Rounds of jobs by all threads. Nobody waits for a thread that the system has taken off its core: who asked for the
   decision also computes whatever is not there yet. Results are published with a compare-and-swap that carries the
   round's number, so a thread that comes back late writes into its own memory and is not heard. What it reads then
   (known, draw, what is at other places) may be written for the next decision: thread sanitizers report it, and nobody
   reads what it makes. */

#ifndef ONESTRIDE_ROUNDS_H
#define ONESTRIDE_ROUNDS_H

#include "operations.h"

INLINE int published(const Engine* e, int id, uint64_t round) {
  return atomic_load_explicit(&e->done[id], memory_order_acquire) / MAX_THREADS >= round;
}

/* Who has what a published job found. */
INLINE const Worker* publisher(const Engine* e, int id) {
  return e->worker + atomic_load_explicit(&e->done[id], memory_order_acquire) % MAX_THREADS;
}

/* Who has what is at a place. */
INLINE const Worker* at(const Engine* e, int place) {
  const int further = place - e->head->candidates;
  return publisher(e, further < 0 ? place / e->rows : e->blocks + further / (e->batch / e->shares));
}

/* A job's scores before its operations: what its candidates must be worth more. One that is not finite stays so. */
static void begin_scores(Worker* w, const Job* job) {
  const Engine* e = w->engine;
  const float* handicap = e->head->handicap < 0 ? NULL : e->data + e->head->handicap;
  for (int i = job->place; i < job->place + job->rows; i++)
    w->score[i] = w->score[i] * 0.0f - (handicap ? handicap[candidate(e->who + i)] : 0);
}

/* What a job's candidates have at their own places, in this worker's memory. */
static void take_over(Worker* w, const Job* job) {
  const Engine* e = w->engine;
  const long stride = e->stride[0];
  for (int i = job->place; i < job->place + job->rows; i++) {
    const int own = candidate(e->who + i);
    memcpy(w->buffer[0] + i * stride, at(e, own)->buffer[0] + own * stride, 4 * (size_t)stride);
  }
}

/* Operations of a job; 0 where somebody else has published it meanwhile. */
static int operations(Worker* w, int id, uint64_t round, int begin, int end) {
  for (int i = begin; i < end; i++) {
    if (published(w->engine, id, round)) return 0;
    operate(w, i, w->engine->job + id);
  }
  return 1;
}

/* A job from its noise, or from its bounds, to its scores; given up where somebody else has published it. */
static void compute(Worker* w, int id, uint64_t round) {
  Engine* e = w->engine;
  const Job* job = e->job + id;
  const int first = e->head->first;
  if (published(e, id, round)) return;
  memset(w->score + job->place, 0, 4 * (size_t)job->rows);
  begin_scores(w, job);
  if (job->begin) take_over(w, job);
  if (!operations(w, id, round, job->begin, first)) return;
  if (job->end > first) {
    begin_scores(w, job);
    if (!operations(w, id, round, first, job->end)) return;
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
  flush_subnormals();
  for (;;) {
    for (int i = 0; i < LOOKS && atomic_load_explicit(&e->ticket, memory_order_relaxed) == seen; i++) pause_();
    if (atomic_load(&e->ticket) == seen) {
      pthread_mutex_lock(&w->lock);
      while (atomic_load(&e->ticket) == seen && !atomic_load(&e->quit)) pthread_cond_wait(&w->wake, &w->lock);
      pthread_mutex_unlock(&w->lock);
      if (atomic_load(&e->quit)) return NULL;
    }
    seen = atomic_load(&e->ticket);
    work(w);
  }
}

/* Helpers that sleep wake up. One that was taken off its core with its lock in its hands is not waited for. */
static void call_helpers(Engine* e) {
  enum { TRIES = 1000 };
  atomic_fetch_add(&e->ticket, 1);
  for (int t = 1; t < e->threads; t++)
    for (int i = 0; i < TRIES; i++) {
      Worker* w = e->worker + t;
      if (pthread_mutex_trylock(&w->lock)) continue;
      pthread_cond_signal(&w->wake);
      pthread_mutex_unlock(&w->lock);
      break;
    }
}

/* Jobs by all threads; when it returns, all are published. */
static void go_round(Engine* e, const int* ids, int count) {
  for (int i = 0; i < count; i++) atomic_store_explicit(&e->order[i], ids[i], memory_order_relaxed);
  atomic_store_explicit(&e->count, count, memory_order_relaxed);
  const uint64_t round = atomic_load_explicit(&e->round, memory_order_relaxed) + 1;
  atomic_store_explicit(&e->round, round, memory_order_release);
  atomic_store_explicit(&e->next, 0, memory_order_release);
  if (e->threads > 1) call_helpers(e);
  work(e->worker);
  for (int i = count - 1; i >= 0; i--) compute(e->worker, ids[i], round); /* returns at once where it is published */
}

#endif
