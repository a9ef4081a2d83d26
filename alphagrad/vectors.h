// What kernel.cpp and the benchmark's native.cpp compute in the same way, vector by vector.

#pragma once

#include <cmath>
#include <cstdint>

// Compiled once for each generation of vector instructions; the CPU's own is chosen when loaded.
#if !defined(__x86_64__) || !defined(__GLIBC__) || !defined(__GNUC__) || defined(__clang__)
#define FOR_EVERY_CPU
#elif __GNUC__ >= 12
#define FOR_EVERY_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else  // GCC 11 knows these levels, but not how to choose among them
#define FOR_EVERY_CPU __attribute__((target_clones("avx512f", "fma", "default")))
#endif

namespace {

// Within 4e-7 of tanh, relatively: Eigen's rational approximation (generic_fast_tanh_float). Beyond
// the limit it is 1, as tanh to the last two bits, whatever overflows on the way. NaN stays NaN.
// To choose last is cheaper than to bound x first, which GCC takes four comparisons for.
inline float bounded(float x) {
  constexpr float LIMIT = 7.90531110763549805f;
  const float square = x * x;
  float numerator = -2.76076847742355e-16f;
  numerator = numerator * square + 2.00018790482477e-13f;
  numerator = numerator * square - 8.60467152213735e-11f;
  numerator = numerator * square + 5.12229709037114e-08f;
  numerator = numerator * square + 1.48572235717979e-05f;
  numerator = numerator * square + 6.37261928875436e-04f;
  numerator = numerator * square + 4.89352455891786e-03f;
  float denominator = 1.19825839466702e-06f;
  denominator = denominator * square + 1.18534705686654e-04f;
  denominator = denominator * square + 2.26843463243900e-03f;
  denominator = denominator * square + 4.89352518554385e-03f;
  const float within = x * numerator / denominator;
  return std::fabs(x) > LIMIT ? std::copysign(1.0f, x) : within;
}

FOR_EVERY_CPU double sum_of_squares(const float* elements, int64_t size) {
  constexpr int LANES = 16;  // independent sums, which the compiler may not introduce by itself
  double sums[LANES] = {};
  int64_t i = 0;
  for (; i + LANES <= size; i += LANES) {
    for (int lane = 0; lane < LANES; ++lane) {
      const double element = elements[i + lane];
      sums[lane] += element * element;
    }
  }
  double total = 0;
  for (; i < size; ++i) total += static_cast<double>(elements[i]) * elements[i];
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace
