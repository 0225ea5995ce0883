// The pointwise part of one step of each cell for one row, forward and backward. Equations as in functional/cells.py.
#pragma once

#include "call.h"
#include "normalize.h"

namespace rnn {

// Padded copies of the small vectors that a row needs.
template <class T>
struct Diagonals {
  Buffer<T> peephole, gain, shift;  // [3, Hp], [Hp], [Hp]
  explicit Diagonals(const Call<T>& call) {
    auto copy = [&](const T* from, int64_t rows, Buffer<T>& to) {
      to.zeros(rows * call.Hp);
      for (int64_t i = 0; from && i < rows; i++)
        std::copy(from + i * call.H, from + (i + 1) * call.H, to.data() + i * call.Hp);
    };
    copy(call.w.ch, call.w.ch ? 3 : 0, peephole);
    copy(call.w.norm_c, call.memory ? 1 : 0, gain);
    copy(call.w.shift_c, call.memory ? 1 : 0, shift);
  }
};

// Gradients of those, summed over rows and steps.
template <class T>
struct DiagonalSums {
  T *peephole, *gain, *shift;
};

template <class T, Level level>
struct SimpleRNNStep {
  static void forward(const Call<T>& call, const Diagonals<T>&, T* g, const T*, const T*, T*, T* out, T*) {
    for (int64_t j = 0; j < call.Hp; j += Of<T>::lanes) {
      Vec<T> in = load(g + j), h = activate<T, level>(call.phi, kTanh, in);
      store(g + j, kept<T, level>(call.phi, in, h));
      store(out + j, h);
    }
  }
  static void backward(const Call<T>& call, const Diagonals<T>&, const DiagonalSums<T>&, const T* g, const T*,
                       const T*, T* dh, T*, T* d, T*) {
    for (int64_t j = 0; j < call.Hp; j += Of<T>::lanes) {
      store(d + j, load(dh + j) * slope<T, level>(call.phi, kTanh, load(g + j)));
      store(dh + j, Vec<T>{});
    }
  }
};

// Slots i, f, g, o. `work`: rows [5, Hp].
template <class T, Level level>
struct LSTMStep {
  static RNN_INLINE Vec<T> memory(T clip, Vec<T> i, Vec<T> f, Vec<T> g, Vec<T> c) {
    Vec<T> raw = f * c + i * g;
    return clip > 0 ? clamp<T>(raw, -clip, clip) : raw;
  }
  static void normal(const Call<T>& call, const Diagonals<T>& w, const T* c, T* hat, T* out, T* scale) {
    *scale = normalize<T>(c, hat, 1, call.H, call.Hp, call.eps);
    for (int64_t j = 0; j < call.Hp; j += Of<T>::lanes)
      store(out + j, load(hat + j) * load(w.gain.data() + j) + load(w.shift.data() + j));
  }

  static void forward(const Call<T>& call, const Diagonals<T>& w, T* g, const T*, const T* c, T* c_next, T* out,
                      T* work) {
    int64_t Hp = call.Hp;
    const T* peephole = w.peephole.data();
    const bool sees = level != kTextbook && call.w.ch;
    const T clip = level == kTextbook ? T(0) : call.cell_clip;
    auto remember = [&](int64_t j) {
      Vec<T> a = load(g + j), b = load(g + Hp + j), n = load(g + 2 * Hp + j), old = load(c + j);
      if (sees) a += load(peephole + j) * old, b += load(peephole + Hp + j) * old;
      Vec<T> i = activate<T, level>(call.sigma, kSigmoid, a), f = activate<T, level>(call.sigma, kSigmoid, b);
      Vec<T> candidate = activate<T, level>(call.phi, kTanh, n);
      store(g + j, kept<T, level>(call.sigma, a, i));
      store(g + Hp + j, kept<T, level>(call.sigma, b, f));
      store(g + 2 * Hp + j, kept<T, level>(call.phi, n, candidate));
      return memory(clip, i, f, candidate, old);
    };
    auto emit = [&](int64_t j, Vec<T> stored, Vec<T> seen) {
      Vec<T> in = load(g + 3 * Hp + j);
      if (sees) in += load(peephole + 2 * Hp + j) * stored;
      Vec<T> o = activate<T, level>(call.sigma, kSigmoid, in);
      store(g + 3 * Hp + j, kept<T, level>(call.sigma, in, o));
      store(c_next + j, stored);
      store(out + j, o * activate<T, level>(call.phi, kTanh, seen));
    };
    if (level == kTextbook || call.memory == kAsItIs) {
      for (int64_t j = 0; j < Hp; j += Of<T>::lanes) {
        Vec<T> m = remember(j);
        emit(j, m, m);
      }
      return;
    }
    T *raw = work, *seen = work + Hp, scale;
    for (int64_t j = 0; j < Hp; j += Of<T>::lanes) store(raw + j, remember(j));
    normal(call, w, raw, work + 2 * Hp, seen, &scale);
    const T* stored = call.memory == kStored ? seen : raw;
    for (int64_t j = 0; j < Hp; j += Of<T>::lanes) emit(j, load(stored + j), load(seen + j));
  }

  static void backward(const Call<T>& call, const Diagonals<T>& w, const DiagonalSums<T>& sums, const T* g, const T*,
                       const T* c, T* dh, T* dc, T* d, T* work) {
    int64_t Hp = call.Hp;
    const T* peephole = w.peephole.data();
    const bool sees = level != kTextbook && call.w.ch, normed = level != kTextbook && call.memory != kAsItIs;
    const T clip = level == kTextbook ? T(0) : call.cell_clip;
    auto gate = [&](int64_t slot, int64_t j) { return output_of<T, level>(call.sigma, load(g + slot * Hp + j)); };
    auto candidate = [&](int64_t j) { return output_of<T, level>(call.phi, load(g + 2 * Hp + j)); };
    auto sigma_slope = [&](int64_t slot, int64_t j) {
      return slope<T, level>(call.sigma, kSigmoid, load(g + slot * Hp + j));
    };
    // Of the output gate; returns the gradient of the memory that phi sees.
    auto emitted = [&](int64_t j, Vec<T> seen) {
      Vec<T> out = activate<T, level>(call.phi, kTanh, seen), from = load(dh + j);
      store(d + 3 * Hp + j, from * out * sigma_slope(3, j));
      store(dh + j, Vec<T>{});
      return from * gate(3, j) * slope<T, level>(call.phi, kTanh, kept<T, level>(call.phi, seen, out));
    };
    // Of the rest, from the gradient of the clipped memory.
    auto remembered = [&](int64_t j, Vec<T> dm, Vec<T> i, Vec<T> f, Vec<T> n, Vec<T> old) {
      if (clip > 0) {
        Vec<T> raw = f * old + i * n;
        dm = (raw >= -clip) & (raw <= clip) ? dm : Vec<T>{};
      }
      Vec<T> di = dm * n * sigma_slope(0, j), df = dm * old * sigma_slope(1, j), back = dm * f;
      store(d + j, di);
      store(d + Hp + j, df);
      store(d + 2 * Hp + j, dm * i * slope<T, level>(call.phi, kTanh, load(g + 2 * Hp + j)));
      if (sees) {
        back += di * load(peephole + j) + df * load(peephole + Hp + j);
        store(sums.peephole + j, load(sums.peephole + j) + di * old);
        store(sums.peephole + Hp + j, load(sums.peephole + Hp + j) + df * old);
      }
      store(dc + j, back);
    };
    auto peeped = [&](int64_t j, Vec<T> stored) {  // what the output gate's peephole adds to the memory's gradient
      Vec<T> from = load(d + 3 * Hp + j);
      store(sums.peephole + 2 * Hp + j, load(sums.peephole + 2 * Hp + j) + from * stored);
      return from * load(peephole + 2 * Hp + j);
    };
    if (!normed) {
      for (int64_t j = 0; j < Hp; j += Of<T>::lanes) {
        Vec<T> i = gate(0, j), f = gate(1, j), n = candidate(j), old = load(c + j);
        Vec<T> m = memory(clip, i, f, n, old), dm = load(dc + j) + emitted(j, m);
        if (sees) dm += peeped(j, m);
        remembered(j, dm, i, f, n, old);
      }
      return;
    }
    T *raw = work, *seen = work + Hp, *hat = work + 2 * Hp, *dn = work + 3 * Hp, scale;
    bool stored = call.memory == kStored;
    for (int64_t j = 0; j < Hp; j += Of<T>::lanes)
      store(raw + j, memory(clip, gate(0, j), gate(1, j), candidate(j), load(c + j)));
    normal(call, w, raw, hat, seen, &scale);
    for (int64_t j = 0; j < Hp; j += Of<T>::lanes) {
      Vec<T> from = emitted(j, load(seen + j)), direct = load(dc + j);
      if (sees) direct += peeped(j, load((stored ? seen : raw) + j));
      if (stored) from += direct, direct = Vec<T>{};
      store(sums.gain + j, load(sums.gain + j) + from * load(hat + j));
      store(sums.shift + j, load(sums.shift + j) + from);
      store(dn + j, from * load(w.gain.data() + j));
      store(dc + j, direct);
    }
    normalize_backward<T>(dn, hat, scale, 1, call.H, Hp);
    for (int64_t j = 0; j < Hp; j += Of<T>::lanes)
      remembered(j, load(dc + j) + load(dn + j), gate(0, j), gate(1, j), candidate(j), load(c + j));
  }
};

// Slots n, r, z and, with reset_after, the state's share of n.
template <class T, Level level>
struct GRUStep {
  // r h, which the candidate's product takes where the reset gate comes before it.
  static void reset(const Call<T>& call, T* g, const T* h, T* out) {
    for (int64_t j = 0; j < call.Hp; j += Of<T>::lanes) {
      Vec<T> in = load(g + call.Hp + j), r = activate<T, level>(call.sigma, kSigmoid, in);
      store(g + call.Hp + j, kept<T, level>(call.sigma, in, r));
      store(out + j, r * load(h + j));
    }
  }
  static void forward(const Call<T>& call, const Diagonals<T>&, T* g, const T* h, const T*, T*, T* out, T*) {
    const int64_t Hp = call.Hp;
    const bool reset_after = call.reset_after;
    for (int64_t j = 0; j < Hp; j += Of<T>::lanes) {
      Vec<T> n = load(g + j), in = load(g + 2 * Hp + j), z = activate<T, level>(call.sigma, kSigmoid, in);
      store(g + 2 * Hp + j, kept<T, level>(call.sigma, in, z));
      if (reset_after) {
        Vec<T> before = load(g + Hp + j), r = activate<T, level>(call.sigma, kSigmoid, before);
        store(g + Hp + j, kept<T, level>(call.sigma, before, r));
        n += r * load(g + 3 * Hp + j);
      }
      Vec<T> candidate = activate<T, level>(call.phi, kTanh, n);
      store(g + j, kept<T, level>(call.phi, n, candidate));
      store(out + j, candidate + z * (load(h + j) - candidate));
    }
  }
  // Leaves in dh what reaches the old state past the products.
  static void backward(const Call<T>& call, const Diagonals<T>&, const DiagonalSums<T>&, const T* g, const T* h,
                       const T*, T* dh, T*, T* d, T*) {
    int64_t Hp = call.Hp;
    for (int64_t j = 0; j < Hp; j += Of<T>::lanes) {
      Vec<T> z = output_of<T, level>(call.sigma, load(g + 2 * Hp + j));
      Vec<T> n = output_of<T, level>(call.phi, load(g + j)), from = load(dh + j);
      Vec<T> dn = from * (T(1) - z) * slope<T, level>(call.phi, kTanh, load(g + j));
      store(d + j, dn);
      store(d + 2 * Hp + j, from * (load(h + j) - n) * slope<T, level>(call.sigma, kSigmoid, load(g + 2 * Hp + j)));
      if (call.reset_after) {
        Vec<T> r = output_of<T, level>(call.sigma, load(g + Hp + j));
        store(d + Hp + j, dn * load(g + 3 * Hp + j) * slope<T, level>(call.sigma, kSigmoid, load(g + Hp + j)));
        store(d + 3 * Hp + j, dn * r);
      }
      store(dh + j, from * z);
    }
  }
  // From the gradient of r h: that of r into its slot; r times it is added to dh.
  static void reset_backward(const Call<T>& call, const T* g, const T* h, const T* drh, T* dh, T* d) {
    for (int64_t j = 0; j < call.Hp; j += Of<T>::lanes) {
      Vec<T> before = load(g + call.Hp + j), r = output_of<T, level>(call.sigma, before), from = load(drh + j);
      store(d + call.Hp + j, from * load(h + j) * slope<T, level>(call.sigma, kSigmoid, before));
      store(dh + j, load(dh + j) + from * r);
    }
  }
};

}  // namespace rnn
