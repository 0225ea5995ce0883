// Products of a few rows with a matrix that is laid out once and used at every step.
#pragma once

#include <algorithm>

#include "buffers.h"
#include "vectors.h"

namespace rnn {

constexpr int64_t kVectors = 4;                        // columns of a panel, in vectors

constexpr int64_t tile_rows(int64_t vectors) { return std::min<int64_t>(12, RNN_ACCUMULATORS / vectors); }

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
template <class T>
int64_t padded(int64_t n) {
  return ceil_div(n, Of<T>::lanes) * Of<T>::lanes;
}

// One tile, C[R, NV vectors] = start + A[R, K] @ panel[K, NV vectors], held in registers. `start` are rows `step` apart:
// C itself, one row of biases (step 0), or null for zeros.
template <class T, int R, int NV>
void tile(int64_t K, const T* a, int64_t lda, const T* panel, T* c, int64_t ldc, const T* start, int64_t step,
          const T* ahead) {
  constexpr int64_t W = Of<T>::lanes;
  Vec<T> sum[R][NV];
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < NV; v++) sum[r][v] = start ? load(start + r * step + v * W) : Vec<T>{};
  for (int64_t k = 0; k < K; k++) {
    __builtin_prefetch(ahead + k * (64 / sizeof(T)), 0, 2);
    Vec<T> row[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; v++) row[v] = load(panel + (k * NV + v) * W);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
      Vec<T> x = fill<T>(a[r * lda + k]);
#pragma GCC unroll 4
      for (int v = 0; v < NV; v++) sum[r][v] += x * row[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < NV; v++) store(c + r * ldc + v * W, sum[r][v]);
}

template <class T>
using Tile = void (*)(int64_t, const T*, int64_t, const T*, T*, int64_t, const T*, int64_t, const T*);

template <class T, int NV, int R = 1>
Tile<T> pick_rows(int64_t rows) {
  if constexpr (R < tile_rows(NV)) {
    return rows == R ? tile<T, R, NV> : pick_rows<T, NV, R + 1>(rows);
  } else {
    return tile<T, R, NV>;
  }
}
template <class T>
Tile<T> pick(int64_t rows, int64_t vectors) {
  switch (vectors) {
    case 1: return pick_rows<T, 1>(rows);
    case 2: return pick_rows<T, 2>(rows);
    case 3: return pick_rows<T, 3>(rows);
    default: return pick_rows<T, 4>(rows);
  }
}

// A matrix [K, N] as panels of up to four vectors of columns, each contiguous in memory; columns past N are zero.
template <class T>
struct Packed {
  int64_t K = 0, blocks = 0, panels = 0;  // blocks: vectors of columns
  Buffer<T> data;

  Packed() = default;
  // vector(i) is where column i lies, contiguous, or row i where `by_rows`; null for zeros.
  template <class F>
  Packed(int64_t K, int64_t N, bool by_rows, F vector)
      : K(K), blocks(ceil_div(N, Of<T>::lanes)), panels(ceil_div(blocks, kVectors)) {
    constexpr int64_t W = Of<T>::lanes;
    data.resize(K * blocks * W);
    for (int64_t p = 0; p < panels; p++) {
      int64_t from = first(p) * W, width = first(p + 1) * W - from, there = std::min(width, N - from);
      T* panel = data.data() + from * K;
      if (by_rows) {
        for (int64_t k = 0; k < K; k++) {
          const T* row = vector(k);
          int64_t n = row ? there : 0;
          if (row) std::copy_n(row + from, n, panel + k * width);
          std::fill(panel + k * width + n, panel + (k + 1) * width, T(0));
        }
        continue;
      }
      for (int64_t n = 0; n < there; n += W) {
        const T* columns[W];
        for (int64_t i = 0; i < W; i++) columns[i] = n + i < there ? vector(from + n + i) : nullptr;
        for (int64_t k = 0; k < K; k += W) square(k, columns, panel + k * width + n, width);
      }
    }
  }
  int64_t first(int64_t p) const { return blocks * p / panels; }  // the vector with which panel p starts

 private:
  // W columns from their number k on, as rows of a panel.
  void square(int64_t k, const T* const* columns, T* to, int64_t width) {
    constexpr int64_t W = Of<T>::lanes;
    int64_t count = std::min(W, K - k);
    Vec<T> rows[W];
    for (int64_t i = 0; i < W; i++) {
      rows[i] = Vec<T>{};
      if (columns[i] && count == W) rows[i] = load(columns[i] + k);
      if (columns[i] && count < W) std::memcpy(&rows[i], columns[i] + k, count * sizeof(T));
    }
    transpose<T>(rows);
    for (int64_t i = 0; i < count; i++) store(to + i * width, rows[i]);
  }
};

// Columns of panel p of C[M, N] = start + A[M, K] @ B; up to the next whole vector are written.
template <class T>
void panel_product(int64_t p, int64_t M, const T* a, int64_t lda, const Packed<T>& b, T* c, int64_t ldc,
                   const T* start, int64_t step) {
  int64_t from = b.first(p) * Of<T>::lanes, vectors = b.first(p + 1) - b.first(p);
  int64_t tiles = ceil_div(M, tile_rows(vectors));
  const T* next = b.data.data() + (p + 1 < b.panels ? b.first(p + 1) * Of<T>::lanes * b.K : 0);
  for (int64_t i = 0; i < tiles; i++) {
    int64_t m = M * i / tiles, rows = M * (i + 1) / tiles - m;
    pick<T>(rows, vectors)(b.K, a + m * lda, lda, b.data.data() + from * b.K, c + m * ldc + from, ldc,
                           start ? start + m * step + from : nullptr, step, next + i * b.K * (64 / sizeof(T)));
  }
}

template <class T>
void product(int64_t M, const T* a, int64_t lda, const Packed<T>& b, T* c, int64_t ldc, const T* start = nullptr,
             int64_t step = 0) {
  for (int64_t p = 0; p < b.panels; p++) panel_product(p, M, a, lda, b, c, ldc, start, step);
}

}  // namespace rnn
