// Multilayer perceptrons and their gradients on fp32 tensors, as in mlp.py.
//
// Matrices lie row by row. Their products are those of the BLAS library that torch has.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

// Compiled once for each generation of vector instructions; the CPU's own is chosen when loaded.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EVERY_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EVERY_CPU
#endif

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
  const auto other_order = [](const Matrix& matrix) { return matrix.transposed ? "N" : "T"; };
  if (n > 1 && 4 * n <= m) {  // MKL is up to four times slower where the result has short rows
    std::vector<float> transpose(static_cast<size_t>(m) * n);
    sgemm(other_order(left), other_order(right), &m, &n, &k, &one, left.data, &left.columns,
          right.data, &right.columns, &zero, transpose.data(), &m);
    for (int row = 0; row < m; ++row)
      for (int column = 0; column < n; ++column)
        result[row * n + column] = transpose[column * m + row];
    return;
  }
  // For BLAS, which goes by columns, all matrices are their transposes.
  sgemm(order(right), order(left), &n, &m, &k, &one, right.data, &right.columns, left.data,
        &left.columns, &zero, result, &n);
}

// Within 4e-7 of tanh, relatively; see kernel.cpp.
inline float tanh_(float x) {
  constexpr float LIMIT = 7.90531110763549805f;
  x = x < -LIMIT ? -LIMIT : x;
  x = x > LIMIT ? LIMIT : x;
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

FOR_EVERY_CPU void activate(const Layer& layer, int64_t rows) {
  const float* bias = layer.bias;
  for (int64_t row = 0; row < rows; ++row) {
    float* __restrict values = layer.values + row * layer.outputs;
    for (int64_t i = 0; i < layer.outputs; ++i) values[i] += bias[i];
    if (layer.activation == RELU)
      for (int64_t i = 0; i < layer.outputs; ++i) values[i] = values[i] < 0 ? 0 : values[i];
    if (layer.activation == TANH)
      for (int64_t i = 0; i < layer.outputs; ++i) values[i] = tanh_(values[i]);
  }
}

// From the derivatives by a layer's values after the activation to those by the values before it,
// and to their sums, the bias's gradient.
FOR_EVERY_CPU void differentiate_activation(const Layer& layer, int64_t rows,
                                            const float* gradient) {
  float* __restrict sums = layer.bias_gradient;
  std::fill_n(sums, layer.outputs, 0.0f);
  for (int64_t row = 0; row < rows; ++row) {
    const float* by_values = gradient + row * layer.outputs;  // may be where derivatives go
    const float* __restrict values = layer.values + row * layer.outputs;
    float* derivatives = layer.derivatives + row * layer.outputs;
    for (int64_t i = 0; i < layer.outputs; ++i) {
      float derivative = by_values[i];
      if (layer.activation == RELU) derivative = values[i] <= 0 ? 0 : derivative;
      if (layer.activation == TANH) derivative *= 1 - values[i] * values[i];
      derivatives[i] = derivative;
      sums[i] += derivative;
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
// unless `of_inputs` is null, those by the weights if `of_parameters`; those by the biases always.
extern "C" void backward(const Layer* layers, int64_t count, int64_t rows, const float* inputs,
                         const float* gradient, bool of_parameters, float* of_inputs) {
  for (int64_t index = count - 1; index >= 0; --index) {
    const Layer& layer = layers[index];
    const int in = layer.inputs, out = layer.outputs;
    differentiate_activation(layer, rows, gradient);
    const Matrix derivatives{layer.derivatives, out, false};
    if (of_parameters) {
      const float* layer_inputs = index > 0 ? layers[index - 1].values : inputs;
      multiply(out, in, rows, {layer.derivatives, out, true}, {layer_inputs, in, false},
               layer.weight_gradient);
    }
    float* by_inputs = index > 0 ? layers[index - 1].derivatives : of_inputs;
    if (by_inputs != nullptr)
      multiply(rows, in, out, derivatives, {layer.weight, in, false}, by_inputs);
    gradient = by_inputs;
  }
}
