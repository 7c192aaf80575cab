#include "testing/cuda_emulation/guarded_buffer.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "testing/cuda_emulation/machine.h"

namespace coldstart::cuda::emulation {
namespace {

constexpr unsigned char kMargin = 0xa5;

struct Guard {
  const unsigned char* begin;
  const unsigned char* end;
  const GuardedBuffer* buffer;
};

std::vector<Guard>& Guards() {
  static auto* guards = new std::vector<Guard>;
  return *guards;
}

struct sigaction g_before[2];

// The thread that did it gives way for good, out of the handler: its stack is not used again before it begins anew.
void OnSignal(int number, siginfo_t* info, void*) {
  const auto* address = static_cast<const unsigned char*>(info->si_addr);
  for (const Guard& guard : Guards()) {
    if (address < guard.begin || address >= guard.end || Machine::current() == nullptr) continue;
    const auto offset = address - guard.buffer->data();
    Machine::current()->Abandon(
        Failure(Fault::kOutOfBounds, Machine::current()->NameOfThread(*Machine::self()) + " touches byte " +
                                         std::to_string(offset) + " of a buffer of " +
                                         std::to_string(guard.buffer->size()) + " bytes in global memory"));
  }
  // Not ours: as if this handler were not there.
  sigaction(number, &g_before[number == SIGSEGV ? 0 : 1], nullptr);
}

}  // namespace

GuardedBuffer::GuardedBuffer(size_t bytes, size_t misalignment) : bytes_(bytes) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t taken = (bytes + misalignment % 16 + 15) / 16 * 16;
  const size_t usable = (taken + page - 1) / page * page + page;
  mapped_ = usable + page;
  void* mapping = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  mapping_ = static_cast<unsigned char*>(mapping);
  std::memset(mapping_, kMargin, usable);
  mprotect(mapping_ + usable, page, PROT_NONE);
  data_ = mapping_ + usable - taken + misalignment % 16;
  Guards().push_back({mapping_ + usable, mapping_ + mapped_, this});
}

GuardedBuffer::GuardedBuffer(const void* from, size_t bytes, size_t misalignment) : GuardedBuffer(bytes, misalignment) {
  if (bytes > 0) std::memcpy(data_, from, bytes);
}

GuardedBuffer::~GuardedBuffer() {
  std::erase_if(Guards(), [this](const Guard& guard) { return guard.buffer == this; });
  munmap(mapping_, mapped_);
}

void GuardedBuffer::CheckMargins() const {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (const unsigned char* at = mapping_; at < mapping_ + mapped_ - page; ++at) {
    if ((at >= data_ && at < data_ + bytes_) || *at == kMargin) continue;
    throw Failure(Fault::kOutOfBounds, "out of bounds: byte " + std::to_string(at - data_) + " of a buffer of " +
                                           std::to_string(bytes_) + " bytes in global memory was written");
  }
}

void GuardedBuffer::CopyTo(void* to) const {
  CheckMargins();
  if (bytes_ > 0) std::memcpy(to, data_, bytes_);
}

GuardWatch::GuardWatch() {
  struct sigaction action {};
  action.sa_sigaction = OnSignal;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &action, &g_before[0]);
  sigaction(SIGBUS, &action, &g_before[1]);
}

GuardWatch::~GuardWatch() {
  sigaction(SIGSEGV, &g_before[0], nullptr);
  sigaction(SIGBUS, &g_before[1], nullptr);
}

}  // namespace coldstart::cuda::emulation
