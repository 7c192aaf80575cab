// Products of a warpgroup. Nothing is computed before the wait that asks for it; to the race detector, an agent of the
// warpgroup reads the matrices, whose clock is the number of the group.
#include "cuda/device/wgmma.cuh"

#include <algorithm>
#include <bit>
#include <memory>
#include <string>
#include <vector>

#include "testing/cuda_emulation/machine.h"

namespace coldstart::cuda {
namespace {

using emulation::Block;
using emulation::Fail;
using emulation::Fault;
using emulation::Location;
using emulation::Machine;
using emulation::PendingProduct;
using emulation::Thread;
using emulation::Touch;

constexpr int kBytesOfK = 32;  // of each row, one instruction takes so many

// The address of a 16-byte piece of a row (0 or 1), as the hardware finds it from a descriptor.
SharedAddress PieceAddress(uint64_t descriptor, uint32_t row, uint32_t piece) {
  const auto start = static_cast<uint32_t>(descriptor & 0x3fff) << 4;
  const auto stride = static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4;
  const uint32_t address = start + row / 8 * stride + row % 8 * 128 + piece * 16;
  return address ^ (address >> 7 & 7) << 4;
}

void CheckDescriptor(uint64_t descriptor) {
  if (descriptor >> 62 != 1)
    Fail(Fault::kMisuse, "a matrix whose swizzle is not that of 128 bytes, which is not emulated");
  if ((descriptor >> 49 & 7) != 0) Fail(Fault::kMisuse, "a matrix with a base offset, which is not emulated");
  if ((descriptor >> 32 & 0x3fff) << 4 != 1024)
    Fail(Fault::kMisuse, "a matrix with gaps between its rows, which is not emulated");
}

struct Given {
  Thread* thread;
  PendingProduct product;
};

// Once for each warp: all of its lanes ask for the same, and may read what they ask for.
void CheckProduct(void* const (&given)[32], uint32_t mask) {
  if (mask != 0xffffffff) Fail(Fault::kMisuse, "a product (wgmma) by a warp of fewer than 32 lanes");
  Machine& machine = *Machine::current();
  // One of them for all: which one is drawn.
  auto& [thread, product] = *static_cast<Given*>(given[machine.random()() % 32]);
  for (const void* one : given) {
    const PendingProduct& other = static_cast<const Given*>(one)->product;
    if (other.a != product.a || other.b != product.b || other.accumulate != product.accumulate ||
        other.columns != product.columns || other.type != product.type) {
      Fail(Fault::kDivergence, "a product (wgmma) whose lanes name different matrices");
    }
  }
  Block& block = *thread->block;
  const uint32_t warpgroup = thread->number / 128;
  uint32_t& agent = block.product_agents[warpgroup];
  if (agent == 0) {
    agent = machine.NewAgent("a product (wgmma) of threads " + std::to_string(128 * warpgroup) + " to " +
                                 std::to_string(128 * warpgroup + 127),
                             true);
  }
  const auto read = [&, who = thread, group = product.group](uint64_t descriptor, uint32_t first, uint32_t rows) {
    for (uint32_t row = first; row < first + rows; ++row) {
      for (uint32_t piece = 0; piece < 2; ++piece) {
        machine.ReachAs(who, agent, group, PieceAddress(descriptor, row, piece), 16, Touch::kRead, Location::current());
      }
    }
  };
  const auto matrices = std::make_shared<emulation::ProductMatrices>();
  for (void* one : given) static_cast<Given*>(one)->product.matrices = matrices;
  read(product.a, thread->warp() % 4 * 16, 16);
  read(product.b, 0, static_cast<uint32_t>(product.columns));
}

const float* HalfValues() {
  static const std::vector<float>* values = [] {
    auto* all = new std::vector<float>(65536);
    for (uint32_t bits = 0; bits < 65536; ++bits)
      (*all)[bits] = emulation::HalfBitsToFloat(static_cast<uint16_t>(bits));
    return all;
  }();
  return values->data();
}

// The elements of a row that one instruction takes; how many.
int ReadRow(const Block& block, uint64_t descriptor, uint32_t row, WgmmaType type, double* values) {
  unsigned char bytes[kBytesOfK];
  for (uint32_t piece = 0; piece < 2; ++piece) {
    std::memcpy(bytes + 16 * piece,
                block.shared.data() + PieceAddress(descriptor, row, piece) - emulation::kSharedStart, 16);
  }
  if (type == WgmmaType::kTf32) {
    for (int k = 0; k < 8; ++k) {
      uint32_t word;
      std::memcpy(&word, bytes + 4 * k, 4);
      values[k] = std::bit_cast<float>(word & 0xffffe000);
    }
    return 8;
  }
  for (int k = 0; k < 16; ++k) {
    uint16_t half;
    std::memcpy(&half, bytes + 2 * k, 2);
    values[k] = type == WgmmaType::kF16 ? HalfValues()[half] : emulation::BfloatBitsToFloat(half);
  }
  return 16;
}

constexpr uint32_t kMostOfK = 16;

void ReadMatrices(const Thread& thread, const PendingProduct& product) {
  emulation::ProductMatrices& matrices = *product.matrices;
  const auto type = static_cast<WgmmaType>(product.type);
  const auto columns = static_cast<uint32_t>(product.columns);
  matrices.a.resize(16 * kMostOfK);
  matrices.b.resize(columns * kMostOfK);
  const uint32_t first = thread.warp() % 4 * 16;
  for (uint32_t row = 0; row < 16; ++row) {
    matrices.count = ReadRow(*thread.block, product.a, first + row, type, &matrices.a[row * kMostOfK]);
  }
  for (uint32_t row = 0; row < columns; ++row)
    ReadRow(*thread.block, product.b, row, type, &matrices.b[row * kMostOfK]);
  matrices.read = true;
}

// This thread's elements of d. The sum is in F64, rounded once.
void Perform(const Thread& thread, const PendingProduct& product) {
  if (!product.matrices->read) ReadMatrices(thread, product);
  const emulation::ProductMatrices& matrices = *product.matrices;
  const uint32_t group = thread.lane() / 4, pair = 2 * (thread.lane() % 4);
  for (uint32_t eight = 0; eight < static_cast<uint32_t>(product.columns) / 8; ++eight) {
    for (uint32_t i = 0; i < 4; ++i) {
      const double* a = &matrices.a[(group + 8 * (i / 2)) * kMostOfK];
      const double* b = &matrices.b[(8 * eight + pair + i % 2) * kMostOfK];
      float& d = product.d[4 * eight + i];
      double sum = product.accumulate ? d : 0.0;
      for (int k = 0; k < matrices.count; ++k) sum += a[k] * b[k];
      d = static_cast<float>(sum);
    }
  }
}

}  // namespace

void emulation::StartProduct(float* d, int columns, uint64_t a, uint64_t b, WgmmaType type, bool accumulate) {
  Thread* self = Machine::self();
  if (self->number / 128 * 128 + 128 > self->block->threads.size()) {
    Fail(Fault::kMisuse, "a product (wgmma) by fewer than four warps");
  }
  if (!self->products_fenced) Fail(Fault::kMissingFence, "a product (wgmma) without WgmmaFence before it");
  CheckDescriptor(a);
  CheckDescriptor(b);
  Given mine{self, {self->product_groups + 1, d, columns, a, b, static_cast<int>(type), accumulate, nullptr}};
  MeetWarp(0xffffffff, "MultiplyRows", &mine, CheckProduct, Location::current());
  self->products.push_back(mine.product);
}

void WgmmaFence() { Machine::self()->products_fenced = true; }
void WgmmaCommit() { ++Machine::self()->product_groups; }

void emulation::WaitForProducts(uint32_t pending) {
  Thread* self = Machine::self();
  // The accumulators may be touched now, after which another fence is due.
  if (pending == 0) self->products_fenced = false;
  if (self->product_groups <= pending) return;
  const uint32_t done = self->product_groups - pending;
  for (const PendingProduct& product : self->products) {
    if (product.group <= done) Perform(*self, product);
  }
  std::erase_if(self->products, [&](const PendingProduct& product) { return product.group <= done; });
  const uint32_t agent = self->block->product_agents[self->number / 128];
  if (agent != 0) Machine::current()->Learn(self, agent, done);
}

}  // namespace coldstart::cuda
