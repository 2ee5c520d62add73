/* What a decision is made in: an engine, its threads' own memory, and the jobs they share. */

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

/* Candidates in a row of places, and how they are computed. */
typedef struct {
  int place, rows;
  int begin, end; /* operations; who begins later than with the first goes on where the candidate's own place ended */
  int screen;     /* in 8 bits, where the program allows it */
} Job;

typedef struct {
  Engine* engine;
  pthread_t thread;
  pthread_mutex_t lock; /* a helper's own, since to wake several by one condition may wait for the slowest of them */
  pthread_cond_t wake;
  int number;
  float* buffer[MAX_BUFFERS]; /* [0]: the features of all places, others: of one job */
  float* score;               /* of all places */
  int8_t* eight;              /* a job's inputs in 8 bits */
} Worker;

struct Engine {
  const Header* head;
  const Op* op;
  const float* data;
  Packed *packed, *packed_8; /* each product's weights, in float32 and in 8 bits */
  char* weights;             /* all of them, those in float32 first */
  void* copy;
  float *inputs, *off, *known, *free_entries; /* inputs: [state | context]; off: less what is usual */
  ArmFrame frame;
  long stride[MAX_BUFFERS], eight_stride;
  int threads, process; /* process: whose threads they are */
  Worker* worker;
  int32_t draw;
  int screens;         /* all candidates are computed in 8 bits first */
  int defers;          /* all candidates have their bounds computed first */
  int blocks, rows;    /* jobs that all candidates make, and places of one */
  int batch, shares;   /* candidates of a further round, and its jobs */
  int places;          /* of all candidates, and of further rounds */
  Job* job;            /* the blocks, then those of further rounds */
  atomic_int* who;     /* the candidate at each place: candidate i at place i, and behind them those of further rounds */
  int* place;          /* where a candidate's features are: its own place, or that of a round */
  int* settled;        /* whether a candidate's score is what decides, not a bound or that of 8 bits */
  int* asked;          /* jobs of a round */
  atomic_int *order, next, count; /* of the round: its jobs, whose turn is next, how many there are */
  _Atomic uint64_t* done;         /* of each job: round's number * MAX_THREADS + who published it */
  _Atomic uint64_t round;
  _Atomic uint64_t ticket;
  atomic_int quit;
};

#endif
