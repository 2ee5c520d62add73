/* What the arm's task does around its network (tasks/kinova/task.py, selectors/geometry.py), for one observation and
   its candidates: the frame and the context, the score of a plan, the first command. Metres, radians, base frame. */

#ifndef ONESTRIDE_ARM_H
#define ONESTRIDE_ARM_H

#include "decide.h"
#include "vectors.h"

enum { ARM_OBSTACLES = 4, ARM_ROWS = 64, ARM_OBSERVATION = 9 + 8 * ARM_OBSTACLES, ARM_STATE = 6, ARM_ACTION = 3 };

/* The constants, in the order of tasks/kinova/task.py; then lists: share, rise and radius of every body point, and the
   points of the context. */
enum {
  NEAREST,
  NEAREST_SCENE,
  SIGHT,
  CONTROL_DT,
  ACCELERATION,
  SPEED,
  ENOUGH,
  STRIDE,
  FAR_FROM_GOAL,
  CLEARANCE_WEIGHT,
  EFFORT_WEIGHT,
  ARRIVAL_WEIGHT,
  EVERY,
  WALLS,
  BODY_OFFSET,
  UPPER_ARM,
  FOREARM,
  WRIST_RISE,
  CUT,
  CENTER,
  HALF = CENTER + 3,
  LOW = HALF + 3,
  HIGH = LOW + 3,
  BODY_POINTS = HIGH + 3,
  CONTEXT_POINTS,
  ARM_LISTS
};

typedef struct {
  float axes[3][3]; /* rows: forward, left, up */
  float goal[3], position[3], length, stride;
  struct {
    float cos, sin, center[3], half[3], rounding;
  } obstacle[ARM_OBSTACLES];
} ArmFrame;

/* Whether the constants and a program's sizes are those of an arm. */
static inline int arm_sound(const float* c, long numbers, int observation, int state, int inputs, int action) {
  const float body = c[BODY_POINTS], context = c[CONTEXT_POINTS];
  return observation == ARM_OBSERVATION && state == ARM_STATE && action == ARM_ACTION && body >= 1 && body < 1000 &&
         context >= 0 && context < 10000 && inputs == ARM_STATE + 11 + (int)context && c[EVERY] >= 1 &&
         c[EVERY] < 100 && ARM_LISTS + 3 * (long)body + 3 * (long)context <= numbers;
}

/* Distance to the nearest obstacle's surface, negative inside, at most the cut. A sphere is a box of no extent. */
INLINE vec arm_distance(const float* c, const ArmFrame* f, vec x, vec y, vec z) {
  vec nearest = (vec){} + c[CUT];
  for (int k = 0; k < ARM_OBSTACLES; k++) {
    const float cos = f->obstacle[k].cos, sin = f->obstacle[k].sin;
    const float *center = f->obstacle[k].center, *half = f->obstacle[k].half;
    const vec qx = magnitude(cos * x + sin * y - center[0]) - half[0];
    const vec qy = magnitude(cos * y - sin * x - center[1]) - half[1];
    const vec qz = magnitude(z - center[2]) - half[2];
    const vec nothing = {}, ox = most(qx, nothing), oy = most(qy, nothing), oz = most(qz, nothing);
    const vec inside = least(most(most(qx, qy), qz), nothing);
    nearest = least(root(ox * ox + oy * oy + oz * oz + 1e-12f) + inside - f->obstacle[k].rounding, nearest);
  }
  return nearest;
}

/* The obstacles of an observation, as distances are measured from them. */
INLINE void arm_obstacles(const float* c, const float* o, ArmFrame* f) {
  for (int k = 0; k < ARM_OBSTACLES; k++) {
    const float *row = o + 9 + 8 * k, kind = row[0], cos = cosf(row[7]), sin = sinf(row[7]);
    f->obstacle[k].cos = cos, f->obstacle[k].sin = sin;
    f->obstacle[k].center[0] = cos * row[1] + sin * row[2];
    f->obstacle[k].center[1] = cos * row[2] - sin * row[1];
    f->obstacle[k].center[2] = row[3];
    for (int i = 0; i < 3; i++) f->obstacle[k].half[i] = kind == 2.0f ? row[4 + i] : 0.0f;
    f->obstacle[k].rounding = kind == 1.0f ? row[4] : kind == 0.0f ? -10.0f * c[CUT] : 0.0f;
  }
}

/* Why no plan could be made to an observation's goal; 0: one can. */
static int arm_refused(const float* c, const float* o) {
  const float* goal = o + 6;
  for (int i = 0; i < 3; i++)
    if (goal[i] < c[LOW + i] || goal[i] > c[HIGH + i]) return ONESTRIDE_GOAL_OUTSIDE;
  for (int k = 0; k < ARM_OBSTACLES; k++) {
    const float *row = o + 9 + 8 * k, kind = row[0], smallest = fminf(row[4], fminf(row[5], row[6]));
    if (kind != 0 && !(kind == 1 && row[4] > 0) && !(kind == 2 && smallest > 0)) return ONESTRIDE_NO_OBSTACLE;
  }
  ArmFrame f;
  arm_obstacles(c, o, &f);
  const vec nothing = {}, depth = arm_distance(c, &f, nothing + goal[0], nothing + goal[1], nothing + goal[2]);
  return depth[0] <= 0 ? ONESTRIDE_GOAL_BLOCKED : 0;
}

/* Observation (41) -> state (6) and context (11 + P) in inputs, and the frame. */
static void arm_encode(const float* c, const float* o, float* inputs, ArmFrame* f) {
  const float *position = o, *velocity = o + 3, *goal = o + 6;
  arm_obstacles(c, o, f);

  float offset[3], square = 0;
  for (int i = 0; i < 3; i++) offset[i] = goal[i] - position[i], square += offset[i] * offset[i];
  const float distance = sqrtf(square);
  float *forward = f->axes[0], *left = f->axes[1], *above = f->axes[2];
  for (int i = 0; i < 3; i++) forward[i] = distance > 1e-6f ? offset[i] / distance : i == 0; /* at the goal: along x */
  const float x = forward[0], y = forward[1], z = forward[2];
  const int vertical = x * x + y * y < 1e-6f;
  left[0] = vertical ? -x * y : -y;
  left[1] = vertical ? 1 - y * y : x;
  left[2] = vertical ? -y * z : 0;
  const float norm = fmaxf(sqrtf(left[0] * left[0] + left[1] * left[1] + left[2] * left[2]), 1e-12f);
  for (int i = 0; i < 3; i++) left[i] /= norm;
  for (int i = 0; i < 3; i++)
    above[i] = forward[(i + 1) % 3] * left[(i + 2) % 3] - forward[(i + 2) % 3] * left[(i + 1) % 3];
  f->length = fmaxf(distance, c[NEAREST]);
  f->stride = c[CONTROL_DT] * fminf(sqrtf(2 * c[ACCELERATION] * f->length), c[SPEED]);
  memcpy(f->goal, goal, sizeof f->goal);
  memcpy(f->position, position, sizeof f->position);

  float* context = inputs + ARM_STATE;
  for (int i = 0; i < 3; i++) {
    const float* axis = f->axes[i];
    inputs[i] = -(axis[0] * offset[0] + axis[1] * offset[1] + axis[2] * offset[2]) / f->length;
    inputs[3 + i] = (axis[0] * velocity[0] + axis[1] * velocity[1] + axis[2] * velocity[2]) * c[CONTROL_DT] / f->stride;
    context[2 + i] = forward[i];
    context[5 + i] = position[i];
    context[8 + i] = goal[i];
  }
  context[0] = logf(f->length);
  context[1] = distance / f->length;
  const int body = (int)c[BODY_POINTS], count = (int)c[CONTEXT_POINTS];
  const float *points = c + ARM_LISTS + 3 * body, look = fmaxf(f->length, c[NEAREST_SCENE]);
  for (int p = 0; p < count; p += LANES) {
    float at[3][LANES] = {{0}};
    for (int j = 0; j < LANES && p + j < count; j++) {
      const float* point = points + 3 * (p + j);
      for (int i = 0; i < 3; i++)
        at[i][j] = goal[i] + look * (f->axes[0][i] * point[0] + f->axes[1][i] * point[1] + f->axes[2][i] * point[2]);
    }
    const vec seen = least(arm_distance(c, f, load(at[0]), load(at[1]), load(at[2])), (vec){} + c[SIGHT]);
    store_some(context + 11 + p, seen, count - p < LANES ? count - p : LANES);
  }
}

/* Clearance of the tool's tip, of the body and of the workspace's walls at tool positions, whichever is least. */
INLINE vec arm_clearance(const float* c, const ArmFrame* f, vec x, vec y, vec z) {
  const int body = (int)c[BODY_POINTS];
  const float *share = c + ARM_LISTS, *rise = share + body, *radius = rise + body;
  const float upper = c[UPPER_ARM], fore = c[FOREARM];
  const vec reach = most(root(x * x + y * y), (vec){} + 1e-6f), height = z + c[WRIST_RISE];
  const vec distance = root(reach * reach + height * height);
  const vec wanted = (distance * distance + (upper * upper - fore * fore)) / (2 * upper * distance);
  /* The upper arm's lift is the sum of two angles: of the wrist above the shoulder, and the triangle's. */
  const vec cosine = least(most(wanted, (vec){} + (-1 + 1e-6f)), (vec){} + (1 - 1e-6f)),
            sine = root(1 - cosine * cosine);
  const vec along = (reach * cosine - height * sine) / distance, up = (height * cosine + reach * sine) / distance;
  const vec outward = upper * along / reach - 1.0f;
  const vec ex = outward * x, ey = outward * y, ez = upper * up - height; /* from the wrist to the elbow */

  const vec wall = most(most(magnitude(x - c[CENTER]) - c[HALF], magnitude(y - c[CENTER + 1]) - c[HALF + 1]),
                        magnitude(z - c[CENTER + 2]) - c[HALF + 2]);
  vec clear = c[WALLS] - wall;
  for (int p = 0; p < body; p++) {
    const vec near = arm_distance(c, f, x + share[p] * ex, y + share[p] * ey, z + rise[p] + share[p] * ez);
    if (p == 0) clear = least(near, clear);
    clear = least(near - radius[p] + c[BODY_OFFSET], clear);
  }
  return clear;
}

/* Score of a plan: positions of rows 1 ... rows (3 rows) in units of the frame, row 0 being the state. */
static float arm_score(const float* c, const ArmFrame* f, const float* state, const float* positions, int rows) {
  float path[3][ARM_ROWS + LANES], check = 0;
  for (int h = 0; h <= rows; h++) {
    const float* at = h ? positions + 3 * (h - 1) : state;
    for (int i = 0; i < 3; i++) {
      const float here = f->axes[0][i] * at[0] + f->axes[1][i] * at[1] + f->axes[2][i] * at[2];
      path[i][h] = f->goal[i] + here * f->length;
      check += here * 0.0f;
    }
  }
  const int every = (int)c[EVERY];
  vec worst = (vec){} + c[ENOUGH];
  for (int first = 1; first <= rows; first += every * LANES) {
    float at[3][LANES];
    for (int j = 0; j < LANES; j++) {
      const int h = first + every * j <= rows ? first + every * j : first; /* the last ones look at the first again */
      for (int i = 0; i < 3; i++) at[i][j] = path[i][h];
    }
    worst = least(arm_clearance(c, f, load(at[0]), load(at[1]), load(at[2])), worst);
  }
  float clear = worst[0], effort = 0, left = 0;
  for (int j = 1; j < LANES; j++) clear = fminf(clear, worst[j]);
  for (int h = 2; h <= rows; h++)
    for (int i = 0; i < 3; i++) {
      const float bend = (path[i][h] - path[i][h - 1]) - (path[i][h - 1] - path[i][h - 2]);
      effort += bend * bend;
    }
  for (int i = 0; i < 3; i++) left += (path[i][rows] - f->goal[i]) * (path[i][rows] - f->goal[i]);
  return c[CLEARANCE_WEIGHT] * (clear / c[ENOUGH]) -
         c[EFFORT_WEIGHT] * sqrtf(effort / (float)(rows > 1 ? rows - 1 : 1)) / c[STRIDE] -
         c[ARRIVAL_WEIGHT] * sqrtf(left) / c[FAR_FROM_GOAL] + check;
}

/* The first row's displacement -> the tool's next position. */
static void arm_command(const ArmFrame* f, const float* displacement, float* action) {
  for (int i = 0; i < 3; i++)
    action[i] = f->position[i] + f->stride * (f->axes[0][i] * displacement[0] + f->axes[1][i] * displacement[1] +
                                              f->axes[2][i] * displacement[2]);
}

#endif
