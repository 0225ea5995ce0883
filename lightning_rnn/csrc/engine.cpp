// lightning_rnn::native_forward and native_backward: SimpleRNN, LSTM and GRU with every option over a whole batch.
// Python (layers/native.py) has checked shapes, dtypes and devices.

#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <optional>

#include "backward.h"

namespace rnn {
namespace {

using Tensors = std::vector<at::Tensor>;
using Maybe = std::optional<at::Tensor>;

// Order of the numbers that say what a call is; the same in layers/native.py.
enum Integer { kKindOf, kPhi, kSigma, kResetAfter, kReverse, kFillOf, kNorm, kApart, kGroups, kMemoryOf, kAllMemory, kBlocks };
enum Real { kCellClip, kProjClip, kZone, kEps };

struct Arguments {
  at::IntArrayRef integers;
  at::ArrayRef<double> reals;
  at::Tensor x;
  Tensors state;
  c10::List<Maybe> weights;
  Maybe mask, resets, dropped, zoned;
  Tensors fresh;
};

template <class T>
Rows<const T> rows_of(const Maybe& tensor) {
  if (!tensor || !tensor->defined()) return {};
  return {tensor->const_data_ptr<T>(), tensor->stride(0), tensor->stride(1)};
}
template <class T>
Rows<T> rows_to(at::Tensor& tensor) {
  return {tensor.data_ptr<T>(), tensor.stride(0), tensor.stride(1)};
}
template <class T>
const T* pointer(const Maybe& tensor) {
  return tensor && tensor->defined() ? tensor->const_data_ptr<T>() : nullptr;
}

template <class T>
Call<T> call_of(const Arguments& a) {
  const at::IntArrayRef& i = a.integers;
  Call<T> call{};
  call.kind = i[kKindOf];
  call.B = a.x.size(0), call.steps = a.x.size(1), call.D = a.x.size(2);
  call.P = a.state[0].size(1);
  call.H = call.kind == kLSTM ? a.state[1].size(1) : call.P;
  call.Hp = padded<T>(call.H), call.Pp = padded<T>(call.P);
  call.slots = slots_of(call.kind, i[kResetAfter]);
  call.phi = i[kPhi], call.sigma = i[kSigma];
  call.reset_after = i[kResetAfter], call.reverse = i[kReverse], call.fill = i[kFillOf];
  call.norm = i[kNorm], call.apart = i[kApart], call.groups = i[kGroups], call.memory = i[kMemoryOf];
  call.cell_clip = a.reals[kCellClip], call.proj_clip = a.reals[kProjClip], call.zone = a.reals[kZone];
  call.eps = a.reals[kEps];
  const T* w[kWeights];
  for (int k = 0; k < kWeights; k++) w[k] = pointer<T>(a.weights.get(k));
  call.w = {w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10], w[11]};
  call.x = rows_of<T>(a.x), call.mask = rows_of<bool>(a.mask), call.resets = rows_of<bool>(a.resets);
  call.dropped = rows_of<T>(a.dropped), call.zoned = rows_of<T>(a.zoned);
  call.h0 = a.state[0].const_data_ptr<T>();
  if (call.kind == kLSTM) call.c0 = a.state[1].const_data_ptr<T>();
  if (!a.fresh.empty()) call.fresh_h = a.fresh[0].const_data_ptr<T>();
  if (a.fresh.size() > 1) call.fresh_c = a.fresh[1].const_data_ptr<T>();
  return call;
}

// Blocks of rows side by side, each through all of time: no thread waits for another.
template <class F>
void each_block(int64_t blocks, int64_t rows, F f) {
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    FlushDenormals flush;
    at::AutoDispatchBelowADInplaceOrView guard;
    for (int64_t i = begin; i < end; i++) {
      int64_t first = block_start(rows, i, blocks);
      f(i, first, block_start(rows, i + 1, blocks) - first);
    }
  });
}

template <class T>
Tensors forward(const Arguments& a, bool save) {
  Call<T> call = call_of<T>(a);
  int64_t blocks = a.integers[kBlocks];
  bool lstm = call.kind == kLSTM, memories = a.integers[kAllMemory];
  auto options = a.x.options();
  Tensors out{at::empty({call.B, call.steps, call.P}, options), at::empty({call.B, call.P}, options)};
  if (lstm) out.push_back(at::empty({call.B, call.H}, options));
  if (memories) out.push_back(at::empty({call.B, call.steps, call.H}, options));
  call.y = rows_to<T>(out[0]), call.h_end = out[1].data_ptr<T>();
  if (lstm) call.c_end = out[2].data_ptr<T>();
  if (memories) call.c = rows_to<T>(out[3]);
  int64_t largest = ceil_div(call.B, blocks);
  int64_t steps = save ? call.steps : steps_at_once(call, largest, 1 << 18), steps_h = save ? call.steps + 1 : 2;
  int64_t size = Kept<T>::size(call, 1, steps_h, steps);
  at::Tensor memory = at::empty({call.B * size}, options);
  const Prepared<T> w(call, false, true);
  const Diagonals<T> diagonals(call);
  each_block(blocks, call.B, [&](int64_t, int64_t first, int64_t rows) {
    Kept<T> kept(call, memory.data_ptr<T>() + first * size, rows, steps_h, steps);
    switch (call.level()) {
      case kTextbook: return Forward<T, kTextbook>(call, w, diagonals, kept, first).run();
      case kStandard: return Forward<T, kStandard>(call, w, diagonals, kept, first).run();
      default: Forward<T, kAny>(call, w, diagonals, kept, first).run();
    }
  });
  if (save) out.push_back(memory);
  return out;
}

// Sums by slots to the rows of torch's order: all rows of `columns` numbers, `stride` apart.
template <class T>
at::Tensor unslotted(const Call<T>& call, const T* sums, const std::array<int64_t, 4>& gate, int64_t from,
                     int64_t count, int64_t columns, int64_t stride, at::TensorOptions options) {
  at::Tensor out = at::empty({count * call.H, columns}, options);
  T* to = out.data_ptr<T>();
  for (int64_t s = from; s < from + count; s++)
    for (int64_t j = 0; j < call.H; j++)
      std::copy_n(sums + (s * call.Hp + j) * stride, columns, to + (gate[s] * call.H + j) * columns);
  return out;
}

template <class T>
Tensors weight_gradients(const Call<T>& call, const Sums<T>& sums, at::TensorOptions options) {
  const Slots& s = call.slots;
  auto of_x = [&](const T* from, int64_t columns) {
    return unslotted(call, from, s.x_gate, s.x_from, s.x_count, columns, columns, options);
  };
  auto of_h = [&](const T* from, int64_t columns, int64_t stride) {
    return unslotted(call, from, s.h_gate, s.h_from, s.h_count, columns, stride, options);
  };
  auto flat = [](bool there, auto make) { return there ? make().flatten() : at::Tensor(); };
  auto plain = [&](const T* from, int64_t rows, int64_t columns) {
    at::Tensor out = at::empty({rows, columns}, options);
    for (int64_t i = 0; i < rows; i++)
      std::copy_n(from + i * call.Hp, columns, out.data_ptr<T>() + i * columns);
    return out;
  };
  const Weights<T>& w = call.w;
  return {of_x(sums.ih, call.D),
          of_h(sums.hh, call.P, call.Pp),
          flat(w.b_ih, [&] { return of_x(sums.bias, 1); }),
          flat(w.b_hh, [&] { return of_h(sums.bias, 1, 1); }),
          w.hr ? plain(sums.projection, call.P, call.H) : at::Tensor(),
          w.ch ? plain(sums.peephole, 3, call.H) : at::Tensor(),
          flat(w.norm_ih, [&] { return of_x(sums.gain_x, 1); }),
          flat(w.shift_ih, [&] { return of_x(sums.shift_x, 1); }),
          flat(w.norm_hh, [&] { return of_h(sums.gain_h, 1, 1); }),
          flat(w.shift_hh, [&] { return of_h(sums.shift_h, 1, 1); }),
          flat(w.norm_c, [&] { return plain(sums.gain_c, 1, call.H); }),
          flat(w.shift_c, [&] { return plain(sums.shift_c, 1, call.H); })};
}

// Gradients of x, the states, the fresh states, then the weights; undefined where there is none.
template <class T>
Tensors backward(const Arguments& a, const at::Tensor& memory, const c10::List<Maybe>& flows, bool needs_x) {
  Call<T> call = call_of<T>(a);
  int64_t blocks = a.integers[kBlocks];
  bool lstm = call.kind == kLSTM;
  auto options = a.x.options();
  at::Tensor dx = needs_x ? at::empty({call.B, call.steps, call.D}, options) : at::Tensor();
  Tensors out{dx, at::empty({call.B, call.P}, options)};
  if (lstm) out.push_back(at::empty({call.B, call.H}, options));
  for (const at::Tensor& fresh : a.fresh) out.push_back(at::zeros(fresh.sizes(), options));
  Gradients<T> grad{};
  grad.y = rows_of<T>(flows.get(0)), grad.h_end = pointer<T>(flows.get(1));
  if (lstm) grad.c_end = pointer<T>(flows.get(2)), grad.c = rows_of<T>(flows.get(3));
  if (needs_x) grad.x = rows_to<T>(dx);
  grad.h0 = out[1].data_ptr<T>();
  if (lstm) grad.c0 = out[2].data_ptr<T>();
  if (!a.fresh.empty()) grad.fresh_h = out[2 + lstm].data_ptr<T>();
  if (a.fresh.size() > 1) grad.fresh_c = out[3 + lstm].data_ptr<T>();
  int64_t size = Kept<T>::size(call, 1, call.steps + 1, call.steps), sums_size = Sums<T>::size(call);
  at::Tensor all_sums = at::zeros({blocks, sums_size}, options);
  const Prepared<T> w(call, true, needs_x);
  const Diagonals<T> diagonals(call);
  each_block(blocks, call.B, [&](int64_t i, int64_t first, int64_t rows) {
    Kept<T> kept(call, memory.data_ptr<T>() + first * size, rows, call.steps + 1, call.steps);
    Sums<T> sums(call, all_sums.data_ptr<T>() + i * sums_size);
    switch (call.level()) {
      case kTextbook: return Backward<T, kTextbook>(call, w, diagonals, grad, kept, sums, first).run();
      case kStandard: return Backward<T, kStandard>(call, w, diagonals, grad, kept, sums, first).run();
      default: Backward<T, kAny>(call, w, diagonals, grad, kept, sums, first).run();
    }
  });
  T* sum = all_sums.data_ptr<T>();
  at::parallel_for(0, sums_size, 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = 1; i < blocks; i++)
      for (int64_t j = begin; j < end; j++) sum[j] += sum[i * sums_size + j];
  });
  for (at::Tensor& gradient : weight_gradients(call, Sums<T>(call, sum), options)) out.push_back(std::move(gradient));
  return out;
}

Tensors native_forward(at::IntArrayRef integers, at::ArrayRef<double> reals, const at::Tensor& x, Tensors state,
                       c10::List<Maybe> weights, Maybe mask, Maybe resets, Maybe dropped, Maybe zoned, Tensors fresh,
                       bool save) {
  Arguments a{integers, reals, x, state, weights, mask, resets, dropped, zoned, fresh};
  return x.scalar_type() == at::kDouble ? forward<double>(a, save) : forward<float>(a, save);
}

std::vector<Maybe> native_backward(at::IntArrayRef integers, at::ArrayRef<double> reals, const at::Tensor& x,
                                   Tensors state, c10::List<Maybe> weights, Maybe mask, Maybe resets, Maybe dropped,
                                   Maybe zoned, Tensors fresh, const at::Tensor& memory, c10::List<Maybe> flows,
                                   bool needs_x) {
  Arguments a{integers, reals, x, state, weights, mask, resets, dropped, zoned, fresh};
  Tensors found = x.scalar_type() == at::kDouble ? backward<double>(a, memory, flows, needs_x)
                                                 : backward<float>(a, memory, flows, needs_x);
  std::vector<Maybe> out;
  for (at::Tensor& tensor : found) out.push_back(tensor.defined() ? Maybe(std::move(tensor)) : std::nullopt);
  return out;
}

}  // namespace
}  // namespace rnn

#define RNN_ARGUMENTS                                                                                            \
  "int[] integers, float[] reals, Tensor x, Tensor[] state, Tensor?[] weights, Tensor? mask, Tensor? resets, "    \
  "Tensor? dropped, Tensor? zoned, Tensor[] fresh"

TORCH_LIBRARY_FRAGMENT(lightning_rnn, m) {
  m.def("native_forward(" RNN_ARGUMENTS ", bool save) -> Tensor[]");
  m.def("native_backward(" RNN_ARGUMENTS ", Tensor memory, Tensor?[] flows, bool needs_x) -> Tensor?[]");
}
TORCH_LIBRARY_IMPL(lightning_rnn, CPU, m) {
  m.impl("native_forward", TORCH_FN(rnn::native_forward));
  m.impl("native_backward", TORCH_FN(rnn::native_backward));
}
