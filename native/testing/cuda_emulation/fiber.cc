#include "testing/cuda_emulation/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace coldstart::cuda::emulation {

#if defined(__x86_64__)

// swapcontext() makes a call of the system for the signal mask at every switch, which is most of the time of an
// emulated kernel. Pushes what the ABI lets a function expect of its callee, changes stacks, and pops the same of the
// other.
asm(R"(
.text
.p2align 4
.hidden coldstart_switch_stack
.globl coldstart_switch_stack
.type coldstart_switch_stack, @function
coldstart_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size coldstart_switch_stack, . - coldstart_switch_stack

.p2align 4
.type coldstart_enter_fiber, @function
coldstart_enter_fiber:
  movq %r12, %rdi
  call *%r13
  ud2
.size coldstart_enter_fiber, . - coldstart_enter_fiber
)");
extern "C" void coldstart_switch_stack(void** save, void* load);
extern "C" void coldstart_enter_fiber();

struct Fiber::Contexts {
  void* outside = nullptr;
  void* inside = nullptr;
};

#else

struct Fiber::Contexts {
  ucontext_t outside;
  ucontext_t inside;
};

#endif

void EnterFiber(Fiber* self) { Fiber::Enter(self); }

Fiber::Fiber(size_t stack_bytes) : stack_bytes_(stack_bytes), contexts_(new Contexts) {
  stack_ = mmap(nullptr, stack_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stack_ == MAP_FAILED) throw std::bad_alloc();
  // A page that ends the process instead of writing into the stack of another.
  mprotect(stack_, static_cast<size_t>(sysconf(_SC_PAGESIZE)), PROT_NONE);
}

Fiber::~Fiber() {
  munmap(stack_, stack_bytes_);
  delete contexts_;
}

void Fiber::Enter(Fiber* self) {
  self->body_(self->argument_);
  self->ended_ = true;
  self->GiveWay();
}

void Fiber::Start(void (*body)(void*), void* argument) {
  body_ = body;
  argument_ = argument;
  ended_ = false;
#if defined(__x86_64__)
  auto* top = reinterpret_cast<uint64_t*>(static_cast<char*>(stack_) + stack_bytes_);
  // As coldstart_switch_stack leaves a stack: r15, r14, r13, r12, rbx, rbp, the address to return to.
  uint64_t* frame = top - 9;  // so that calls find it aligned
  for (int i = 0; i < 8; ++i) frame[i] = 0;
  frame[2] = reinterpret_cast<uint64_t>(&EnterFiber);
  frame[3] = reinterpret_cast<uint64_t>(this);
  frame[6] = reinterpret_cast<uint64_t>(&coldstart_enter_fiber);
  contexts_->inside = frame;
#else
  getcontext(&contexts_->inside);
  contexts_->inside.uc_stack.ss_sp = stack_;
  contexts_->inside.uc_stack.ss_size = stack_bytes_;
  contexts_->inside.uc_link = nullptr;
  const auto address = reinterpret_cast<uint64_t>(this);
  // makecontext() takes ints.
  makecontext(&contexts_->inside, reinterpret_cast<void (*)()>(+[](unsigned int high, unsigned int low) {
    EnterFiber(reinterpret_cast<Fiber*>(static_cast<uint64_t>(high) << 32 | low));
  }),
              2, static_cast<unsigned int>(address >> 32), static_cast<unsigned int>(address));
#endif
}

void Fiber::Resume() {
#if defined(__x86_64__)
  coldstart_switch_stack(&contexts_->outside, contexts_->inside);
#else
  swapcontext(&contexts_->outside, &contexts_->inside);
#endif
}

void Fiber::GiveWay() {
#if defined(__x86_64__)
  coldstart_switch_stack(&contexts_->inside, contexts_->outside);
#else
  swapcontext(&contexts_->inside, &contexts_->outside);
#endif
}

}  // namespace coldstart::cuda::emulation
