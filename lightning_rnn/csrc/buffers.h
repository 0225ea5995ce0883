// Working memory that is given back for the next call instead of to the system, whose new pages cost more than the work.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <vector>

namespace rnn {

class Pool {
 public:
  static Pool& get() {
    static Pool* pool = new Pool;  // never destroyed: threads may outlive statics
    return *pool;
  }
  void* take(size_t& bytes) {
    bytes = (bytes + 4095) / 4096 * 4096;
    std::lock_guard<std::mutex> lock(mutex_);
    auto found = free_.lower_bound(bytes);
    if (found != free_.end() && found->first <= 2 * bytes) {
      void* memory = found->second;
      bytes = found->first;
      kept_ -= bytes;
      free_.erase(found);
      return memory;
    }
    void* memory = std::aligned_alloc(4096, bytes);
    if (!memory) throw std::bad_alloc();
    return memory;
  }
  void give(void* memory, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (kept_ + bytes > kMost) return std::free(memory);
    kept_ += bytes;
    free_.emplace(bytes, memory);
  }

 private:
  static constexpr size_t kMost = size_t(64) << 20;
  std::mutex mutex_;
  std::multimap<size_t, void*> free_;
  size_t kept_ = 0;
};

// n numbers, aligned; what is in them is anything until they are set.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t n) { resize(n); }
  Buffer(Buffer&& other) noexcept : data_(other.data_), size_(other.size_), bytes_(other.bytes_) {
    other.data_ = nullptr;
    other.size_ = 0;
  }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Buffer() { release(); }
  void resize(int64_t n) {
    release();
    size_ = n;
    bytes_ = n * sizeof(T);
    data_ = n ? static_cast<T*>(Pool::get().take(bytes_)) : nullptr;
  }
  void zeros(int64_t n) {
    resize(n);
    std::fill(begin(), end(), T(0));
  }
  T* data() const { return data_; }
  T* begin() const { return data_; }
  T* end() const { return data_ + size_; }
  bool empty() const { return !size_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  void release() {
    if (data_) Pool::get().give(data_, bytes_);
    data_ = nullptr;
    size_ = 0;
  }
  T* data_ = nullptr;
  int64_t size_ = 0;
  size_t bytes_ = 0;
};

}  // namespace rnn
