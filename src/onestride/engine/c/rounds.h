/* Rounds of blocks by all threads. Nobody waits for a thread that the system has taken off its core: who asked for the
   decision also computes whatever is not there yet. Results are published with a compare-and-swap that carries the
   round's number, so a thread that comes back late writes into its own memory and is not heard. What it reads lies in a
   slot that it has announced, and the next decisions are written into other slots: with one more than there are
   threads, one is always free. */

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
static void compute(Worker* w, int block, uint64_t round, const Slot* slot) {
  Engine* e = w->engine;
  const Header* head = e->head;
  const int first = block * e->rows, left = head->candidates - first, rows = left < e->rows ? left : e->rows;
  const float* handicap = head->handicap < 0 ? NULL : e->data + head->handicap;
  if (published(e, block, round)) return;
  for (int i = first; i < first + rows; i++) w->score[i] = 0.0f - (handicap ? handicap[i] : 0);
  for (int i = 0; i < head->operations; i++) {
    if (published(e, block, round)) return;
    operate(w, i, slot, first, rows);
  }
  uint64_t before = atomic_load_explicit(&e->done[block], memory_order_relaxed);
  while (before / MAX_THREADS < round &&
         !atomic_compare_exchange_weak_explicit(&e->done[block], &before, round * MAX_THREADS + (uint64_t)w->number,
                                                memory_order_release, memory_order_relaxed)) {
  }
}

/* The slot of a round, announced by a helper before it is read; NULL where that round is over. Who asks changes
   ``asked`` before it looks for a free slot, so it either sees the announcement or the helper sees the change. */
static const Slot* enter(Worker* w, uint64_t round) {
  Engine* e = w->engine;
  const uint64_t asked = atomic_load(&e->asked);
  if (asked / MAX_SLOTS != round) return NULL;
  atomic_store(&w->reading, (int)(asked % MAX_SLOTS));
  return atomic_load(&e->asked) == asked ? e->slot + asked % MAX_SLOTS : NULL;
}

/* A helper's blocks, until none is left. */
static void work(Worker* w) {
  for (;;) {
    const uint64_t turn = atomic_fetch_add(&w->engine->next, 1), block = turn & ((1u << TURN_BITS) - 1);
    if (block >= (uint64_t)w->engine->blocks) return;
    const Slot* slot = enter(w, turn >> TURN_BITS);
    if (slot) compute(w, (int)block, turn >> TURN_BITS, slot);
    atomic_store(&w->reading, -1);
  }
}

INLINE uint64_t begun(const Engine* e) { return atomic_load(&e->next) >> TURN_BITS; } /* the last round */

/* Looks out for the next round for some 0.1 ms before it sleeps, so that decisions in a row do not wait for it. */
static void* worker_main(void* argument) {
  enum { LOOKS = 4000 };
  Worker* w = argument;
  Engine* e = w->engine;
  uint64_t seen = 0;
  flush_subnormals();
  for (;;) {
    for (int i = 0; i < LOOKS && begun(e) == seen; i++) pause_();
    if (begun(e) == seen) {
      pthread_mutex_lock(&w->lock);
      while (begun(e) == seen && !atomic_load(&e->quit)) pthread_cond_wait(&w->wake, &w->lock);
      pthread_mutex_unlock(&w->lock);
      if (atomic_load(&e->quit)) return NULL;
    }
    seen = begun(e);
    work(w);
  }
}

/* Helpers that sleep wake up. One that was taken off its core with its lock in its hands is not waited for. */
static void call_helpers(Engine* e) {
  enum { TRIES = 1000 };
  for (int t = 1; t < e->threads; t++)
    for (int i = 0; i < TRIES; i++) {
      Worker* w = e->worker + t;
      if (pthread_mutex_trylock(&w->lock)) continue;
      pthread_cond_signal(&w->wake);
      pthread_mutex_unlock(&w->lock);
      break;
    }
}

/* A slot that nobody reads, nor may begin to. */
static int free_slot(Engine* e) {
  const int current = (int)(atomic_load(&e->asked) % MAX_SLOTS);
  for (int s = 0;; s++) {
    int used = s == current;
    for (int t = 1; t < e->threads; t++) used |= atomic_load(&e->worker[t].reading) == s;
    if (!used) return s;
  }
}

/* All blocks by all threads, of a decision that lies in a slot; when it returns, all are published. */
static void run_jobs(Engine* e, int slot) {
  const uint64_t round = atomic_load(&e->asked) / MAX_SLOTS + 1;
  atomic_store(&e->asked, round * MAX_SLOTS + (uint64_t)slot);
  atomic_store(&e->next, round << TURN_BITS);
  if (e->threads > 1) call_helpers(e);
  for (;;) {
    const uint64_t block = atomic_fetch_add(&e->next, 1) & ((1u << TURN_BITS) - 1);
    if (block >= (uint64_t)e->blocks) break;
    compute(e->worker, (int)block, round, e->slot + slot);
  }
  for (int b = e->blocks - 1; b >= 0; b--)
    compute(e->worker, b, round, e->slot + slot); /* returns at once where it is published */
}

#endif
