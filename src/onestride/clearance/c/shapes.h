/* Distances from line segments to boxes, spheres, pillars and walls; shapes.py says why they are what they are. */

#ifndef ONESTRIDE_SHAPES_H
#define ONESTRIDE_SHAPES_H

#include <math.h>

#include "clearance.h"

/* Of two numbers. A number that is none stays none where it comes first. */
static inline double at_least(double x, double low) { return x < low ? low : x; }
static inline double at_most(double x, double high) { return x > high ? high : x; }
static inline double clip(double x, double low, double high) { return at_most(at_least(x, low), high); }

/* The least and the most of many numbers, one after the other: none as soon as one of them is. */
static inline double lesser(double least, double x) { return x < least || isnan(x) ? x : least; }
static inline double greater(double most, double x) { return x > most || isnan(x) ? x : most; }

static inline double norm(const double x[3]) { return sqrt(x[0] * x[0] + x[1] * x[1] + x[2] * x[2]); }

static inline double distance(const double a[3], const double b[3]) {
  const double way[3] = {a[0] - b[0], a[1] - b[1], a[2] - b[2]};
  return norm(way);
}

/* A box's coordinates of a vector. */
static inline void turned(const double turn[9], const double x[3], double local[3]) {
  for (int i = 0; i < 3; i++) local[i] = turn[3 * i] * x[0] + turn[3 * i + 1] * x[1] + turn[3 * i + 2] * x[2];
}

enum { PLACES = 8 }; /* where a coordinate of a segment passes a face of a box, and the segment's two ends */

/* The distance of the segment start + s way, s from 0 to 1, from a box around the origin; 0 where they meet. The slope
   of the squared distance rises with s, straight between two places: its root lies between the two next to it. */
static double segment_to_box(const double start[3], const double way[3], const double half[3]) {
  double place[PLACES] = {0, 1}, slope[PLACES] = {0};
  for (int i = 0; i < 3; i++) {
    const double still = way[i] == 0 ? 1.0 : way[i]; /* passes no face: any place will do */
    place[2 + 2 * i] = clip((half[i] - start[i]) / still, 0, 1);
    place[3 + 2 * i] = clip((-half[i] - start[i]) / still, 0, 1);
  }
  for (int i = 0; i < 3; i++)
    for (int n = 0; n < PLACES; n++) {
      const double at = start[i] + place[n] * way[i];
      slope[n] += (at - clip(at, -half[i], half[i])) * way[i];
    }
  double before = 0, after = 1, falls = 0, rises = 0; /* the last place from which it still falls, the first of rise */
  for (int n = 0; n < PLACES; n++) {
    if (slope[n] <= 0 && place[n] > before) before = place[n];
    if (slope[n] >= 0 && place[n] < after) after = place[n];
  }
  for (int i = 0; i < 3; i++) {
    const double last = start[i] + before * way[i], first = start[i] + after * way[i];
    falls -= (last - clip(last, -half[i], half[i])) * way[i];
    rises += (first - clip(first, -half[i], half[i])) * way[i];
  }
  const double share = falls > 0 && rises > 0 ? falls / (falls + rises) : 0, s = before + share * (after - before);
  double off[3];
  for (int i = 0; i < 3; i++) {
    const double at = start[i] + s * way[i];
    off[i] = at - clip(at, -half[i], half[i]);
  }
  return norm(off);
}

/* A segment as distances are measured from it. */
typedef struct {
  double middle[3], along[3], half_length;
} Segment;

static inline Segment segment_of(const double ends[6]) {
  Segment s;
  for (int i = 0; i < 3; i++) s.middle[i] = 0.5 * (ends[i] + ends[3 + i]), s.along[i] = ends[3 + i] - ends[i];
  s.half_length = 0.5 * norm(s.along);
  return s;
}

/* The distance of a segment from one of the boxes: exact below `enough`, else a bound that is not less than that. */
static inline double segment_distance(const Segment* s, const Boxes* boxes, int m, double enough) {
  const double *turn = boxes->turn + 9 * m, *half = boxes->half + 3 * m, *center = boxes->center + 3 * m;
  const double offset[3] = {s->middle[0] - center[0], s->middle[1] - center[1], s->middle[2] - center[2]};
  double local[3], off[3], way[3], start[3];
  turned(turn, offset, local);
  for (int i = 0; i < 3; i++) off[i] = at_least(fabs(local[i]) - half[i], 0);
  const double bound = norm(off) - boxes->rounding[m] - s->half_length;
  if (!(bound < enough)) return bound;
  turned(turn, s->along, way);
  for (int i = 0; i < 3; i++) start[i] = local[i] - 0.5 * way[i];
  return segment_to_box(start, way, half) - boxes->rounding[m];
}

/* The distance of one segment from the nearest wall, negative beyond it. */
static inline double wall_distance(const double ends[6], const double* walls, int count) {
  double least = INFINITY;
  for (int w = 0; w < count; w++) {
    const double* wall = walls + 4 * w;
    for (int e = 0; e < 6; e += 3)
      least = lesser(least, ends[e] * wall[0] + ends[e + 1] * wall[1] + ends[e + 2] * wall[2] - wall[3]);
  }
  return least;
}

#endif
