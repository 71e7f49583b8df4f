/* What we add to the kernels that are generated: stepping two of them in turns, and keeping
 * histories in half precision. Plain C99 that compilers turn into vector code by themselves. */

#include <stdint.h>
#include <string.h>

typedef int (*entry)(void **);

/* A kernel with its arguments, and where the bounds of its loop over time stand among them. */
struct call
{
  entry run;
  void **values;
  int *first, *last;
};

static int steps(const struct call *what, int first, int last)
{
  *what->first = first;
  *what->last = last;
  return what->run(what->values);
}

/* One array of a history, of which one kernel reads or writes the slots of one group at a time. */
struct history
{
  char **data;     /* what the kernel takes for time index 0 */
  char *base;      /* the first slot of group 0, if it were there */
  int64_t stride;  /* bytes of a slot */
};

/* Run the steps first <= n <= last, forward or backward in time. Those near a multiple of `every`
 * go by the kernel that works on the history: of every group g, the steps
 * g * every + from <= n <= g * every + to, of which the group's slots hold the time indices from
 * g * every + low on. All others go by the other one. Groups at or beyond `groups` have no slots.
 *
 *       |<---- every ---->|
 *   ....k k k . . . . . . k k k . . .      k: on the history   .: the others
 *       from..to          from..to
 */
static int turns(const struct call *on_history, const struct call *others,
                 const struct history *histories, int arrays,
                 int first, int last, int backward, int every, int from, int to, int low,
                 int width, int groups, int shift)
{
  int n = backward ? last : first;
  while (first <= n && n <= last)
  {
    /* The group whose steps are next, at n or after it in the direction of the run. */
    int group = backward ? (n - from) / every : (n - to + every - 1) / every;
    if (backward && n - from < 0) group = -1;
    if (backward && group >= groups) group = groups - 1;
    int begin = group * every + from, end = group * every + to;
    int there = group >= 0 && group < groups;
    int code;
    if (there && begin <= n && n <= end)
    {
      if (backward) { if (begin < first) begin = first; end = n; }
      else          { if (end > last) end = last; begin = n; }
      for (int i = 0; i < arrays; i++)
      {
        int64_t slot = (int64_t) width * group - ((int64_t) group * every + low + shift);
        *histories[i].data = histories[i].base + slot * histories[i].stride;
      }
      code = steps(on_history, begin + shift, end + shift);
    }
    else
    {
      if (backward) { begin = there && end + 1 > first ? end + 1 : first; end = n; }
      else          { end = there && begin - 1 < last ? begin - 1 : last; begin = n; }
      code = steps(others, begin + shift, end + shift);
    }
    if (code != 0) return code;
    n = backward ? begin - 1 : end + 1;
  }
  return 0;
}

/* The same; afterwards, the kernel's arguments are as they were. */
int in_turns(const struct call *on_history, const struct call *others,
             const struct history *histories, int arrays,
             int first, int last, int backward, int every, int from, int to, int low,
             int width, int groups, int shift)
{
  int code = turns(on_history, others, histories, arrays, first, last, backward, every, from, to,
                   low, width, groups, shift);
  for (int i = 0; i < arrays; i++) *histories[i].data = histories[i].base;
  return code;
}

/* ---------------------------------------------------------------- half precision
 *
 * 16 bits: sign, 5 of the exponent, 10 of the fraction, as float16 has; times a power of two that
 * every CHUNK points of a slot have of their own, so that the largest value among them has the
 * largest exponent. Values are rounded to 11 significant bits; those 2^-30 times the largest and
 * less become zero.
 * Integers do all of it, so that any processor is fast.
 *
 * What is packed of a slot is its difference from the slot before, as that will be unpacked.
 * Wavefields change little in a step, and gradients are made of how they change in time: the
 * differences keep 11 bits, and no error is left to grow. The first slot is packed twice: its
 * values, and what their rounding has lost.
 *
 *    slots           q0            q1       q2       ...
 *    packed   [q0] [q0 - q0']  [q1 - q0'] [q2 - q1'] ...     q': as unpacked
 *
 * Where every k-th step is kept, slots come in groups, each of neighbouring time indices. From one
 * group to the next, fields change by as much as they are large, and so does what rounding loses.
 * Gradients are made of the changes within a group: these are packed as they are, so that what is
 * lost between groups is in all slots of a group alike.
 *
 *    slots           q0            q1         q2         q3    ...    in groups of two
 *    packed   [q0] [q0 - q0']  [q1 - q0]  [q2 - q1'] [q3 - q2] ...
 */

enum { EMPTY = INT32_MIN, BROKEN = INT32_MAX };
enum { BIAS = 127, RANGE = 31, DROPPED = 13 };
#define LEAST ((uint32_t) (BIAS - RANGE) << 23) /* of a size, as bits: it and less become zero */

static inline uint32_t bits_of(float value)
{
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float of_bits(uint32_t bits)
{
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* One slot more is packed than there are. `exponents` (packed slot, chunk) receives, or holds, the
 * power of two of every CHUNK points. A chunk with a difference that is no finite number is BROKEN:
 * all of it, and what follows in time, comes back as NaN. That is written as bits, as compilers that
 * are told to be fast (-ffast-math) take it that no number is NaN or infinite. */
enum { CHUNK = 1024 };
const int64_t chunk = CHUNK; /* for who makes `exponents` */

#define HALVES(REAL, BITS, FRACTION, MIDDLE, NOT_FINITE)                                       \
static REAL power_of_two_##REAL(int32_t exponent)                                              \
{                                                                                              \
  BITS bits = (BITS) (MIDDLE + exponent) << FRACTION;                                          \
  REAL value;                                                                                  \
  memcpy(&value, &bits, sizeof value);                                                         \
  return value;                                                                                \
}                                                                                              \
                                                                                               \
static REAL no_number_##REAL(void)                                                             \
{                                                                                              \
  BITS bits = (BITS) NOT_FINITE << FRACTION | (BITS) 1 << (FRACTION - 1);                      \
  REAL value;                                                                                  \
  memcpy(&value, &bits, sizeof value);                                                         \
  return value;                                                                                \
}                                                                                              \
                                                                                               \
/* Set `differences`, and return the exponent of the least power of two above all of them. */  \
static int32_t exponent_##REAL(const REAL *restrict values, const REAL *restrict before,       \
                               REAL *restrict differences, int points)                         \
{                                                                                              \
  BITS largest = 0;                                                                            \
  for (int i = 0; i < points; i++)                                                             \
  {                                                                                            \
    REAL difference = differences[i] = values[i] - before[i];                                  \
    BITS bits;                                                                                 \
    memcpy(&bits, &difference, sizeof bits);                                                   \
    bits = bits << 1 >> 1;                                                                     \
    largest = bits > largest ? bits : largest;                                                 \
  }                                                                                            \
  int32_t exponent = (int32_t) (largest >> FRACTION);                                          \
  /* At both ends, what has no inverse in this type is not worth the care. */                  \
  if (exponent >= NOT_FINITE - 3) return BROKEN;                                               \
  return exponent <= 2 ? EMPTY : exponent + 1 - MIDDLE;                                        \
}                                                                                              \
                                                                                               \
static void pack_chunk_##REAL(const REAL *restrict differences, uint16_t *restrict to,         \
                              REAL *restrict last, int32_t exponent, int points)               \
{                                                                                              \
  const REAL up = power_of_two_##REAL(exponent), down = power_of_two_##REAL(-exponent);        \
  for (int i = 0; i < points; i++)                                                             \
  {                                                                                            \
    /* Sizes are below one, or become one: they have room in 15 bits. */                       \
    uint32_t bits = bits_of((float) (differences[i] * down));                                  \
    uint32_t rounded = (bits + (1u << (DROPPED - 1))) >> DROPPED << DROPPED;                   \
    uint32_t size = rounded & 0x7fffffffu;                                                     \
    size = size > LEAST ? size - LEAST : 0;                                                    \
    to[i] = (uint16_t) ((rounded >> 16 & 0x8000u) | size >> DROPPED);                          \
    last[i] += (REAL) of_bits(size ? rounded : 0) * up;                                        \
  }                                                                                            \
}                                                                                              \
                                                                                               \
static void unpack_chunk_##REAL(const uint16_t *restrict from, REAL *restrict values,          \
                                REAL *restrict last, int32_t exponent, int points)             \
{                                                                                              \
  const REAL up = power_of_two_##REAL(exponent);                                               \
  for (int i = 0; i < points; i++)                                                             \
  {                                                                                            \
    uint32_t size = (uint32_t) (from[i] & 0x7fffu) << DROPPED;                                 \
    uint32_t sign = (uint32_t) (from[i] & 0x8000u) << 16;                                      \
    values[i] = last[i] += (REAL) of_bits(size ? (size + LEAST) | sign : 0) * up;              \
  }                                                                                            \
}                                                                                              \
                                                                                               \
int pack_##REAL(const REAL *from, uint16_t *to, int32_t *exponents, int64_t slots,             \
                int64_t points, int64_t group)                                                 \
{                                                                                              \
  const int64_t chunks = (points + CHUNK - 1) / CHUNK;                                         \
  REAL last[CHUNK], differences[CHUNK];                                                        \
  for (int64_t c = 0; c < chunks; c++)                                                         \
  {                                                                                            \
    const int64_t begin = c * CHUNK;                                                           \
    const int length = points - begin < CHUNK ? points - begin : CHUNK;                        \
    memset(last, 0, sizeof last);                                                              \
    for (int64_t s = 0; s <= slots; s++)                                                       \
    {                                                                                          \
      const REAL *values = from + points * (s > 0 ? s - 1 : 0) + begin;                        \
      const REAL *before = s > 0 && (s - 1) % group > 0 ? values - points : last;              \
      uint16_t *packed = to + points * s + begin;                                              \
      int32_t exponent = exponent_##REAL(values, before, differences, length);                 \
      exponents[s * chunks + c] = exponent;                                                    \
      if (exponent != EMPTY && exponent != BROKEN)                                             \
        pack_chunk_##REAL(differences, packed, last, exponent, length);                        \
      else                                                                                     \
        memset(packed, 0, length * sizeof *packed);                                            \
    }                                                                                          \
  }                                                                                            \
  return 0;                                                                                    \
}                                                                                              \
                                                                                               \
int unpack_##REAL(const uint16_t *from, const int32_t *exponents, REAL *to, int64_t slots,     \
                  int64_t points)                                                              \
{                                                                                              \
  const int64_t chunks = (points + CHUNK - 1) / CHUNK;                                         \
  REAL last[CHUNK];                                                                            \
  for (int64_t c = 0; c < chunks; c++)                                                         \
  {                                                                                            \
    const int64_t begin = c * CHUNK;                                                           \
    const int length = points - begin < CHUNK ? points - begin : CHUNK;                        \
    memset(last, 0, sizeof last);                                                              \
    for (int64_t s = 0; s <= slots; s++)                                                       \
    {                                                                                          \
      REAL *values = to + points * (s > 0 ? s - 1 : 0) + begin;                                \
      int32_t exponent = exponents[s * chunks + c];                                            \
      if (exponent != EMPTY && exponent != BROKEN)                                             \
      {                                                                                        \
        unpack_chunk_##REAL(from + points * s + begin, values, last, exponent, length);        \
        continue;                                                                              \
      }                                                                                        \
      if (exponent == BROKEN)                                                                  \
        for (int i = 0; i < length; i++) last[i] = no_number_##REAL();                         \
      memcpy(values, last, length * sizeof *last);                                             \
    }                                                                                          \
  }                                                                                            \
  return 0;                                                                                    \
}

HALVES(float, uint32_t, 23, 127, 255)
HALVES(double, uint64_t, 52, 1023, 2047)

int kernel_of_values(void **values) { (void) values; return 0; } /* every library has one */
