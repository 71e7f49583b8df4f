/* How fast this machine moves and calculates. `measure` repeats one kind of work on arrays of n
   floats for some seconds of this thread's processor time, and returns the most bytes (or
   operations) a second of all repetitions. */

#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define WIDTH (BYTES / 4)
#define ROUND 20000 /* of the arithmetic */

typedef float vector __attribute__((vector_size(BYTES), aligned(BYTES), may_alias));
typedef float shifted __attribute__((vector_size(BYTES), aligned(4), may_alias));

enum { READ, READ_SHIFTED, WRITE, UPDATE, COPY, STREAM, FUSED };

static volatile float sink;

static double now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

static float *zeros(long n)
{
  void *p = mmap(0, n * 4 + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return 0;
#ifdef MADV_HUGEPAGE
  madvise(p, n * 4 + 4096, MADV_HUGEPAGE);
#endif
  for (long i = 0; i < n + 1024; i++) ((float *)p)[i] = 0;
  return p;
}

static vector filled(float x)
{
  vector v;
  for (int i = 0; i < WIDTH; i++) v[i] = x;
  return v;
}

/* The memory clobber keeps the compiler from merging repetitions. */
#define KEEP(p) __asm__ volatile("" : : "r"(p) : "memory")

#define SUM(type)                                                                   \
  {                                                                                 \
    vector s0 = filled(0), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0; \
    const float *p = a + (sizeof(type) && what == READ_SHIFTED);                    \
    for (long i = 0; i < n; i += 8 * WIDTH) {                                       \
      s0 += *(const type *)(p + i);                                                 \
      s1 += *(const type *)(p + i + WIDTH);                                         \
      s2 += *(const type *)(p + i + 2 * WIDTH);                                     \
      s3 += *(const type *)(p + i + 3 * WIDTH);                                     \
      s4 += *(const type *)(p + i + 4 * WIDTH);                                     \
      s5 += *(const type *)(p + i + 5 * WIDTH);                                     \
      s6 += *(const type *)(p + i + 6 * WIDTH);                                     \
      s7 += *(const type *)(p + i + 7 * WIDTH);                                     \
    }                                                                               \
    s0 += s1 + s2 + s3 + s4 + s5 + s6 + s7;                                         \
    sink += s0[0];                                                                  \
  }

static void work(int what, long n, float *a, const float *b)
{
  const vector one = filled(1.0f), half = filled(0.5f);
  switch (what) {
  case READ:
    SUM(vector)
    break;
  case READ_SHIFTED:
    SUM(shifted)
    break;
  case WRITE:
    for (long i = 0; i < n; i += WIDTH) *(vector *)(a + i) = one;
    break;
  case UPDATE:
    for (long i = 0; i < n; i += WIDTH) *(vector *)(a + i) = *(vector *)(a + i) * half + one;
    break;
  case COPY: /* one plus: or it would become a call of memcpy */
    for (long i = 0; i < n; i += WIDTH) *(vector *)(a + i) = *(const vector *)(b + i) + one;
    break;
  case STREAM:
#if defined(__AVX512F__)
    for (long i = 0; i < n; i += 16) _mm512_stream_ps(a + i, _mm512_set1_ps(1.0f));
    _mm_sfence();
#elif defined(__AVX__)
    for (long i = 0; i < n; i += 8) _mm256_stream_ps(a + i, _mm256_set1_ps(1.0f));
    _mm_sfence();
#elif defined(__x86_64__)
    for (long i = 0; i < n; i += 4) _mm_stream_ps(a + i, _mm_set1_ps(1.0f));
    _mm_sfence();
#else
    for (long i = 0; i < n; i += WIDTH) *(vector *)(a + i) = one;
#endif
    break;
  case FUSED: { /* ten chains hide the latency of either unit */
    vector x[10];
    for (int k = 0; k < 10; k++) x[k] = filled(k);
    for (long i = 0; i < ROUND; i++) {
#pragma GCC unroll 10
      for (int k = 0; k < 10; k++) x[k] = x[k] * half + one;
    }
    for (int k = 0; k < 10; k++) sink += x[k][0];
    break;
  }
  }
  KEEP(a);
}

double kernel(int what, long n, double seconds)
{
  const double moved = what == UPDATE || what == COPY ? 8.0 * n : 4.0 * n;
  const double done = what == FUSED ? 2.0 * 10 * WIDTH * ROUND : moved;
  n -= n % (8 * WIDTH);
  float *a = zeros(n), *b = what == COPY ? zeros(n) : a;
  if (!a || !b) return -1;
  long turns = 1;
  double begin = now(), best = 0;
  do {
    double t = now();
    for (long i = 0; i < turns; i++) work(what, n, a, b);
    t = now() - t;
    if (t < 2e-4)
      turns *= 2; /* too short for the clock */
    else if (done * turns / t > best)
      best = done * turns / t;
  } while (now() - begin < seconds);
  if (b != a) munmap(b, n * 4 + 4096);
  munmap(a, n * 4 + 4096);
  return best;
}
