// AlphaGrad's step on contiguous fp32 tensors, in two passes over memory: the norms, then the rest.
//
// The rule is that of single_tensor in loops.py. Norms are summed in double, where no
// square of a float overflows or vanishes, in an order that does not depend on the number of threads.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

#include "vectors.h"

namespace {

constexpr int64_t PIECE = 1 << 16;  // elements, the share of work that a thread takes at a time
constexpr int64_t ELEMENTS_PER_THREAD = 1 << 18;  // with fewer, another one costs more than it gives

struct Piece {
  int64_t tensor, begin, size;
};

struct Settings {
  float lr, momentum, coupled_weight_decay, kept;
  float of_direction, of_velocity;  // in what the parameter moves by: 0 and 1, but for Nesterov
};

// A gradient's factors: argument = gradient * power * factor, where the power of two, exact, brings
// gradients of extreme norms to where the factor is an ordinary float. For others it is 1.
struct Scale {
  float power, factor;
};

Scale scale(double norm, double alpha, double eps) {
  const float power = norm > 1e30 ? 0x1p-64f : norm < 1e-30 ? 0x1p64f : 1.0f;
  constexpr double LARGEST = std::numeric_limits<float>::max();
  double factor = alpha / (norm + eps) / power;
  factor = std::max(std::min(factor, LARGEST), -LARGEST);  // NaN stays
  if (std::isinf(norm)) factor = std::numeric_limits<double>::quiet_NaN();
  return {power, static_cast<float>(factor)};
}

FOR_EVERY_CPU void update(float* __restrict param, const float* __restrict grad, int64_t size,
                          float factor, Settings settings) {
  for (int64_t i = 0; i < size; ++i) {
    float direction = bounded(grad[i] * factor);
    if (settings.coupled_weight_decay != 0) direction += settings.coupled_weight_decay * param[i];
    param[i] = settings.kept * param[i] - settings.lr * direction;
  }
}

FOR_EVERY_CPU void update_with_momentum(float* __restrict param, const float* __restrict grad,
                                        float* __restrict buffer, float added, int64_t size,
                                        float factor, Settings settings) {
  for (int64_t i = 0; i < size; ++i) {
    float direction = bounded(grad[i] * factor);
    if (settings.coupled_weight_decay != 0) direction += settings.coupled_weight_decay * param[i];
    const float velocity = settings.momentum * buffer[i] + added * direction;
    buffer[i] = velocity;
    const float move = settings.of_direction * direction + settings.of_velocity * velocity;
    param[i] = settings.kept * param[i] - settings.lr * move;
  }
}

// Whether two tensors share memory, as two views of one parameter do: threads would race.
bool overlap(int64_t count, const int64_t* sizes, float* const* params, const float* const* grads,
             float* const* buffers) {
  std::vector<std::pair<const float*, const float*>> ranges;
  for (int64_t tensor = 0; tensor < count; ++tensor) {
    if (sizes[tensor] == 0) continue;
    ranges.emplace_back(params[tensor], params[tensor] + sizes[tensor]);
    ranges.emplace_back(grads[tensor], grads[tensor] + sizes[tensor]);
    if (buffers != nullptr) ranges.emplace_back(buffers[tensor], buffers[tensor] + sizes[tensor]);
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t index = 1; index < ranges.size(); ++index)
    if (ranges[index].first < ranges[index - 1].second) return true;
  return false;
}

// GOMP_parallel of the OpenMP library by which torch computes, whose threads are awake in a training
// and would be in the way of others; null if it is not to be had.
using Parallel = void(void (*function)(void*), void* argument, unsigned threads, unsigned flags);
Parallel* parallel = nullptr;

// Calls a function in so many threads or in fewer, of which this is one.
template <typename Work>
void in_threads(int64_t threads, Work work) {
  if (threads <= 1 || parallel == nullptr) return work();
  parallel([](void* argument) { (*static_cast<Work*>(argument))(); }, &work, threads, 0);
}

}  // namespace

extern "C" void alphagrad_use_threads(Parallel* function) { parallel = function; }

// `tensors` are the gradients of `count` parameters, these themselves and, with a momentum, its
// buffers; `added` is what each buffer takes of the new direction, and null without a momentum.
// `kept` is what the decay leaves of a parameter.
// False, and nothing done, if a tensor with elements has no memory. Not built by MSVC, whose linker
// wants PyInit__kernel; the number in the name changes with the arguments.
extern "C" bool alphagrad_step_3(int64_t count, const int64_t* sizes, float* const* tensors,
                                 const double* added, double lr, double alpha, double eps,
                                 double momentum, double kept, double coupled_weight_decay,
                                 bool nesterov, bool sqrt_scaling, int64_t threads) {
  const float* const* grads = tensors;
  float* const* params = tensors + count;
  float* const* buffers = added == nullptr ? nullptr : tensors + 2 * count;
  std::vector<Piece> pieces;
  int64_t elements = 0;
  for (int64_t tensor = 0; tensor < count; ++tensor) {
    elements += sizes[tensor];
    if (sizes[tensor] > 0 && (params[tensor] == nullptr || grads[tensor] == nullptr ||
                              (buffers != nullptr && buffers[tensor] == nullptr)))
      return false;
    for (int64_t begin = 0; begin < sizes[tensor]; begin += PIECE)
      pieces.push_back({tensor, begin, std::min(PIECE, sizes[tensor] - begin)});
  }
  threads = std::min(threads, elements / ELEMENTS_PER_THREAD);
  if (threads > 1 && overlap(count, sizes, params, grads, buffers)) threads = 1;

  std::vector<double> sums(pieces.size());
  std::vector<Scale> scales(count);
  const auto set_scales = [&] {
    std::vector<double> squared_norms(count);
    for (size_t index = 0; index < pieces.size(); ++index)
      squared_norms[pieces[index].tensor] += sums[index];
    for (int64_t tensor = 0; tensor < count; ++tensor) {
      const double own_alpha = sqrt_scaling ? alpha * std::sqrt(sizes[tensor]) : alpha;
      scales[tensor] = scale(std::sqrt(squared_norms[tensor]), own_alpha, eps);
    }
  };
  const Settings settings{static_cast<float>(lr), static_cast<float>(momentum),
                          static_cast<float>(coupled_weight_decay), static_cast<float>(kept),
                          nesterov ? 1.0f : 0.0f,
                          nesterov ? static_cast<float>(momentum) : 1.0f};
  const auto update_piece = [&](const Piece& piece) {
    const int64_t tensor = piece.tensor;
    float* param = params[tensor] + piece.begin;
    const float* grad = grads[tensor] + piece.begin;
    const auto [power, factor] = scales[tensor];
    std::vector<float> scaled;
    if (power != 1) {
      for (int64_t i = 0; i < piece.size; ++i) scaled.push_back(grad[i] * power);
      grad = scaled.data();
    }
    if (buffers == nullptr) {
      update(param, grad, piece.size, factor, settings);
    } else {
      update_with_momentum(param, grad, buffers[tensor] + piece.begin,
                           static_cast<float>(added[tensor]), piece.size, factor, settings);
    }
  };

  std::atomic<size_t> next_sum{0}, summed{0}, next_update{0};
  std::atomic<bool> scaled{pieces.empty()};
  in_threads(threads, [&] {
    for (size_t index; (index = next_sum++) < pieces.size();) {
      const Piece& piece = pieces[index];
      sums[index] = sum_of_squares(grads[piece.tensor] + piece.begin, piece.size);
      if (++summed < pieces.size()) continue;
      set_scales();
      scaled = true;
    }
    while (!scaled) std::this_thread::yield();
    for (size_t index; (index = next_update++) < pieces.size();) update_piece(pieces[index]);
  });
  return true;
}
