/* Devito generated code for Operator `kernel` */

#define _POSIX_C_SOURCE 200809L
#define START(S) struct timeval start_ ## S , end_ ## S ; gettimeofday(&start_ ## S , NULL);
#define STOP(S,T) gettimeofday(&end_ ## S, NULL); T->S += (double)(end_ ## S .tv_sec-start_ ## S.tv_sec)+(double)(end_ ## S .tv_usec-start_ ## S .tv_usec)/1000000;

#include "stdlib.h"
#include "math.h"
#include "sys/time.h"
#include "xmmintrin.h"
#include "pmmintrin.h"

struct dataobj
{
  void *restrict data;
  int * size;
  unsigned long nbytes;
  unsigned long * npsize;
  unsigned long * dsize;
  int * hsize;
  int * hofs;
  int * oofs;
  void * dmap;
} ;

struct profiler
{
  double section0;
  double section1;
  double section2;
} ;


int kernel(struct dataobj *restrict gamma_x_vec, struct dataobj *restrict gamma_z_vec, struct dataobj *restrict m_vec, struct dataobj *restrict receiver_first_x_vec, struct dataobj *restrict receiver_first_z_vec, struct dataobj *restrict receiver_samples_vec, struct dataobj *restrict receiver_weight_x_vec, struct dataobj *restrict receiver_weight_z_vec, struct dataobj *restrict source_first_x_vec, struct dataobj *restrict source_first_z_vec, struct dataobj *restrict source_samples_vec, struct dataobj *restrict source_weight_x_vec, struct dataobj *restrict source_weight_z_vec, struct dataobj *restrict u_pair_vec, const float dt, const float h_x, const float h_z, const int receiver_p_M, const int receiver_p_m, const int receiver_tap_x_M, const int receiver_tap_x_m, const int receiver_tap_z_M, const int receiver_tap_z_m, const int source_p_M, const int source_p_m, const int source_tap_x_M, const int source_tap_x_m, const int source_tap_z_M, const int source_tap_z_m, const int time_M, const int time_m, const int x_M, const int x_m, const int z_M, const int z_m, struct profiler * timers)
{
  float *restrict gamma_x __attribute__ ((aligned (64))) = (float (*)) gamma_x_vec->data;
  float *restrict gamma_z __attribute__ ((aligned (64))) = (float (*)) gamma_z_vec->data;
  float (*restrict m)[m_vec->size[1]] __attribute__ ((aligned (64))) = (float (*)[m_vec->size[1]]) m_vec->data;
  int *restrict receiver_first_x __attribute__ ((aligned (64))) = (int (*)) receiver_first_x_vec->data;
  int *restrict receiver_first_z __attribute__ ((aligned (64))) = (int (*)) receiver_first_z_vec->data;
  float (*restrict receiver_samples)[receiver_samples_vec->size[1]] __attribute__ ((aligned (64))) = (float (*)[receiver_samples_vec->size[1]]) receiver_samples_vec->data;
  float (*restrict receiver_weight_x)[receiver_weight_x_vec->size[1]] __attribute__ ((aligned (64))) = (float (*)[receiver_weight_x_vec->size[1]]) receiver_weight_x_vec->data;
  float (*restrict receiver_weight_z)[receiver_weight_z_vec->size[1]] __attribute__ ((aligned (64))) = (float (*)[receiver_weight_z_vec->size[1]]) receiver_weight_z_vec->data;
  int *restrict source_first_x __attribute__ ((aligned (64))) = (int (*)) source_first_x_vec->data;
  int *restrict source_first_z __attribute__ ((aligned (64))) = (int (*)) source_first_z_vec->data;
  float (*restrict source_samples)[source_samples_vec->size[1]] __attribute__ ((aligned (64))) = (float (*)[source_samples_vec->size[1]]) source_samples_vec->data;
  float (*restrict source_weight_x)[source_weight_x_vec->size[1]] __attribute__ ((aligned (64))) = (float (*)[source_weight_x_vec->size[1]]) source_weight_x_vec->data;
  float (*restrict source_weight_z)[source_weight_z_vec->size[1]] __attribute__ ((aligned (64))) = (float (*)[source_weight_z_vec->size[1]]) source_weight_z_vec->data;
  float (*restrict u_pair)[u_pair_vec->size[1]][u_pair_vec->size[2]] __attribute__ ((aligned (64))) = (float (*)[u_pair_vec->size[1]][u_pair_vec->size[2]]) u_pair_vec->data;

  /* Flush denormal numbers to zero in hardware */
  _MM_SET_DENORMALS_ZERO_MODE(_MM_DENORMALS_ZERO_ON);
  _MM_SET_FLUSH_ZERO_MODE(_MM_FLUSH_ZERO_ON);

  const float r6 = 1.0F/dt;
  const float r7 = 1.0F/(h_x*h_x);
  const float r8 = 1.0F/(h_z*h_z);

  for (int time = time_m, t0 = (time)%(2), t1 = (time + 1)%(2); time <= time_M; time += 1, t0 = (time)%(2), t1 = (time + 1)%(2))
  {
    START(section0)
    for (int x = x_m; x <= x_M; x += 1)
    {
      #pragma omp simd aligned(gamma_x,gamma_z,m,u_pair:32)
      for (int z = z_m; z <= z_M; z += 1)
      {
        float r9 = gamma_x[x + 8] + gamma_z[z + 8];
        float r10 = -2.84722222222222222220F*u_pair[t0][x + 8][z + 8];
        u_pair[t1][x + 8][z + 8] = 2*u_pair[t0][x + 8][z + 8] - u_pair[t1][x + 8][z + 8] + (-r9*r6*(u_pair[t0][x + 8][z + 8] - u_pair[t1][x + 8][z + 8])*m[x + 8][z + 8] + r7*(r10 + (-1.7857142857142857143e-3F)*(u_pair[t0][x + 4][z + 8] + u_pair[t0][x + 12][z + 8]) + 2.5396825396825396825e-2F*(u_pair[t0][x + 5][z + 8] + u_pair[t0][x + 11][z + 8]) + (-2.0e-1F)*(u_pair[t0][x + 6][z + 8] + u_pair[t0][x + 10][z + 8]) + 1.60F*(u_pair[t0][x + 7][z + 8] + u_pair[t0][x + 9][z + 8])) + r8*(r10 + (-1.7857142857142857143e-3F)*(u_pair[t0][x + 8][z + 4] + u_pair[t0][x + 8][z + 12]) + 2.5396825396825396825e-2F*(u_pair[t0][x + 8][z + 5] + u_pair[t0][x + 8][z + 11]) + (-2.0e-1F)*(u_pair[t0][x + 8][z + 6] + u_pair[t0][x + 8][z + 10]) + 1.60F*(u_pair[t0][x + 8][z + 7] + u_pair[t0][x + 8][z + 9])))/(((1.0F/2.0F)*r9*r6 + 1.0F/(dt*dt))*m[x + 8][z + 8]);
      }
    }
    STOP(section0,timers)

    START(section1)
    for (int source_p = source_p_m; source_p <= source_p_M; source_p += 1)
    {
      for (int source_tap_x = source_tap_x_m; source_tap_x <= source_tap_x_M; source_tap_x += 1)
      {
        for (int source_tap_z = source_tap_z_m; source_tap_z <= source_tap_z_M; source_tap_z += 1)
        {
          int r0 = source_first_x[source_p];
          int r1 = source_first_z[source_p];
          float r4 = source_samples[time][source_p]*source_weight_x[source_p][source_tap_x]*source_weight_z[source_p][source_tap_z]/((1.0F/(dt*dt) + (1.0F/2.0F)*(gamma_x[source_tap_x + r0 + 8] + gamma_z[source_tap_z + r1 + 8])/dt)*m[source_tap_x + r0 + 8][source_tap_z + r1 + 8]);
          u_pair[t1][source_tap_x + r0 + 8][source_tap_z + r1 + 8] += r4;
        }
      }
    }
    STOP(section1,timers)

    START(section2)
    for (int receiver_p = receiver_p_m; receiver_p <= receiver_p_M; receiver_p += 1)
    {
      for (int receiver_tap_x = receiver_tap_x_m; receiver_tap_x <= receiver_tap_x_M; receiver_tap_x += 1)
      {
        for (int receiver_tap_z = receiver_tap_z_m; receiver_tap_z <= receiver_tap_z_M; receiver_tap_z += 1)
        {
          int r2 = receiver_first_x[receiver_p];
          int r3 = receiver_first_z[receiver_p];
          float r5 = receiver_weight_x[receiver_p][receiver_tap_x]*receiver_weight_z[receiver_p][receiver_tap_z]*u_pair[t1][receiver_tap_x + r2 + 8][receiver_tap_z + r3 + 8];
          receiver_samples[time][receiver_p] += r5;
        }
      }
    }
    STOP(section2,timers)
  }

  return 0;
}
