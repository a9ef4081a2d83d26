// Multilayer perceptrons, their gradients, PPO's loss and Adam's step on fp32 tensors, as in mlp.py,
// fast.py and torch.optim.
//
// Matrices lie row by row. Their products are those of the BLAS library that torch has.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "../../alphagrad/vectors.h"

using Sgemm = void(const char* transpose_a, const char* transpose_b, const int* m, const int* n,
                   const int* k, const float* alpha, const float* a, const int* a_stride,
                   const float* b, const int* b_stride, const float* beta, float* c,
                   const int* c_stride);

enum Activation : int64_t { NONE, RELU, TANH };

struct Layer {
  int64_t inputs, outputs, activation;
  const float *weight, *bias;              // (outputs, inputs), (outputs)
  float *weight_gradient, *bias_gradient;  // likewise
  float* values;                           // after the activation, (rows, outputs)
  float* derivatives;                      // the loss's by the values before it, likewise
};

namespace {

Sgemm* sgemm;

struct Matrix {
  const float* data;
  int columns;
  bool transposed;  // the matrix that is meant is the transpose of what lies there
};

// result (m, n) = left (m, k) times right (k, n)
void multiply(int m, int n, int k, Matrix left, Matrix right, float* result) {
  const float one = 1, zero = 0;
  const auto order = [](const Matrix& matrix) { return matrix.transposed ? "T" : "N"; };
  // For BLAS, which goes by columns, all matrices are their transposes.
  sgemm(order(right), order(left), &n, &m, &k, &one, right.data, &right.columns, left.data,
        &left.columns, &zero, result, &n);
}

FOR_EVERY_CPU void activate(const Layer& layer, int64_t rows) {
  const float* bias = layer.bias;
  for (int64_t row = 0; row < rows; ++row) {
    float* __restrict values = layer.values + row * layer.outputs;
    for (int64_t i = 0; i < layer.outputs; ++i) values[i] += bias[i];
    if (layer.activation == RELU)
      for (int64_t i = 0; i < layer.outputs; ++i) values[i] = values[i] < 0 ? 0 : values[i];
    if (layer.activation == TANH)
      for (int64_t i = 0; i < layer.outputs; ++i) values[i] = bounded(values[i]);
  }
}

// From the derivatives by a layer's values after the activation to those by the values before it,
// and to their sums, the bias's gradient, unless `sums` is null.
FOR_EVERY_CPU void differentiate_activation(const Layer& layer, int64_t rows, const float* gradient,
                                            float* __restrict sums) {
  if (sums != nullptr) std::fill_n(sums, layer.outputs, 0.0f);
  for (int64_t row = 0; row < rows; ++row) {
    const float* by_values = gradient + row * layer.outputs;  // may be where derivatives go
    const float* __restrict values = layer.values + row * layer.outputs;
    float* derivatives = layer.derivatives + row * layer.outputs;
    for (int64_t i = 0; i < layer.outputs; ++i) {
      float derivative = by_values[i];
      if (layer.activation == RELU) derivative = values[i] <= 0 ? 0 : derivative;
      if (layer.activation == TANH) derivative *= 1 - values[i] * values[i];
      derivatives[i] = derivative;
      if (sums != nullptr) sums[i] += derivative;
    }
  }
}

}  // namespace

extern "C" void use_sgemm(Sgemm* function) { sgemm = function; }

extern "C" void forward(const Layer* layers, int64_t count, int64_t rows, const float* inputs) {
  for (const Layer* layer = layers; layer < layers + count; ++layer) {
    const int in = layer->inputs, out = layer->outputs;
    multiply(rows, out, in, {inputs, in, false}, {layer->weight, in, true}, layer->values);
    activate(*layer, rows);
    inputs = layer->values;
  }
}

// `gradient` holds the loss's derivatives by the last outputs. Those by the inputs are written
// unless `of_inputs` is null, those by the parameters if `of_parameters`.
extern "C" void backward(const Layer* layers, int64_t count, int64_t rows, const float* inputs,
                         const float* gradient, bool of_parameters, float* of_inputs) {
  for (int64_t index = count - 1; index >= 0; --index) {
    const Layer& layer = layers[index];
    const int in = layer.inputs, out = layer.outputs;
    differentiate_activation(layer, rows, gradient, of_parameters ? layer.bias_gradient : nullptr);
    if (of_parameters) {
      const float* layer_inputs = index > 0 ? layers[index - 1].values : inputs;
      multiply(out, in, rows, {layer.derivatives, out, true}, {layer_inputs, in, false},
               layer.weight_gradient);
    }
    float* by_inputs = index > 0 ? layers[index - 1].derivatives : of_inputs;
    if (by_inputs != nullptr)
      multiply(rows, in, out, {layer.derivatives, out, false}, {layer.weight, in, false}, by_inputs);
    gradient = by_inputs;
  }
}

// PPO's loss with a diagonal Gaussian: policy + vf_coef * value - ent_coef * entropy.
struct Minibatch {
  int64_t rows, dimensions;                             // of the actions
  const float *means, *values, *log_std;                // the networks' outputs and parameter
  const float *actions, *old_values, *old_log_probability, *advantages, *returns;
  float *by_means, *by_values, *by_log_std;             // the loss's derivatives
  float* statistics;  // policy, value and entropy loss, approximate KL divergence, clipped share
};

extern "C" void ppo_gradients(const Minibatch* minibatch, bool normalize, double clip,
                              double clip_value, double vf_coef, double ent_coef) {
  const Minibatch& b = *minibatch;
  double mean = 0, variance = 0;
  for (int64_t row = 0; row < b.rows; ++row) mean += b.advantages[row] / b.rows;
  for (int64_t row = 0; row < b.rows; ++row)
    variance += std::pow(b.advantages[row] - mean, 2) / (b.rows - 1);
  normalize = normalize && b.rows > 1;

  double entropy = 0;
  std::vector<float> inverse_std(b.dimensions), deviations(b.dimensions);
  for (int64_t i = 0; i < b.dimensions; ++i) {
    entropy += b.log_std[i] + 0.5 * std::log(2 * M_PI * M_E);
    inverse_std[i] = std::exp(-b.log_std[i]);
    b.by_log_std[i] = -ent_coef;
  }

  double policy_loss = 0, value_loss = 0, divergence = 0, clipped_rows = 0;
  for (int64_t row = 0; row < b.rows; ++row) {
    double log_probability = 0.5 * b.dimensions - entropy;
    for (int64_t i = 0; i < b.dimensions; ++i) {
      const int64_t at = row * b.dimensions + i;
      deviations[i] = (b.actions[at] - b.means[at]) * inverse_std[i];
      log_probability -= 0.5 * deviations[i] * deviations[i];
    }
    const double advantage = normalize
        ? (b.advantages[row] - mean) / (std::sqrt(variance) + 1e-8) : b.advantages[row];

    // Outside the clip range the lower one counts, and has a derivative only if it is the first.
    const double log_ratio = log_probability - b.old_log_probability[row];
    const double ratio = std::exp(log_ratio);
    const double surrogate = advantage * ratio;
    const double clipped = advantage * std::clamp(ratio, 1 - clip, 1 + clip);
    const double by_log_probability = surrogate > clipped ? 0 : -surrogate / b.rows;
    policy_loss -= surrogate > clipped ? clipped : surrogate;  // NaN stays
    divergence += ratio - 1 - log_ratio;
    clipped_rows += std::abs(ratio - 1) > clip;
    for (int64_t i = 0; i < b.dimensions; ++i) {
      const float by_deviation = by_log_probability * deviations[i];
      b.by_means[row * b.dimensions + i] = by_deviation * inverse_std[i];
      b.by_log_std[i] += by_deviation * deviations[i] - by_log_probability;
    }

    // The same for the value, where the greater of two errors counts.
    const double value = b.values[row], old_value = b.old_values[row];
    const double error = value - b.returns[row];
    const double clipped_error =
        std::clamp(value, old_value - clip_value, old_value + clip_value) - b.returns[row];
    const bool is_clipped = clipped_error * clipped_error > error * error;
    value_loss += 0.5 * std::pow(is_clipped ? clipped_error : error, 2);
    b.by_values[row] = is_clipped ? 0 : error * vf_coef / b.rows;
  }
  const double sums[] = {policy_loss, value_loss, -entropy * b.rows, divergence, clipped_rows};
  for (int i = 0; i < 5; ++i) b.statistics[i] = sums[i] / b.rows;
}

struct Moments {  // Adam's of a parameter
  int64_t size;
  float *parameter, *gradient, *mean, *mean_square, *steps;
};

namespace {

FOR_EVERY_CPU void scale(float* elements, int64_t size, float factor) {
  for (int64_t i = 0; i < size; ++i) elements[i] *= factor;
}

FOR_EVERY_CPU void update(const Moments& tensor, float step_size, float by_mean, float beta2,
                          float by_square, float root_correction, float eps) {
  float* __restrict parameter = tensor.parameter;
  float* __restrict mean = tensor.mean;
  float* __restrict mean_square = tensor.mean_square;
  const float* __restrict gradient = tensor.gradient;
  for (int64_t i = 0; i < tensor.size; ++i) {
    const float element = gradient[i];
    mean[i] += by_mean * (element - mean[i]);
    mean_square[i] = beta2 * mean_square[i] + by_square * element * element;
    const float denominator = std::sqrt(mean_square[i]) / root_correction + eps;
    parameter[i] -= step_size * mean[i] / denominator;
  }
}

}  // namespace

// torch.nn.utils.clip_grad_norm_
extern "C" void clip_gradients(const Moments* tensors, int64_t count, double max_norm) {
  double total = 0;
  for (int64_t i = 0; i < count; ++i)
    total += sum_of_squares(tensors[i].gradient, tensors[i].size);
  const double factor = max_norm / (std::sqrt(total) + 1e-6);
  if (factor >= 1) return;  // NaN goes on
  for (int64_t i = 0; i < count; ++i) scale(tensors[i].gradient, tensors[i].size, factor);
}

// The step of torch.optim.Adam.
extern "C" void adam_step(const Moments* tensors, int64_t count, double lr, double beta1,
                          double beta2, double eps) {
  for (int64_t i = 0; i < count; ++i) {
    const double steps = *tensors[i].steps += 1;
    update(tensors[i], lr / (1 - std::pow(beta1, steps)), 1 - beta1, beta2,
           1 - beta2, std::sqrt(1 - std::pow(beta2, steps)), eps);
  }
}
