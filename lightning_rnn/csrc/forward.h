// A block of rows from the first step to the last.
#pragma once

#include "cells.h"
#include "prepare.h"

namespace rnn {

template <class T, Level level, class F>
void with_step(const Call<T>& call, F f) {
  if (call.kind == kLSTM) return f(LSTMStep<T, level>());
  if (call.kind == kGRU) return f(GRUStep<T, level>());
  f(SimpleRNNStep<T, level>());
}

template <class T>
void multiply_rows(T* out, const T* a, const T* b, int64_t n) {
  for (int64_t j = 0; j < n; j++) out[j] = a[j] * b[j];
}

// The old value where a unit is zoned out.
template <class T>
void keep_zoned(const T* __restrict zoned, const T* __restrict old, T* __restrict value, int64_t n) {
  for (int64_t j = 0; j < n; j++) value[j] = zoned[j] != 0 ? old[j] : value[j];
}

// Steps whose gates, together, stay in the second cache.
template <class T>
int64_t steps_at_once(const Call<T>& call, int64_t rows, int64_t bytes) {
  return std::clamp<int64_t>(bytes / int64_t(sizeof(T)) / (rows * call.width()), 1, call.steps);
}

template <class T, Level level>
struct Forward {
  const Call<T>& call;
  const Prepared<T>& w;
  const Diagonals<T>& diagonals;
  Kept<T> kept;
  int64_t first, rows;  // of the batch
  Buffer<T> inputs, resetted, normed, work;

  Forward(const Call<T>& call, const Prepared<T>& w, const Diagonals<T>& diagonals, Kept<T> kept, int64_t first)
      : call(call), w(w), diagonals(diagonals), kept(kept), first(first), rows(kept.rows), work(5 * call.Hp) {
    if (call.apart) normed.resize(rows * call.width());
    if (call.dropped) inputs.resize(rows * call.Pp);
    if (call.kind == kGRU && !call.reset_after) resetted.resize(rows * call.Hp);
  }

  void run() {
    T *h = kept.h, *c = kept.c;
    for (int64_t r = 0; r < rows; r++) {
      set(h + r * call.Pp, call.h0 + (first + r) * call.P, call.P, call.Pp);
      if (call.kind == kLSTM) set(c + r * call.Hp, call.c0 + (first + r) * call.H, call.H, call.Hp);
    }
    int64_t chunk = std::min(kept.steps, steps_at_once(call, rows, 1 << 18));
    for (int64_t t = 0; t < call.steps; t++) {
      if (t % chunk == 0) project(t, std::min(t + chunk, call.steps));
      step(t);
    }
    h = kept.state(kept.h, call.steps, call.Pp), c = kept.state(kept.c, call.steps, call.Hp);
    for (int64_t r = 0; r < rows; r++) {
      std::copy_n(h + r * call.Pp, call.P, call.h_end + (first + r) * call.P);
      if (call.kind == kLSTM) std::copy_n(c + r * call.Hp, call.H, call.c_end + (first + r) * call.H);
    }
  }

 private:
  static void set(T* to, const T* from, int64_t n, int64_t padded) {
    std::copy_n(from, n, to);
    std::fill(to + n, to + padded, T(0));
  }

  // The input's share of the gates, for steps start to end; panel by panel, each from the first cache.
  void project(int64_t start, int64_t end) {
    const Slots& s = call.slots;
    int64_t width = call.width(), offset = s.x_from * call.Hp;
    const T* bias = call.norm ? nullptr : w.bias.data() + offset;
    for (int64_t p = 0; p < w.x.panels; p++)
      for (int64_t t = start; t < end; t++)
        panel_product(p, rows, call.x.at(first, call.time(t)), call.x.row, w.x,
                      kept.at(kept.gates, t, width) + offset, width, bias, 0);
    if (!call.apart && s.x_count == s.count) return;
    for (int64_t t = start; t < end; t++)
      for (int64_t r = 0; r < rows; r++) {
        T* g = kept.at(kept.gates, t, width) + r * width;
        if (call.apart) {
          T* hat = kept.at(kept.x_hat, t, width) + r * width;
          T* scale = kept.at(kept.x_scale, t, call.groups) + r * call.groups;
          *scale = normalize<T>(g + offset, hat + offset, s.x_count, call.H, call.Hp, call.eps);
          for (int64_t j = offset; j < offset + s.x_count * call.Hp; j += Of<T>::lanes)
            store(g + j, load(hat + j) * load(&w.gain_x[j]) + load(&w.shift_x[j]) + load(&w.bias[j]));
        }
        for (int64_t j = s.x_count * call.Hp; j < width; j++) g[j] = w.bias[j];
      }
  }

  // The state's share: onto the gates, or beside them where it is normalized.
  void multiply(const T* h, T* gates, bool after_reset, int64_t t) {
    int64_t Hp = call.Hp, width = call.width();
    for (const Part<T>& part : w.parts) {
      if (part.after_reset != after_reset) continue;
      const T* source = after_reset ? resetted.data() : h;
      int64_t ld = after_reset ? Hp : call.Pp;
      if (call.dropped) {
        for (int64_t r = 0; r < rows; r++)
          multiply_rows(inputs.data() + r * call.Pp, source + r * ld, drop(r, t, part.slot), call.P);
        source = inputs.data(), ld = call.Pp;
      }
      T* to = gates + part.slot * Hp;
      product(rows, source, ld, part.matrix, to, width, to, width);
    }
  }
  const T* drop(int64_t r, int64_t t, int64_t slot) const {
    return call.dropped.at(first + r, call.time(t)) + call.slots.h_gate[slot] * call.P;
  }

  void normalized(T* gates, const T* h, int64_t t) {
    const Slots& s = call.slots;
    int64_t width = call.width(), from = s.h_from * call.Hp, n = s.h_count * call.Hp;
    if (call.apart) {
      std::fill(normed.begin(), normed.end(), T(0));
      multiply(h, normed.data(), false, t);
    } else {
      multiply(h, gates, false, t);
    }
    for (int64_t r = 0; r < rows; r++) {
      T *g = gates + r * width, *hat = kept.at(kept.h_hat, t, width) + r * width;
      T* scale = kept.at(kept.h_scale, t, call.groups) + r * call.groups;
      const T* sum = call.apart ? normed.data() + r * width : g;
      for (int64_t i = 0; i < call.groups; i++)
        scale[i] = normalize<T>(sum + from + i * n / call.groups, hat + from + i * n / call.groups,
                                s.h_count / call.groups, call.H, call.Hp, call.eps);
      const T* rest = call.apart ? g : w.bias.data();
      for (int64_t j = from; j < from + n; j += Of<T>::lanes)
        store(g + j, load(hat + j) * load(&w.gain_h[j]) + load(&w.shift_h[j]) + load(rest + j));
    }
  }

  void step(int64_t t) {
    int64_t Hp = call.Hp, Pp = call.Pp, width = call.width();
    T *h = kept.state(kept.h, t, Pp), *next = kept.state(kept.h, t + 1, Pp), *gates = kept.at(kept.gates, t, width);
    T *c = kept.state(kept.c, t, Hp), *c_next = kept.state(kept.c, t + 1, Hp);
    if (call.resets)
      for (int64_t r = 0; r < rows; r++)
        if (call.reset(first + r, t)) {
          set(h + r * Pp, call.fresh_h + (first + r) * call.P, call.P, Pp);
          if (call.kind == kLSTM) set(c + r * Hp, call.fresh_c + (first + r) * call.H, call.H, Hp);
        }
    if (call.norm) {
      normalized(gates, h, t);
    } else {
      multiply(h, gates, false, t);
    }
    if (!resetted.empty()) {
      for (int64_t r = 0; r < rows; r++)
        GRUStep<T, level>::reset(call, gates + r * width, h + r * Pp, resetted.data() + r * Hp);
      multiply(h, gates, true, t);
    }
    T* out = call.w.hr ? kept.at(kept.projected, t, Hp) : next;
    with_step<T, level>(call, [&](auto cell) {
      for (int64_t r = 0; r < rows; r++)
        cell.forward(call, diagonals, gates + r * width, h + r * Pp, c + r * Hp, c_next + r * Hp, out + r * Hp,
                     work.data());
    });
    if (call.w.hr) product(rows, out, Hp, w.projection, next, Pp);
    for (int64_t r = 0; r < rows; r++) finish(r, t, h + r * Pp, next + r * Pp, c + r * Hp, c_next + r * Hp);
  }

  // What comes after the equation: clipping, zoneout, masks, outputs.
  void finish(int64_t r, int64_t t, const T* h, T* next, const T* c, T* c_next) {
    int64_t b = first + r, P = call.P;
    T *y = call.y.at(b, call.time(t)), clip = call.proj_clip;
    if (clip > 0)
      for (int64_t j = 0; j < P; j++) next[j] = std::clamp(next[j], -clip, clip);
    if (call.zoned) {
      keep_zoned(call.zoned.at(b, call.time(t)), h, next, P);
    } else if (call.zone > 0) {
      for (int64_t j = 0; j < P; j++) next[j] = call.zone * h[j] + (1 - call.zone) * next[j];
    }
    bool valid = call.valid(b, t);
    if (!valid) {
      std::copy_n(h, call.Pp, next);
      if (call.kind == kLSTM) std::copy_n(c, call.Hp, c_next);
    }
    if (valid || call.fill == kCarry) {
      std::copy_n(next, P, y);
    } else if (call.fill == kRepeat && t) {
      std::copy_n(call.y.at(b, call.time(t - 1)), P, y);
    } else {
      std::fill_n(y, P, T(0));
    }
    if (call.c) std::copy_n(c_next, call.H, call.c.at(b, call.time(t)));
  }
};

}  // namespace rnn
