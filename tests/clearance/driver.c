/* Asks clearance.c for motions and certificates of random places, again and again: driver TIMES. Every array has the
   size that is promised, so that a sanitizer sees what lies beyond. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "clearance.h"

enum { ROWS = 8, COMMANDS = 3, MOTIONS = 5, BOXES = 3 };

static unsigned state = 1;

static double random_number(double most) {
  state = state * 1664525u + 1013904223u;
  return most * ((double)(state >> 8) / (1 << 23) - 1);
}

static double* numbers(long count, double most) {
  double* made = malloc((size_t)count * sizeof *made);
  for (long i = 0; i < count; i++) made[i] = random_number(most);
  return made;
}

int main(int count, char** words) {
  if (count != 2) return fputs("usage: driver TIMES\n", stderr), 2;
  const Arm arm = {0.42, 0.31, 0.16, 0.28, 0.17, {0}, {0}, 0.66, {1.4, 1.4, 1.4, 1.2}};
  const Limits limits = {{-1, -1, 0}, {1, 1, 1}, 0.2, 4, 3, 0.05, 1e-9, 1};
  for (int i = 0; i < atoi(words[1]); i++) {
    double *here = numbers(3, 0.5), *path = numbers(3 * MOTIONS * ROWS, 0.5), *pace = numbers(MOTIONS, 1);
    double *command = numbers(3 * MOTIONS * COMMANDS, 0), *seconds = numbers(MOTIONS, 0), *velocity = numbers(3, 0.1);
    double *ends = numbers(6 * ARM_CAPSULES * MOTIONS * (COMMANDS + 1), 0),
           *kept = numbers(MOTIONS * ARM_CAPSULES, 0.1);
    double *center = numbers(3 * BOXES, 0.5), *turn = numbers(9 * BOXES, 1), *half = numbers(3 * BOXES, 0.2);
    double *rounding = numbers(BOXES, 0.1), *walls = numbers(4, 1), *room = numbers(8 * (COMMANDS + 1), 0);
    double *least = numbers(MOTIONS, 0), *distances = numbers(6 * BOXES, 0), *segments = numbers(36, 0.5);
    double* body = numbers(6 * ARM_CAPSULES, 0);
    unsigned char *allowed = malloc(MOTIONS), *certified = malloc(MOTIONS);
    const Surroundings around = {{i % 2 ? BOXES : 0, center, turn, half, rounding}, 1, walls, 0.1, 0.05};
    if (i % 5 == 0) path[i % 3] = NAN;
    onestride_arm_along(&arm, &limits, MOTIONS, ROWS, COMMANDS, here, path, pace, velocity, 0.5, command, seconds, ends,
                        allowed);
    onestride_arm_body(&arm, 1, here, body);
    for (int p = 0; p < MOTIONS; p++) allowed[p] = 1;
    onestride_clearances(MOTIONS, COMMANDS + 1, ARM_CAPSULES, ends, kept, seconds, &around, room, least);
    onestride_certified(MOTIONS, COMMANDS + 1, ARM_CAPSULES, ends, kept, seconds, &around, room, 1e-9, allowed,
                        certified);
    for (int p = 0; p < MOTIONS; p++)
      if (certified[p] != (least[p] >= 1e-9)) return fprintf(stderr, "motion %d of %d differs\n", p, i), 3;
    onestride_segment_distances(6, segments, &around.boxes, distances);
    double* all[] = {here, path, pace,     command, seconds, velocity, ends,      kept,     center,
                     turn, half, rounding, walls,   room,    least,    distances, segments, body};
    for (unsigned n = 0; n < sizeof all / sizeof *all; n++) free(all[n]);
    free(allowed), free(certified);
  }
  return 0;
}
