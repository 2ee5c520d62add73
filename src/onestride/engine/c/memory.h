/* What a decision is made in: an engine, its threads' own memory, and the blocks of candidates they share. */

#ifndef ONESTRIDE_MEMORY_H
#define ONESTRIDE_MEMORY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "arm.h"
#include "decide.h"
#include "products.h"
#include "program.h"

enum { MAX_THREADS = 64, MAX_SLOTS = MAX_THREADS + 1 };
enum { TURN_BITS = 24 }; /* of ``next``: more blocks than there may be candidates */

/* What a round reads of its decision. Nobody writes into it while anybody may read it. */
typedef struct {
  float *inputs, *known; /* inputs: [state | context] */
  ArmFrame frame;
  int32_t draw;
} Slot;

typedef struct {
  Engine* engine;
  pthread_t thread;
  pthread_mutex_t lock; /* a helper's own, since to wake several by one condition may wait for the slowest of them */
  pthread_cond_t wake;
  int number;
  atomic_int reading;         /* the slot that a helper reads; -1: none */
  float* buffer[MAX_BUFFERS]; /* [0]: the features of all candidates, others: of one block */
  float* score;               /* of all candidates */
  int8_t* eight;              /* a block's inputs in 8 bits */
} Worker;

struct Engine {
  const Header* head;
  const Op* op;
  const float* data;
  Packed* packed; /* each product's weights */
  char* weights;  /* all of them */
  void* copy;
  float *centred, *free_entries; /* centred: inputs less what is usual */
  float* bias;                   /* the bias of the known, with what is asked for */
  Slot slot[MAX_SLOTS];          /* one more than there are threads */
  long stride[MAX_BUFFERS], eight_stride;
  int threads, process; /* process: whose threads they are */
  Worker* worker;
  int blocks, rows;       /* that all candidates make, and candidates of one */
  _Atomic uint64_t next;  /* the round's number << TURN_BITS, and which of its blocks has its turn */
  _Atomic uint64_t* done; /* of each block: round's number * MAX_THREADS + who published it */
  _Atomic uint64_t asked; /* the round's number * MAX_SLOTS + the slot that it reads */
  atomic_int quit;
};

#endif
