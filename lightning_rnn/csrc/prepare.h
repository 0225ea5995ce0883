// Weights laid out for one call: matrices as panels, vectors by slots.
#pragma once

#include "call.h"

namespace rnn {

// Slots that one product of the state fills.
template <class T>
struct Part {
  int64_t slot, count;
  bool after_reset;  // takes r h
  Packed<T> matrix;
};

template <class T>
struct Prepared {
  std::vector<Part<T>> parts;
  Packed<T> x, projection;
  Buffer<T> bias, gain_x, shift_x, gain_h, shift_h;  // [slots, Hp]

  Prepared(const Call<T>& call, bool backward, bool needs_x) {
    const Slots& s = call.slots;
    auto hh = [&](int64_t slot, int64_t count, bool after_reset) {
      parts.push_back({slot, count, after_reset, pack(call, call.w.hh, call.P, s.h_gate, slot, count, backward)});
    };
    bool before = call.kind == kGRU && !call.reset_after;
    if (before) hh(0, 1, true);
    int64_t from = s.h_from + before, count = s.h_count - before;
    if (call.dropped) {
      for (int64_t i = 0; i < count; i++) hh(from + i, 1, false);
    } else {
      hh(from, count, false);
    }
    if (needs_x) x = pack(call, call.w.ih, call.D, s.x_gate, s.x_from, s.x_count, backward);
    if (call.w.hr) {
      int64_t K = backward ? call.P : call.H, N = backward ? call.H : call.P;
      projection = Packed<T>(K, N, backward, [&](int64_t p) { return call.w.hr + p * call.H; });
    }
    auto row = [&](const T* vector, const std::array<int64_t, 4>& gate, int64_t first, int64_t n, Buffer<T>& to) {
      if (to.empty()) to.zeros(call.width());
      for (int64_t i = first; vector && i < first + n; i++)
        for (int64_t j = 0; j < call.H; j++) to[i * call.Hp + j] += vector[gate[i] * call.H + j];
    };
    row(call.w.b_ih, s.x_gate, s.x_from, s.x_count, bias);
    row(call.w.b_hh, s.h_gate, s.h_from, s.h_count, bias);
    row(call.w.norm_ih, s.x_gate, s.x_from, s.x_count, gain_x);
    row(call.w.shift_ih, s.x_gate, s.x_from, s.x_count, shift_x);
    row(call.w.norm_hh, s.h_gate, s.h_from, s.h_count, gain_h);
    row(call.w.shift_hh, s.h_gate, s.h_from, s.h_count, shift_h);
  }

 private:
  // Rows of `source` [gates * H, columns] by slots: transposed for forward, as they are for backward.
  static Packed<T> pack(const Call<T>& call, const T* source, int64_t columns, const std::array<int64_t, 4>& gate,
                        int64_t slot, int64_t count, bool backward) {
    int64_t H = call.H, Hp = call.Hp, rows = count * Hp;
    return Packed<T>(backward ? rows : columns, backward ? columns : rows, backward, [&](int64_t i) {
      int64_t j = i % Hp;
      return j < H ? source + (gate[slot + i / Hp] * H + j) * columns : nullptr;
    });
  }
};

}  // namespace rnn
