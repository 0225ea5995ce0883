// A block of rows from the last step to the first. Gradients of the gates are kept for some steps, then those of the
// weights are taken as one product over them.
#pragma once

#include <ATen/ops/addmm.h>
#include <ATen/ops/from_blob.h>

#include "forward.h"

namespace rnn {

// Gradients of the weights, by slots, in one piece of memory.
template <class T>
struct Sums {
  T *hh, *ih, *bias, *projection, *gain_x, *shift_x, *gain_h, *shift_h, *peephole, *gain_c, *shift_c;

  static int64_t size(const Call<T>& call) {
    return call.width() * (call.Pp + call.D + 5) + (call.w.hr ? call.P * call.Hp : 0) + 5 * call.Hp;
  }
  Sums(const Call<T>& call, T* memory) {
    auto take = [&](int64_t n) { T* p = memory; memory += n; return p; };
    int64_t width = call.width();
    hh = take(width * call.Pp);
    ih = take(width * call.D);
    bias = take(width), gain_x = take(width), shift_x = take(width), gain_h = take(width), shift_h = take(width);
    projection = take(call.w.hr ? call.P * call.Hp : 0);
    peephole = take(3 * call.Hp), gain_c = take(call.Hp), shift_c = take(call.Hp);
  }
};

// What flows back into a call, and out of it.
template <class T>
struct Gradients {
  Rows<const T> y, c;
  const T *h_end, *c_end;
  Rows<T> x;
  T *h0, *c0, *fresh_h, *fresh_c;
};

template <class T>
at::Tensor matrix(const T* data, int64_t rows, int64_t columns, int64_t stride) {
  return at::from_blob(const_cast<T*>(data), {rows, columns}, {stride, 1}, c10::CppTypeToScalarType<T>::value);
}

// sum[N, M] += a[K, N]^T b[K, M].
template <class T>
void add_outer(T* sum, const T* a, int64_t lda, int64_t N, const T* b, int64_t ldb, int64_t M, int64_t K) {
  at::Tensor out = matrix(sum, N, M, M);
  at::addmm_out(out, out, matrix(a, K, N, lda).t(), matrix(b, K, M, ldb));
}

template <class T, Level level>
struct Backward {
  const Call<T>& call;
  const Prepared<T>& w;
  const Diagonals<T>& diagonals;
  const Gradients<T>& grad;
  Kept<T> kept;
  Sums<T> sums;
  int64_t first, rows, chunk, width;
  Buffer<T> dh, dc, old, dm, gates, h_side, x_side, projected, product_out, inputs, x, dx, later, work;
  std::vector<int64_t> begun;  // first valid step of each row

  Backward(const Call<T>& call, const Prepared<T>& w, const Diagonals<T>& diagonals, const Gradients<T>& grad,
           Kept<T> kept, Sums<T> sums, int64_t first)
      : call(call), w(w), diagonals(diagonals), grad(grad), kept(kept), sums(sums), first(first), rows(kept.rows),
        chunk(steps_at_once(call, kept.rows, 1 << 20)), width(call.width()) {
    int64_t n = chunk * rows;
    dh.zeros(rows * call.Pp), dc.zeros(rows * call.Hp), gates.resize(n * width), x.resize(n * call.D);
    if (call.mask || call.zoned || call.zone > 0) old.resize(rows * call.Pp);
    if (call.norm) h_side.resize(n * width);
    if (call.apart) x_side.resize(n * width);
    if (call.w.hr) dm.resize(rows * call.Hp), projected.resize(n * call.Pp);
    if (call.dropped || before()) inputs.resize(n * std::max(call.Pp, call.Hp));
    if (call.dropped || before() || call.proj_clip > 0) product_out.resize(rows * std::max(call.Pp, call.Hp));
    if (grad.x) dx.resize(rows * padded<T>(call.D));
    if (call.fill == kRepeat && call.mask) later.zeros(rows * call.P);
    work.resize(5 * call.Hp);
    for (int64_t r = 0; r < rows && call.mask; r++) {
      int64_t t = 0;
      while (t < call.steps && !call.valid(first + r, t)) t++;
      begun.push_back(t);
    }
  }

  void run() {
    for (int64_t r = 0; r < rows; r++) {
      if (grad.h_end) std::copy_n(grad.h_end + (first + r) * call.P, call.P, dh.data() + r * call.Pp);
      if (grad.c_end) std::copy_n(grad.c_end + (first + r) * call.H, call.H, dc.data() + r * call.Hp);
    }
    for (int64_t end = call.steps; end > 0; end -= std::min(chunk, end)) {
      int64_t start = std::max<int64_t>(0, end - chunk);
      for (int64_t t = end - 1; t >= start; t--) step(t, t - start);
      weights(start, end - start);
    }
    for (int64_t r = 0; r < rows; r++) {
      std::copy_n(dh.data() + r * call.Pp, call.P, grad.h0 + (first + r) * call.P);
      if (call.kind == kLSTM) std::copy_n(dc.data() + r * call.Hp, call.H, grad.c0 + (first + r) * call.H);
    }
  }

 private:
  bool before() const { return call.kind == kGRU && !call.reset_after; }
  static void add(T* to, const T* from, int64_t n) {
    for (int64_t j = 0; j < n; j++) to[j] += from[j];
  }

  // The gradient of the output reaches the state; of a masked step, the output that it repeats.
  void receive(int64_t r, int64_t t) {
    int64_t b = first + r, P = call.P;
    T* d = dh.data() + r * call.Pp;
    bool valid = call.valid(b, t);
    if (grad.c) add(dc.data() + r * call.Hp, grad.c.at(b, call.time(t)), call.H);
    if (valid && !later.empty()) {
      add(d, later.data() + r * P, P);
      std::fill_n(later.data() + r * P, P, T(0));
    }
    if (!grad.y) return;
    const T* dy = grad.y.at(b, call.time(t));
    if (valid || call.fill == kCarry) {
      add(d, dy, P);
    } else if (call.fill == kRepeat && t > begun[r]) {
      add(later.data() + r * P, dy, P);
    }
  }

  // Splits dh into what reaches the old state past the step (`old`) and what goes through it.
  void split(int64_t r, int64_t t) {
    int64_t b = first + r;
    T *d = dh.data() + r * call.Pp, *o = old.data() + r * call.Pp;
    if (!call.valid(b, t)) {
      std::copy_n(d, call.Pp, o);
      std::fill_n(d, call.Pp, T(0));
      return;
    }
    std::fill_n(o, call.Pp, T(0));
    if (call.zoned) {
      keep_zoned(call.zoned.at(b, call.time(t)), d, o, call.P);
      for (int64_t j = 0; j < call.P; j++) d[j] -= o[j];  // to 0 where it went to the old state
    } else if (call.zone > 0) {
      for (int64_t j = 0; j < call.P; j++) o[j] = call.zone * d[j], d[j] *= 1 - call.zone;
    }
  }

  void project(int64_t t, int64_t place) {
    int64_t Pp = call.Pp, Hp = call.Hp;
    if (call.proj_clip > 0) {
      Packed<T> again(call.H, call.P, false, [&](int64_t p) { return call.w.hr + p * call.H; });
      product(rows, kept.at(kept.projected, t, Hp), Hp, again, product_out.data(), Pp);
      for (int64_t i = 0; i < rows * Pp; i++)
        if (std::abs(product_out[i]) > call.proj_clip) dh[i] = 0;
    }
    std::copy_n(dh.data(), rows * Pp, projected.data() + place * rows * Pp);
    product(rows, dh.data(), Pp, w.projection, dm.data(), Hp);
    std::fill(dh.begin(), dh.end(), T(0));
  }

  void step(int64_t t, int64_t place) {
    int64_t Hp = call.Hp, Pp = call.Pp;
    T *d = gates.data() + place * rows * width, *h = kept.state(kept.h, t, Pp), *c = kept.state(kept.c, t, Hp);
    const T* g = kept.at(kept.gates, t, width);
    for (int64_t r = 0; r < rows; r++) {
      receive(r, t);
      if (!old.empty()) split(r, t);
    }
    if (call.w.hr) project(t, place);
    T* from = call.w.hr ? dm.data() : dh.data();
    DiagonalSums<T> small{sums.peephole, sums.gain_c, sums.shift_c};
    with_step<T, level>(call, [&](auto cell) {
      for (int64_t r = 0; r < rows; r++) {
        if (!call.valid(first + r, t)) {
          std::fill_n(d + r * width, width, T(0));
          continue;
        }
        cell.backward(call, diagonals, small, g + r * width, h + r * Pp, c + r * Hp, from + r * Hp,
                      dc.data() + r * Hp, d + r * width, work.data());
      }
    });
    T* sided = d;
    if (call.norm) sided = normalized(d, t, place);
    if (before()) through_reset(d, g, h, t);
    multiply(sided, t);
    if (!old.empty()) add(dh.data(), old.data(), rows * Pp);
    if (call.resets) restart(t);
  }

  void restart(int64_t t) {
    for (int64_t r = 0; r < rows; r++) {
      if (!call.reset(first + r, t)) continue;
      add(grad.fresh_h + (first + r) * call.P, dh.data() + r * call.Pp, call.P);
      std::fill_n(dh.data() + r * call.Pp, call.Pp, T(0));
      if (call.kind != kLSTM) continue;
      add(grad.fresh_c + (first + r) * call.H, dc.data() + r * call.Hp, call.H);
      std::fill_n(dc.data() + r * call.Hp, call.Hp, T(0));
    }
  }

  // Through the normalization of the products; returns the gradient of the state's.
  T* normalized(const T* d, int64_t t, int64_t place) {
    const Slots& s = call.slots;
    auto side = [&](T* out, const T* hat, const T* scale, const Buffer<T>& gain, T* gain_sum, T* shift_sum,
                    int64_t slot, int64_t count) {
      int64_t from = slot * call.Hp, n = count * call.Hp;
      for (int64_t r = 0; r < rows; r++, out += width, hat += width, scale += call.groups) {
        const T* row = d + r * width;
        for (int64_t j = from; j < from + n; j += Of<T>::lanes) {
          Vec<T> v = load(row + j);
          store(gain_sum + j, load(gain_sum + j) + v * load(hat + j));
          store(shift_sum + j, load(shift_sum + j) + v);
          store(out + j, v * load(&gain[j]));
        }
        for (int64_t i = 0; i < call.groups; i++)
          normalize_backward<T>(out + from + i * n / call.groups, hat + from + i * n / call.groups, scale[i],
                                count / call.groups, call.H, call.Hp);
      }
    };
    T* out = h_side.data() + place * rows * width;
    side(out, kept.at(kept.h_hat, t, width), kept.at(kept.h_scale, t, call.groups), w.gain_h, sums.gain_h,
         sums.shift_h, s.h_from, s.h_count);
    if (call.apart)
      side(x_side.data() + place * rows * width, kept.at(kept.x_hat, t, width), kept.at(kept.x_scale, t, call.groups),
           w.gain_x, sums.gain_x, sums.shift_x, s.x_from, s.x_count);
    return out;
  }

  const T* drop(int64_t r, int64_t t, int64_t slot) const {
    return call.dropped.at(first + r, call.time(t)) + call.slots.h_gate[slot] * call.P;
  }

  // The candidate's product of r h: gradient of r into its slot, of h into dh.
  void through_reset(T* d, const T* g, const T* h, int64_t t) {
    product(rows, d, width, w.parts[0].matrix, product_out.data(), call.Hp);
    for (int64_t r = 0; r < rows; r++) {
      T* out = product_out.data() + r * call.Hp;
      if (call.dropped) multiply_rows(out, out, drop(r, t, 0), call.P);
      GRUStep<T, level>::reset_backward(call, g + r * width, h + r * call.Pp, out, dh.data() + r * call.Pp,
                                           d + r * width);
    }
  }

  void multiply(const T* d, int64_t t) {
    int64_t Pp = call.Pp;
    for (const Part<T>& part : w.parts) {
      if (part.after_reset) continue;
      const T* source = d + part.slot * call.Hp;
      if (!call.dropped) {
        product(rows, source, width, part.matrix, dh.data(), Pp, dh.data(), Pp);
        continue;
      }
      product(rows, source, width, part.matrix, product_out.data(), Pp);
      for (int64_t r = 0; r < rows; r++) {
        const T* mask = drop(r, t, part.slot);
        for (int64_t j = 0; j < call.P; j++) dh[r * Pp + j] += product_out[r * Pp + j] * mask[j];
      }
    }
  }

  // Of the steps start to start + count.
  void weights(int64_t start, int64_t count) {
    const Slots& s = call.slots;
    int64_t Hp = call.Hp, Pp = call.Pp, n = count * rows;
    const T* d = gates.data();
    const T* dx_rows = call.apart ? x_side.data() : call.norm ? h_side.data() : d;
    const T* dh_rows = call.norm ? h_side.data() : d;
    for (int64_t i = 0; i < n; i++) add(sums.bias, d + i * width, width);
    for (const Part<T>& part : w.parts) {
      const T* source = kept.state(kept.h, start, Pp);
      if (call.dropped || part.after_reset) source = seen(part, start, count);
      add_outer(sums.hh + part.slot * Hp * Pp, dh_rows + part.slot * Hp, width, part.count * Hp, source, Pp, Pp, n);
    }
    if (call.w.hr)
      add_outer(sums.projection, projected.data(), Pp, call.P, kept.at(kept.projected, start, Hp), Hp, Hp, n);
    for (int64_t t = start, i = 0; t < start + count; t++)
      for (int64_t r = 0; r < rows; r++, i++)
        std::copy_n(call.x.at(first + r, call.time(t)), call.D, x.data() + i * call.D);
    int64_t offset = s.x_from * Hp;
    add_outer(sums.ih + offset * call.D, dx_rows + offset, width, s.x_count * Hp, x.data(), call.D, call.D, n);
    if (!grad.x) return;
    int64_t Dp = padded<T>(call.D);
    for (int64_t t = start; t < start + count; t++) {
      product(rows, dx_rows + (t - start) * rows * width + offset, width, w.x, dx.data(), Dp);
      for (int64_t r = 0; r < rows; r++) std::copy_n(dx.data() + r * Dp, call.D, grad.x.at(first + r, call.time(t)));
    }
  }

  // What a product of the state took, where that was not the state itself.
  const T* seen(const Part<T>& part, int64_t start, int64_t count) {
    int64_t Pp = call.Pp;
    for (int64_t t = start, i = 0; t < start + count; t++)
      for (int64_t r = 0; r < rows; r++, i++) {
        T *out = inputs.data() + i * Pp, *h = kept.state(kept.h, t, Pp) + r * Pp;
        std::copy_n(h, Pp, out);
        if (part.after_reset) {
          const T* g = kept.at(kept.gates, t, width) + r * width + call.Hp;
          for (int64_t j = 0; j < call.Hp; j += Of<T>::lanes)
            store(out + j, load(h + j) * output_of<T, level>(call.sigma, load(g + j)));
        }
        if (call.dropped) multiply_rows(out, out, drop(r, t, part.slot), call.P);
      }
    return inputs.data();
  }
};

}  // namespace rnn
