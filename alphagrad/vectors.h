// What kernel.cpp and the benchmark's native.cpp compute in the same way, vector by vector.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

// Compiled once for each generation of vector instructions; the CPU's own is chosen when loaded.
#if !defined(__x86_64__) || !defined(__GLIBC__) || !defined(__GNUC__) || defined(__clang__)
#define FOR_EVERY_CPU
#elif __GNUC__ >= 12
#define FOR_EVERY_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else  // GCC 11 knows these levels, but not how to choose among them
#define FOR_EVERY_CPU __attribute__((target_clones("avx512f", "fma", "default")))
#endif

namespace {

// Bring x to [-limit, limit]; NaN stays NaN. By the bits, whose order is that of the magnitudes: of
// comparisons of floats, GCC makes masks for AVX-512, at a fifth of a step in the cache.
inline float clamped(float x, float limit) {
  constexpr uint32_t SIGN = 0x80000000, TO_NAN = 0x007fffff;  // added, it makes NaN alone negative
  uint32_t bits, limit_bits;
  std::memcpy(&bits, &x, sizeof x);
  std::memcpy(&limit_bits, &limit, sizeof limit);
  const int32_t magnitude = static_cast<int32_t>((bits & ~SIGN) + TO_NAN);
  const int32_t least = std::min(magnitude, static_cast<int32_t>(limit_bits + TO_NAN));
  bits = (bits & SIGN) | (static_cast<uint32_t>(least) - TO_NAN);
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// Within 4e-7 of tanh, relatively: Eigen's rational approximation (generic_fast_tanh_float). Beyond
// the limit, tanh is 1 to the last two bits. NaN stays NaN.
inline float bounded(float x) {
  x = clamped(x, 7.90531110763549805f);
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
  return x * numerator / denominator;
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
