// A thread of control with a stack of its own, which runs until it gives way.
#pragma once

#include <cstddef>
#include <functional>

namespace coldstart::cuda::emulation {

class Fiber {
 public:
  explicit Fiber(size_t stack_bytes);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Begins anew with `body`, which must not throw. What was on the stack is forgotten, without destructors.
  void Start(void (*body)(void*), void* argument);

  // From outside: runs until the body gives way or ends.
  void Resume();
  // From inside.
  void GiveWay();
  bool ended() const { return ended_; }

 private:
  static void Enter(Fiber* self);
  friend void EnterFiber(Fiber* self);

  void* stack_ = nullptr;
  size_t stack_bytes_;
  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
  bool ended_ = true;
  // Where either side stands while the other runs.
  struct Contexts;
  Contexts* contexts_;
};

}  // namespace coldstart::cuda::emulation
