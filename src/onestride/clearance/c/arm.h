/* The arm's body as a function of where its hand is; kinova.py says why it is one. */

#ifndef ONESTRIDE_ARM_BODY_H
#define ONESTRIDE_ARM_BODY_H

#include "shapes.h"

/* The arm's plane and joints: the plane's direction away from the base, the hand's distance from the base's axis in it,
   its height, and the angles of the upper arm and of the forearm above the horizontal. */
typedef struct {
  double x, y, away, z, lift, fall;
} Pose;

static Pose pose_of(const Arm* arm, const double hand[3]) {
  const double x = hand[0], y = hand[1], left = arm->left[ARM_POINTS - 1];
  const double square = at_least(x * x + y * y, 1e-6), away = sqrt(at_least(square - left * left, 1e-6));
  const double height = hand[2] + (arm->wrist_height - arm->shoulder_height); /* of the wrist above the shoulder */
  const double upper = arm->upper_arm, fore = arm->forearm, distance = sqrt(away * away + height * height);
  const double cosine = (distance * distance + (upper * upper - fore * fore)) / (2 * upper * distance);
  const double lift = atan2(height, away) + acos(clip(cosine, -1, 1));
  const double fall = atan2(height - upper * sin(lift), away - upper * cos(lift));
  return (Pose){(away * x + left * y) / square, (away * y - left * x) / square, away, hand[2], lift, fall};
}

/* The ends of its capsules (8, 2, 3). */
static void body_of(const Arm* arm, const Pose* p, double* ends) {
  static const int end[2 * ARM_CAPSULES] = {0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 8, 9, 10};
  const double elbow = arm->upper_arm * cos(p->lift);
  const double elbow_height = arm->shoulder_height + arm->upper_arm * sin(p->lift);
  const double fore = arm->forearm * cos(p->fall), rise = arm->forearm * sin(p->fall), share = arm->share;
  double out[ARM_POINTS] = {0, 0, elbow / 2, elbow, elbow + share * fore, elbow + fore};
  double up[ARM_POINTS] = {arm->base_height, arm->shoulder_height,        (arm->shoulder_height + elbow_height) / 2,
                           elbow_height,     elbow_height + share * rise, elbow_height + rise};
  for (int i = 0; i < 5; i++) out[6 + i] = p->away, up[6 + i] = p->z + arm->wrist_height - arm->below[i];
  for (int i = 0; i < 2 * ARM_CAPSULES; i++) {
    const double far = out[end[i]], left = arm->left[end[i]];
    ends[3 * i] = far * p->x - left * p->y;
    ends[3 * i + 1] = far * p->y + left * p->x;
    ends[3 * i + 2] = up[end[i]];
  }
}

/* How long the joints take from one pose to another at their largest speeds. */
static double seconds_between(const Arm* arm, const Pose* a, const Pose* b) {
  const double turn = atan2(a->x * b->y - a->y * b->x, a->x * b->x + a->y * b->y);
  const double angle[4] = {turn, b->lift - a->lift, (b->fall - b->lift) - (a->fall - a->lift), b->fall - a->fall};
  double most = 0;
  for (int i = 0; i < 4; i++) most = greater(most, fabs(angle[i]) / arm->speeds[i]);
  return most;
}

#endif
