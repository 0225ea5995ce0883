// One call: sizes, options, where the tensors lie.
#pragma once

#include <array>

#include "activations.h"
#include "products.h"

namespace rnn {

enum Kind : int64_t { kSimpleRNN, kLSTM, kGRU };
enum Memory : int64_t { kAsItIs, kRead, kStored };     // where an LSTM's memory is normalized
enum Fill : int64_t { kCarry, kRepeat, kZero };        // outputs of masked steps: the state, the last output, zero

// A tensor [B, T, ...], its last dimensions contiguous; null where there is none.
template <class T>
struct Rows {
  T* data = nullptr;
  int64_t row = 0, step = 0;
  T* at(int64_t b, int64_t t) const { return data + b * row + t * step; }
  explicit operator bool() const { return data != nullptr; }
};

// Gates of a step lie side by side, each padded to whole vectors ("slots"). A slot of the input's product and one of the
// state's meet where they are added. GRU has its candidate first and the state's share of it last, as r multiplies that.
struct Slots {
  int64_t count, x_from, x_count, h_from, h_count;
  std::array<int64_t, 4> x_gate, h_gate;  // which gate of torch's order a slot holds
};
inline Slots slots_of(int64_t kind, bool reset_after) {
  if (kind == kSimpleRNN) return {1, 0, 1, 0, 1, {0}, {0}};
  if (kind == kLSTM) return {4, 0, 4, 0, 4, {0, 1, 2, 3}, {0, 1, 2, 3}};
  if (reset_after) return {4, 0, 3, 1, 3, {2, 0, 1, -1}, {-1, 0, 1, 2}};
  return {3, 0, 3, 0, 3, {2, 0, 1}, {2, 0, 1}};
}

template <class T>
struct Weights {
  const T *ih, *hh, *b_ih, *b_hh, *hr, *ch, *norm_ih, *shift_ih, *norm_hh, *shift_hh, *norm_c, *shift_c;
};
constexpr int kWeights = 12;

template <class T>
struct Call {
  int64_t kind, B, steps, D, H, P, Hp, Pp;
  Slots slots;
  int64_t phi, sigma;
  bool reset_after, reverse;
  int64_t fill;
  T cell_clip, proj_clip, zone;  // zone: expected share of the old state, in eval mode
  bool norm, apart;              // normalized gates: products each for itself, or their sum
  int64_t groups, memory;
  T eps;
  Weights<T> w;
  Rows<const T> x, dropped, zoned;  // dropped [B, T, G, P]; zoned is not 0 where a unit keeps its value
  Rows<const bool> mask, resets;
  const T *h0, *c0, *fresh_h, *fresh_c;
  Rows<T> y, c;  // c: the memory after every step, where asked for
  T *h_end, *c_end;

  Level level() const {
    if (phi != kTanh || sigma != kSigmoid) return kAny;
    return w.ch || cell_clip > 0 || memory != kAsItIs ? kStandard : kTextbook;
  }
  int64_t width() const { return slots.count * Hp; }
  int64_t time(int64_t t) const { return reverse ? steps - 1 - t : t; }
  bool valid(int64_t b, int64_t t) const { return !mask || *mask.at(b, time(t)); }
  bool reset(int64_t b, int64_t t) const { return resets && *resets.at(b, time(t)); }
};

// What a block of rows keeps for backward, or works in: time first, so that a step's rows are one matrix.
template <class T>
struct Kept {
  T *h, *c, *gates, *projected, *x_hat, *x_scale, *h_hat, *h_scale;
  int64_t rows, steps_h, steps;  // how many steps there is room for; a step finds its place modulo that

  static int64_t size(const Call<T>& call, int64_t rows, int64_t steps_h, int64_t steps) {
    int64_t normed = call.norm ? call.width() + call.groups : 0;
    return rows * (steps_h * (call.Pp + (call.kind == kLSTM ? call.Hp : 0)) +
                   steps * (call.width() + (call.w.hr ? call.Hp : 0) + (call.apart ? 2 : 1) * normed));
  }
  Kept(const Call<T>& call, T* memory, int64_t rows, int64_t steps_h, int64_t steps)
      : rows(rows), steps_h(steps_h), steps(steps) {
    auto take = [&](int64_t n) { T* p = memory; memory += n; return p; };
    h = take(rows * steps_h * call.Pp);
    c = take(call.kind == kLSTM ? rows * steps_h * call.Hp : 0);
    gates = take(rows * steps * call.width());
    projected = take(call.w.hr ? rows * steps * call.Hp : 0);
    bool x_side = call.norm && call.apart;
    x_hat = take(x_side ? rows * steps * call.width() : 0);
    h_hat = take(call.norm ? rows * steps * call.width() : 0);
    x_scale = take(x_side ? rows * steps * call.groups : 0);
    h_scale = take(call.norm ? rows * steps * call.groups : 0);
  }
  // Rows of step t of a matrix with `width` columns.
  T* state(T* base, int64_t t, int64_t width) const { return base + (t % steps_h) * rows * width; }
  T* at(T* base, int64_t t, int64_t width) const { return base + (t % steps) * rows * width; }
};

// The rows of block i of n.
inline int64_t block_start(int64_t rows, int64_t i, int64_t n) { return rows * i / n; }

}  // namespace rnn
