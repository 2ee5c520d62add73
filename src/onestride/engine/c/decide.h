/* One decision of a folded policy. decide.c has the rest; both are built by any C11 compiler that knows GNU vectors:

       cc -std=gnu11 -O3 -march=native -pthread your.c decide.c -lm                                                   */

#ifndef ONESTRIDE_DECIDE_H
#define ONESTRIDE_DECIDE_H

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Engine Engine;

/* A program of so many bytes (program.bin, whole) -> what decides by it, on so many threads, yours among them. NULL: it
   is no program of this version, the processor lacks what it needs, or memory is short.
   cores: where the other threads run (threads - 1 numbers); NULL: wherever the system likes. */
Engine* onestride_create(const void* program, long bytes, int threads, const int* cores);

/* What onestride_decide gives instead of a winner: nothing was decided, hold the robot. */
enum {
  ONESTRIDE_NOT_FINITE = -1,   /* an entry of the observation */
  ONESTRIDE_GOAL_OUTSIDE = -2, /* the arm's goal is outside its workspace */
  ONESTRIDE_GOAL_BLOCKED = -3, /* the arm's goal is inside an obstacle */
  ONESTRIDE_NO_OBSTACLE = -4   /* an obstacle is neither absent (0), a sphere (1) nor a box (2), or it has no size */
};

/* observation in the task's units, draw, modulo draws (another draw, other noise)
   -> action (A); plan (O + what the program decodes of the winner, which is its first action or all of its H rows but
   the state of the first; NULL: not wanted); the scores of all candidates (N); the winner's in best.
   Returns the winner's number, or why there is none. A best that is not finite means that no candidate is: hold the
   robot.
   Allocates nothing, and never waits for another thread. Not to be called by two threads at once. */
int onestride_decide(Engine* engine, const float* observation, int draw, float* action, float* plan, float* scores,
                     float* best);

/* What plans are asked for from the next decision on (the K numbers of contract.json's "asked"; NaN: not asked for). At
   first nothing is. Of a program without conditions it does nothing. Allocates nothing; not beside a decision. */
void onestride_ask(Engine* engine, const float* asked);

void onestride_destroy(Engine* engine);

int onestride_lanes(void);  /* floats per vector */
int onestride_levels(void); /* steps that programs in 8 bits have for a layer's inputs: 255 or 127; 0: they don't run */

#ifdef __cplusplus
}
#endif
#endif
