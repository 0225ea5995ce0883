// Activations by number, with their slopes. What a step keeps of one is its output or, where the slope cannot be told
// from the output, its input.
#pragma once

#include "vectors.h"

namespace rnn {

enum Activation : int64_t {
  kTanh, kSigmoid, kRelu, kLinear, kHardSigmoid, kHardSigmoidKeras2, kElu, kSelu, kRelu6, kLeakyRelu, kSoftplus,
  kSoftsign, kExponential, kHardTanh, kGelu, kSilu, kMish,
};

constexpr bool kept_input(int64_t kind) { return kind >= kGelu; }
constexpr double kSeluScale = 1.0507009873554805, kSeluAlpha = 1.6732632423543772;

template <class T>
RNN_INLINE Vec<T> absolute(Vec<T> x) {
  return x < 0 ? -x : x;
}
template <class T>
Vec<T> softplus(Vec<T> x) {  // linear past 20, as torch
  return each<T>(x, [](T v) { return v > 20 ? v : std::log1p(std::exp(v)); });
}
template <class T>
Vec<T> normal_share(Vec<T> x) {  // chance that a standard normal number is below x
  return each<T>(x, [](T v) { return T(0.5) * (T(1) + std::erf(v * T(M_SQRT1_2))); });
}

template <class T>
__attribute__((noinline)) Vec<T> any_activation(int64_t kind, Vec<T> x) {
  const Vec<T> zero{};
  switch (kind) {
    case kTanh: return tanh<T>(x);
    case kSigmoid: return sigmoid<T>(x);
    case kRelu: return x < 0 ? zero : x;
    case kHardSigmoid: return clamp<T>(x + T(3), 0, 6) / T(6);
    case kHardSigmoidKeras2: return clamp<T>(x * T(0.2) + T(0.5), 0, 1);
    case kElu: return x > 0 ? x : each<T>(x, [](T v) { return std::expm1(std::min(v, T(0))); });
    case kSelu:
      return T(kSeluScale) *
             (x > 0 ? x : T(kSeluAlpha) * each<T>(x, [](T v) { return std::expm1(std::min(v, T(0))); }));
    case kRelu6: return clamp<T>(x, 0, 6);
    case kLeakyRelu: return x > 0 ? x : x * T(0.2);
    case kSoftplus: return softplus<T>(x);
    case kSoftsign: return x / (T(1) + absolute<T>(x));
    case kExponential: return each<T>(x, [](T v) { return std::exp(v); });
    case kHardTanh: return clamp<T>(x, -1, 1);
    case kGelu: return x * normal_share<T>(x);
    case kSilu: return x * sigmoid<T>(x);
    case kMish: return x * tanh<T>(softplus<T>(x));
    default: return x;
  }
}

// Slope from what was kept.
template <class T>
__attribute__((noinline)) Vec<T> any_slope(int64_t kind, Vec<T> y) {
  const Vec<T> zero{}, one = fill<T>(1);
  switch (kind) {
    case kTanh: return one - y * y;
    case kSigmoid: return y * (one - y);
    case kRelu: return y > 0 ? one : zero;
    case kHardSigmoid: return (y > 0) & (y < 1) ? fill<T>(T(1) / 6) : zero;
    case kHardSigmoidKeras2: return (y > 0) & (y < 1) ? fill<T>(T(0.2)) : zero;
    case kElu: return y > 0 ? one : y + T(1);
    case kSelu: return y > 0 ? fill<T>(T(kSeluScale)) : y + T(kSeluScale * kSeluAlpha);
    case kRelu6: return (y > 0) & (y < 6) ? one : zero;
    case kLeakyRelu: return y > 0 ? one : fill<T>(T(0.2));
    case kSoftplus: return each<T>(y, [](T v) { return -std::expm1(-v); });
    case kSoftsign: {
      Vec<T> rest = one - absolute<T>(y);
      return rest * rest;
    }
    case kExponential: return y;
    case kHardTanh: return (y > -1) & (y < 1) ? one : zero;
    case kGelu:
      return normal_share<T>(y) + y * T(0.3989422804014327) * each<T>(y, [](T v) { return std::exp(-v * v / 2); });
    case kSilu: {
      Vec<T> s = sigmoid<T>(y);
      return s * (one + y * (one - s));
    }
    case kMish: {
      Vec<T> t = tanh<T>(softplus<T>(y));
      return t + y * (one - t * t) * sigmoid<T>(y);
    }
    default: return one;
  }
}

// What is known while compiling: the textbook's equation; its activations alone; nothing.
enum Level { kTextbook, kStandard, kAny };

template <class T, Level level>
RNN_INLINE Vec<T> activate(int64_t kind, int64_t standard, Vec<T> x) {
  if constexpr (level == kAny) return any_activation<T>(kind, x);
  return standard == kTanh ? tanh<T>(x) : sigmoid<T>(x);
}
template <class T, Level level>
RNN_INLINE Vec<T> slope(int64_t kind, int64_t standard, Vec<T> kept) {
  if constexpr (level == kAny) return any_slope<T>(kind, kept);
  return standard == kTanh ? T(1) - kept * kept : kept * (T(1) - kept);
}
template <class T, Level level>
RNN_INLINE Vec<T> kept(int64_t kind, Vec<T> input, Vec<T> output) {
  if constexpr (level != kAny) return output;
  return kept_input(kind) ? input : output;
}
template <class T, Level level>
RNN_INLINE Vec<T> output_of(int64_t kind, Vec<T> kept) {
  if constexpr (level == kAny)
    if (kept_input(kind)) return any_activation<T>(kind, kept);
  return kept;
}

}  // namespace rnn
