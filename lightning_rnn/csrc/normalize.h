// Layer normalization of slots of a row, and of the memory (Ba, Kiros, Hinton 2016, arXiv 1607.06450).
#pragma once

#include "vectors.h"

namespace rnn {

template <class T>
RNN_INLINE T total(Vec<T> v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return _mm512_reduce_add_ps((__m512)v);
#endif
  T sum = 0;
  for (int64_t i = 0; i < Of<T>::lanes; i++) sum += v[i];
  return sum;
}
template <class T>
RNN_INLINE Vec<T> real_lanes(Vec<T> v, int64_t there) {  // zero in lanes past `there`
  for (int64_t i = 0; i < Of<T>::lanes; i++) v[i] = i < there ? v[i] : T(0);
  return v;
}

// `count` slots of H numbers each, every one padded to Hp; all of them one group. hat: padding is zero.
template <class T>
T normalize(const T* x, T* hat, int64_t count, int64_t H, int64_t Hp, T eps) {
  constexpr int64_t W = Of<T>::lanes;
  T n = T(count * H);
  Vec<T> sum{}, square{};
  auto every = [&](auto f) {
    for (int64_t s = 0; s < count; s++)
      for (int64_t j = 0; j < H; j += W) f(s * Hp + j, H - j);
  };
  every([&](int64_t j, int64_t there) { sum += there < W ? real_lanes<T>(load(x + j), there) : load(x + j); });
  T mean = total<T>(sum) / n;
  every([&](int64_t j, int64_t there) {
    Vec<T> d = load(x + j) - mean;
    if (there < W) d = real_lanes<T>(d, there);
    square += d * d;
    store(hat + j, d);
  });
  T scale = T(1) / std::sqrt(total<T>(square) / n + eps);
  every([&](int64_t j, int64_t) { store(hat + j, load(hat + j) * scale); });
  return scale;
}

// Gradient of what was normalized, from that of hat, in place: (d - mean(d) - hat mean(d hat)) scale.
template <class T>
void normalize_backward(T* d, const T* hat, T scale, int64_t count, int64_t H, int64_t Hp) {
  constexpr int64_t W = Of<T>::lanes;
  T n = T(count * H);
  Vec<T> sum{}, along{};
  auto every = [&](auto f) {
    for (int64_t s = 0; s < count; s++)
      for (int64_t j = 0; j < H; j += W) f(s * Hp + j, H - j);
  };
  every([&](int64_t j, int64_t there) {
    Vec<T> v = there < W ? real_lanes<T>(load(d + j), there) : load(d + j);
    sum += v;
    along += v * load(hat + j);
  });
  T mean = total<T>(sum) / n, share = total<T>(along) / n;
  every([&](int64_t j, int64_t there) {
    Vec<T> v = (load(d + j) - mean - load(hat + j) * share) * scale;
    store(d + j, there < W ? real_lanes<T>(v, there) : v);
  });
}

}  // namespace rnn
