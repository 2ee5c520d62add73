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

enum { MAX_THREADS = 64 };

typedef struct {
  Engine* engine;
  pthread_t thread;
  pthread_mutex_t lock; /* a helper's own, since to wake several by one condition may wait for the slowest of them */
  pthread_cond_t wake;
  int number;
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
  float *inputs, *off, *known, *free_entries; /* inputs: [state | context]; off: less what is usual */
  ArmFrame frame;
  long stride[MAX_BUFFERS], eight_stride;
  int threads, process; /* process: whose threads they are */
  Worker* worker;
  int32_t draw;
  int blocks, rows;       /* that all candidates make, and candidates of one */
  atomic_int next;        /* whose turn is next, of the round's blocks */
  _Atomic uint64_t* done; /* of each block: round's number * MAX_THREADS + who published it */
  _Atomic uint64_t round;
  _Atomic uint64_t ticket;
  atomic_int quit;
};

#endif
