/* What clearance/certificate.py, shapes.py, motions.py and kinova.py compute, in C: the same formulas, assumptions
   and margins, in float64. clearance/native.py calls it. Nothing is allocated and nothing is kept between two calls.

   Arrays are contiguous, their last axis first in memory. A number that is none makes every result that depends on it
   none, or not allowed. */

#ifndef ONESTRIDE_CLEARANCE_H
#define ONESTRIDE_CLEARANCE_H

/* Rounded boxes; see RoundedBoxes. */
typedef struct {
  int count;              /* M */
  const double* center;   /* (M, 3) */
  const double* turn;     /* (M, 3, 3) */
  const double* half;     /* (M, 3) */
  const double* rounding; /* (M,) */
} Boxes;

/* What the body has to keep clear of; see Surroundings. */
typedef struct {
  Boxes boxes;
  int count;           /* W */
  const double* walls; /* (W, 4) */
  double speed, age;
} Surroundings;

/* What the reference may do; see PositionLimits, and SAME and BEYOND of motions.py. */
typedef struct {
  double low[3], high[3], speed, acceleration, deceleration, control_dt, same, beyond;
} Limits;

/* The arm; see kinova.py. */
typedef struct {
  double upper_arm, forearm, base_height, shoulder_height, wrist_height;
  double left[11];  /* how far the points lie to the left of the arm's plane */
  double below[5];  /* how far the last five lie below the wrist */
  double share;     /* of the forearm before the first joint of the wrist */
  double speeds[4]; /* of the joints that move */
} Arm;

enum { ARM_POINTS = 11, ARM_CAPSULES = 8 };

/* Distances of line segments (N, 2, 3) from boxes -> (N, M); see segment_distances. */
void onestride_segment_distances(int segments, const double* ends, const Boxes* boxes, double* distances);

/* Motions (P, T, K, 2, 3), with kept (P, K) and seconds (P,) -> how much clearer each is than it has to be, without the
   rounding of certificate.py (P,). room: for 8 T numbers. */
void onestride_clearances(int motions, int knots, int capsules, const double* ends, const double* kept,
                          const double* seconds, const Surroundings* around, double* room, double* least);

/* The same -> which of those that are allowed (P,) are clearer by `rounding` (P,). */
void onestride_certified(int motions, int knots, int capsules, const double* ends, const double* kept,
                         const double* seconds, const Surroundings* around, double* room, double rounding,
                         const unsigned char* allowed, unsigned char* certified);

/* Positions of the hand (N, 3) -> the ends of the arm's capsules (N, 8, 2, 3). */
void onestride_arm_body(const Arm* arm, int positions, const double* hand, double* ends);

/* Commands (P, J, 3) from here (3), at a velocity (3) -> the ends of the arm's capsules at the knots (P, J + 1, 8, 2,
   3) and whether the motions are allowed (P,). elapsed: share of a control period since the last command. */
void onestride_arm_swept(const Arm* arm, const Limits* limits, int motions, int commands, const double* here,
                         const double* command, const double* velocity, double elapsed, double* ends,
                         unsigned char* allowed);

/* Paths (P, N, 3), each at its pace (P,) -> the commands along it and to rest on it (P, J, 3), how long they take (P,),
   and what they sweep. */
void onestride_arm_along(const Arm* arm, const Limits* limits, int motions, int rows, int commands, const double* here,
                         const double* path, const double* pace, const double* velocity, double elapsed,
                         double* command, double* seconds, double* ends, unsigned char* allowed);

#endif
