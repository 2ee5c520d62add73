/* Certificates, and the arm's motions that they are of. See clearance.h. */

#if (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) || defined(__ASSOCIATIVE_MATH__)
#error "numbers have to be what they are: build without -ffast-math, -Ofast and what these switch on"
#endif
#include "clearance.h"

#include <math.h>
#include <string.h>

#include "arm.h"
#include "shapes.h"

void onestride_segment_distances(int segments, const double* ends, const Boxes* boxes, double* distances) {
  for (int n = 0; n < segments; n++) {
    const Segment s = segment_of(ends + 6L * n);
    for (int m = 0; m < boxes->count; m++)
      distances[(long)n * boxes->count + m] = segment_distance(&s, boxes, m, INFINITY);
  }
}

/* ---------------------------------------------------------------- certificates */

/* A capsule at a knot, and how far its ends move to the next one at most. */
typedef struct {
  Segment at;
  double moved;
} Knot;

_Static_assert(sizeof(Knot) == 8 * sizeof(double), "what callers make room for");

/* How much clearer one capsule of a motion is than it has to be, of knots that are `stride` numbers apart. What is
   below `floor` is not looked into further. */
static double capsule_clearance(int knots, long stride, const double* ends, double kept, double seconds,
                                const Surroundings* around, double floor, Knot* knot) {
  double least = INFINITY, farthest = 0;
  for (int t = 0; t < knots; t++)
    least = lesser(least, wall_distance(ends + t * stride, around->walls, around->count) - kept);
  if (!around->boxes.count || !(least >= floor)) return least;
  for (int t = 0; t < knots; t++) {
    const double *now = ends + t * stride, *next = now + stride;
    knot[t].at = segment_of(now), knot[t].moved = 0;
    if (t + 1 == knots) break;
    knot[t].moved = greater(distance(next, now), distance(next + 3, now + 3));
    farthest = greater(farthest, knot[t].moved);
  }
  const double required = kept + around->speed * (around->age + seconds);
  const double enough = required + farthest;
  for (int m = 0; m < around->boxes.count; m++) {
    double before = segment_distance(&knot[0].at, &around->boxes, m, enough);
    if (knots == 1) least = lesser(least, before - required);
    for (int t = 1; t < knots; t++) {
      const double here = segment_distance(&knot[t].at, &around->boxes, m, enough);
      least = lesser(least, (before + here - knot[t - 1].moved) / 2 - required);
      before = here;
    }
    if (!(least >= floor)) return least;
  }
  return least;
}

static double clearance(int knots, int capsules, const double* ends, const double* kept, double seconds,
                        const Surroundings* around, double floor, double* room) {
  double least = INFINITY;
  for (int k = 0; k < capsules && !(least < floor); k++)
    least = lesser(
        least, capsule_clearance(knots, 6L * capsules, ends + 6L * k, kept[k], seconds, around, floor, (Knot*)room));
  return least;
}

void onestride_clearances(int motions, int knots, int capsules, const double* ends, const double* kept,
                          const double* seconds, const Surroundings* around, double* room, double* least) {
  for (long p = 0; p < motions; p++)
    least[p] = clearance(knots, capsules, ends + 6 * p * knots * capsules, kept + p * capsules, seconds[p], around,
                         -INFINITY, room);
}

void onestride_certified(int motions, int knots, int capsules, const double* ends, const double* kept,
                         const double* seconds, const Surroundings* around, double* room, double rounding,
                         const unsigned char* allowed, unsigned char* certified) {
  for (long p = 0; p < motions; p++)
    certified[p] = allowed[p] && clearance(knots, capsules, ends + 6 * p * knots * capsules, kept + p * capsules,
                                           seconds[p], around, rounding, room) >= rounding;
}

/* ---------------------------------------------------------------- motions along a path */

/* The direction of a path's last move that is one: where it goes on. */
static void last_way(const Limits* limits, int rows, const double* here, const double* path, double way[3]) {
  for (int n = rows - 1; n >= -1; n--) { /* where there is none, the last one */
    const int move = n < 0 ? rows - 1 : n;
    const double *from = move ? path + 3 * (move - 1) : here, *to = path + 3 * move, length = distance(to, from);
    for (int i = 0; i < 3; i++) way[i] = (to[i] - from[i]) / at_least(length, limits->same);
    if (length > limits->same) return;
  }
}

static double braked(const Limits* limits, int rows, int commands, const double* here, const double* path, double pace,
                     double* command) {
  double way[3] = {0}, beyond[3];
  last_way(limits, rows, here, path, way);
  for (int i = 0; i < 3; i++) beyond[i] = path[3 * (rows - 1) + i] + limits->beyond * way[i];
  const double *from = here, *to = path;
  double length = distance(to, from), end = length, total = 0, passed = 0; /* end: of the move, along the path */
  const double step = pace * length, dt = limits->control_dt;
  int moves = 1, part = 0;
  for (int j = 0; j < commands; j++) {
    total += at_least(step - limits->deceleration * dt * dt * j, 0);
    if (j && total - passed > limits->same) moves++;
    passed = total;
    while (total > end && part < rows) { /* the move that the distance ends in */
      part++;
      from = to, to = part < rows ? path + 3 * part : beyond;
      length = distance(to, from), end += length;
    }
    const double share = clip(1 - (end - total) / at_least(length, limits->same), 0, 1);
    for (int i = 0; i < 3; i++) command[3 * j + i] = from[i] + share * (to[i] - from[i]);
  }
  if (pace == 1) memcpy(command, path, 3 * sizeof *path); /* as it is, to the last bit */
  return (moves + 1) * dt;
}

static int swept(const Arm* arm, const Limits* limits, int commands, const double* here, const double* command,
                 const double* velocity, double elapsed, double* ends) {
  const double dt = limits->control_dt, *from = here;
  double before[3] = {velocity[0], velocity[1], velocity[2]};
  Pose pose = pose_of(arm, here);
  body_of(arm, &pose, ends);
  int allowed = 1;
  for (int j = 0; j < commands; j++) {
    const double* to = command + 3 * j;
    double now[3];
    for (int i = 0; i < 3; i++) {
      now[i] = (to[i] - from[i]) / dt;
      allowed &= to[i] >= limits->low[i] && to[i] <= limits->high[i];
    }
    const double change = distance(now, before) / (j ? 1 : at_least(elapsed, 1e-6));
    const Pose next = pose_of(arm, to);
    allowed &=
        change <= limits->acceleration * dt + limits->same && distance(to, from) <= limits->speed * dt + limits->same;
    allowed &= seconds_between(arm, &pose, &next) <= dt + limits->same;
    body_of(arm, &next, ends + 6L * ARM_CAPSULES * (j + 1));
    memcpy(before, now, sizeof now);
    from = to, pose = next;
  }
  return allowed;
}

void onestride_arm_body(const Arm* arm, int positions, const double* hand, double* ends) {
  for (long n = 0; n < positions; n++) {
    const Pose pose = pose_of(arm, hand + 3 * n);
    body_of(arm, &pose, ends + 6 * ARM_CAPSULES * n);
  }
}

void onestride_arm_swept(const Arm* arm, const Limits* limits, int motions, int commands, const double* here,
                         const double* command, const double* velocity, double elapsed, double* ends,
                         unsigned char* allowed) {
  const long many = commands, numbers = 6 * ARM_CAPSULES * (many + 1);
  for (long p = 0; p < motions; p++)
    allowed[p] = (unsigned char)swept(arm, limits, commands, here, command + 3 * many * p, velocity, elapsed,
                                      ends + numbers * p);
}

void onestride_arm_along(const Arm* arm, const Limits* limits, int motions, int rows, int commands, const double* here,
                         const double* path, const double* pace, const double* velocity, double elapsed,
                         double* command, double* seconds, double* ends, unsigned char* allowed) {
  for (long p = 0; p < motions; p++)
    seconds[p] = braked(limits, rows, commands, here, path + 3L * rows * p, pace[p], command + 3L * commands * p);
  onestride_arm_swept(arm, limits, motions, commands, here, command, velocity, elapsed, ends, allowed);
}
