/* Decides by a program on one thread and on several, again and again: driver PROGRAM DECISIONS THREADS. For sanitizers,
   which say what is wrong; its own exit is not 0 where a number of threads changes a bit. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decide.h"

enum { MOST = 4096 };

int main(int count, char** words) {
  FILE* file = count == 4 ? fopen(words[1], "rb") : NULL;
  if (!file) return fputs("usage: driver PROGRAM DECISIONS THREADS\n", stderr), 2;
  static char program[1 << 24];
  const long bytes = (long)fread(program, 1, sizeof program, file);
  fclose(file);
  Engine* one = onestride_create(program, bytes, 1, NULL);
  Engine* several = onestride_create(program, bytes, atoi(words[3]), NULL);
  if (!one || !several) return fputs("no engine\n", stderr), 3;
  static float observation[MOST], action[2][MOST], plan[2][MOST], scores[2][MOST], best[2];
  unsigned state = 1;
  for (int i = 0; i < atoi(words[2]); i++) {
    for (int k = 0; k < MOST; k++) {
      state = state * 1664525u + 1013904223u;
      observation[k] = (float)(state >> 8) / (1 << 23) - 1.0f;
    }
    const int wanted = onestride_decide(one, observation, i, action[0], plan[0], scores[0], best);
    const int found = onestride_decide(several, observation, i, action[1], plan[1], scores[1], best + 1);
    if (found != wanted || memcmp(action[0], action[1], sizeof *action) || memcmp(plan[0], plan[1], sizeof *plan) ||
        memcmp(scores[0], scores[1], sizeof *scores) || memcmp(best, best + 1, sizeof *best))
      return fprintf(stderr, "decision %d differs\n", i), 4;
  }
  onestride_destroy(several);
  onestride_destroy(one);
  return 0;
}
