// Vectors as wide as the machine's registers, and the functions of them that steps need.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__SSE__)
#include <immintrin.h>
#endif
#if defined(__AVX512F__)
#define RNN_BYTES 64
#define RNN_ACCUMULATORS 24  // of 32 registers
#elif defined(__AVX__)
#define RNN_BYTES 32
#define RNN_ACCUMULATORS 12  // of 16
#else
#define RNN_BYTES 16
#define RNN_ACCUMULATORS 24  // of 32, as on ARM
#endif

#define RNN_INLINE inline __attribute__((always_inline))

namespace rnn {

// Lanes of T. Loads and stores need no alignment.
template <class T>
struct Of {
  typedef T Vec __attribute__((vector_size(RNN_BYTES), aligned(alignof(T)), may_alias));
  typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Int;
  typedef Int Ints __attribute__((vector_size(RNN_BYTES), aligned(alignof(T)), may_alias));
  static constexpr int64_t lanes = RNN_BYTES / sizeof(T);
};
template <class T>
using Vec = typename Of<T>::Vec;

template <class T>
RNN_INLINE Vec<T> load(const T* p) {
  return *reinterpret_cast<const Vec<T>*>(p);
}
template <class T>
RNN_INLINE void store(T* p, Vec<T> v) {
  *reinterpret_cast<Vec<T>*>(p) = v;
}
template <class T>
RNN_INLINE Vec<T> fill(T x) {
  return x - Vec<T>{};  // not 0 + x, which is an addition: -0 is not 0
}
template <class T>
RNN_INLINE Vec<T> clamp(Vec<T> x, T low, T high) {  // NaN stays
  x = x < low ? fill<T>(low) : x;
  return x > high ? fill<T>(high) : x;
}

template <class T, class F>
RNN_INLINE Vec<T> each(Vec<T> x, F f) {
  for (int64_t i = 0; i < Of<T>::lanes; i++) x[i] = f(x[i]);
  return x;
}

// Columns of a square of vectors become its rows: halves of growing size are swapped (Eklundh 1972).
template <class T, int64_t Half, bool Second, size_t... J>
RNN_INLINE Vec<T> swapped(Vec<T> a, Vec<T> b, std::index_sequence<J...>) {
  constexpr int64_t W = Of<T>::lanes;
  if constexpr (Second) return __builtin_shufflevector(a, b, (int64_t(J) & Half ? W + int64_t(J) : int64_t(J) + Half)...);
  return __builtin_shufflevector(a, b, (int64_t(J) & Half ? W + int64_t(J) - Half : int64_t(J))...);
}
template <class T, int64_t Half = 1>
RNN_INLINE void transpose(Vec<T>* rows) {
  constexpr int64_t W = Of<T>::lanes;
  if constexpr (Half < W) {
    for (int64_t i = 0; i < W; i++) {
      if (i & Half) continue;
      Vec<T> a = rows[i], b = rows[i + Half];
      rows[i] = swapped<T, Half, false>(a, b, std::make_index_sequence<W>());
      rows[i + Half] = swapped<T, Half, true>(a, b, std::make_index_sequence<W>());
    }
    transpose<T, 2 * Half>(rows);
  }
}

// 1 / x; in float a reciprocal and one step of Newton, which is exact to the last bit or two and a third of a division.
template <class T>
RNN_INLINE Vec<T> inverse(Vec<T> x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    Vec<T> y = (Vec<T>)_mm512_rcp14_ps((__m512)x);
    return y * (T(2) - x * y);
  }
#endif
  return T(1) / x;
}

// e^x. Float: x = n ln 2 + r with |r| <= ln 2 / 2 (Cody and Waite 1980), a polynomial in r (Moshier, Cephes).
template <class T>
RNN_INLINE Vec<T> exp(Vec<T> x) {
  if constexpr (sizeof(T) == 8) {
    return each<T>(x, [](T v) { return std::exp(v); });
  } else {
    x = clamp<T>(x, T(-87), T(88));
    const T magic = 12582912;  // 1.5 * 2^23: adding it rounds to an integer
    Vec<T> n = x * T(1.44269504088896341) + magic;
    auto bits = (typename Of<T>::Ints)n;
    n -= magic;
    Vec<T> r = x - n * T(0.693145751953125) - n * T(1.42860682030941723e-6);
    Vec<T> p = fill<T>(T(1.9875691500e-4));
    p = p * r + T(1.3981999507e-3);
    p = p * r + T(8.3334519073e-3);
    p = p * r + T(4.1665795894e-2);
    p = p * r + T(1.6666665459e-1);
    p = p * r + T(0.5);
    p = p * (r * r) + r + T(1);
    return (Vec<T>)((typename Of<T>::Ints)p + (bits << 23));
  }
}

template <class T>
RNN_INLINE Vec<T> sigmoid(Vec<T> x) {
  return inverse<T>(T(1) + exp<T>(-x));
}

// Float: a rational function of degrees 13 and 6 on [-7.9, 7.9], outside of which tanh is 1 to the last bit.
template <class T>
RNN_INLINE Vec<T> tanh(Vec<T> x) {
  if constexpr (sizeof(T) == 8) {
    return each<T>(x, [](T v) { return std::tanh(v); });
  } else {
    x = clamp<T>(x, T(-7.90531110763549805), T(7.90531110763549805));
    Vec<T> s = x * x;
    Vec<T> p = fill<T>(T(-2.76076847742355e-16));
    p = p * s + T(2.00018790482477e-13);
    p = p * s + T(-8.60467152213735e-11);
    p = p * s + T(5.12229709037114e-08);
    p = p * s + T(1.48572235717979e-05);
    p = p * s + T(6.37261928875436e-04);
    p = p * s + T(4.89352455891786e-03);
    Vec<T> q = fill<T>(T(1.19825839466702e-06));
    q = q * s + T(1.18534705686654e-04);
    q = q * s + T(2.26843463243900e-03);
    q = q * s + T(4.89352518554385e-03);
    return x * p * inverse<T>(q);
  }
}

// Denormal numbers are zero while one of these lives, in its thread: they take a hundred times as long.
struct FlushDenormals {
#if defined(__SSE__)
  unsigned before = _mm_getcsr();
  FlushDenormals() { _mm_setcsr(before | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(before); }
#endif
};

}  // namespace rnn
