/* Rounds of blocks by all threads. Nobody waits for a thread that the system has taken off its core: who asked for the
   decision also computes whatever is not there yet. Results are published with a compare-and-swap that carries the
   round's number, so a thread that comes back late writes into its own memory and is not heard. What it reads then
   (known, draw) may be written for the next decision: thread sanitizers report it, and nobody
   reads what it makes. */

#ifndef ONESTRIDE_ROUNDS_H
#define ONESTRIDE_ROUNDS_H

#include "operations.h"

INLINE int published(const Engine* e, int block, uint64_t round) {
  return atomic_load_explicit(&e->done[block], memory_order_acquire) / MAX_THREADS >= round;
}

/* Who has what a published block's candidates found. */
INLINE const Worker* publisher(const Engine* e, int block) {
  return e->worker + atomic_load_explicit(&e->done[block], memory_order_acquire) % MAX_THREADS;
}

/* A block from its noise to its scores; given up where somebody else has published it. */
static void compute(Worker* w, int block, uint64_t round) {
  Engine* e = w->engine;
  const Header* head = e->head;
  const int first = block * e->rows, left = head->candidates - first, rows = left < e->rows ? left : e->rows;
  const float* handicap = head->handicap < 0 ? NULL : e->data + head->handicap;
  if (published(e, block, round)) return;
  for (int i = first; i < first + rows; i++) w->score[i] = 0.0f - (handicap ? handicap[i] : 0);
  for (int i = 0; i < head->operations; i++) {
    if (published(e, block, round)) return;
    operate(w, i, first, rows);
  }
  uint64_t before = atomic_load_explicit(&e->done[block], memory_order_relaxed);
  while (before / MAX_THREADS < round &&
         !atomic_compare_exchange_weak_explicit(&e->done[block], &before, round * MAX_THREADS + (uint64_t)w->number,
                                                memory_order_release, memory_order_relaxed)) {
  }
}

/* Who comes late may take a block of the next round: it does no harm. */
static void work(Worker* w) {
  Engine* e = w->engine;
  for (;;) {
    const int turn = atomic_fetch_add_explicit(&e->next, 1, memory_order_acq_rel);
    if (turn >= e->blocks) return;
    compute(w, turn, atomic_load_explicit(&e->round, memory_order_acquire));
  }
}

/* Looks out for the next round for some 0.1 ms before it sleeps: where decisions follow each other, none waits for it. */
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

/* All blocks by all threads; when it returns, all are published. */
static void go_round(Engine* e) {
  const uint64_t round = atomic_load_explicit(&e->round, memory_order_relaxed) + 1;
  atomic_store_explicit(&e->round, round, memory_order_release);
  atomic_store_explicit(&e->next, 0, memory_order_release);
  if (e->threads > 1) call_helpers(e);
  work(e->worker);
  for (int b = e->blocks - 1; b >= 0; b--) compute(e->worker, b, round); /* returns at once where it is published */
}

#endif
