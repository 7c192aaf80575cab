// Matrix instructions of a warp: the last lane to come does what all of them asked for.
#include "cuda/device/mma.cuh"

#include <bit>
#include <string>

#include "testing/cuda_emulation/machine.h"

namespace coldstart::cuda {
namespace {

using emulation::Fail;
using emulation::Fault;
using emulation::HalfBitsToFloat;
using emulation::Location;
using emulation::Machine;
using emulation::MeetWarp;
using emulation::Thread;
using emulation::Touch;

constexpr uint32_t kEveryLane = 0xffffffff;

void RequireWholeWarp(uint32_t mask, const char* kind) {
  if (mask != kEveryLane) Fail(Fault::kMisuse, std::string(kind) + " by a warp of fewer than 32 lanes");
}

// --- Fragments from and to shared memory
// ---------------------------------------------------------------------------------

struct MatrixAccess {
  Thread* thread;
  SharedAddress row;
  uint32_t* registers;
};

unsigned char* ReachRow(const MatrixAccess& of, Touch touch) {
  if (of.row % 16 != 0) {
    Fail(Fault::kMisaligned, "a row of a matrix at byte " +
                                 std::to_string((of.row & 0xffffff) - emulation::kSharedStart) +
                                 " of shared memory, which is no multiple of 16");
  }
  return Machine::current()->Reach(of.thread, of.row, 16, touch, Location::current());
}

// Element (i, j) of matrix m is half `j % 2` of the register m of lane 4 * i + j / 2; transposed, (j, i) is.
template <int kMatrices, bool kTransposed, bool kStore>
void MoveMatrices(void* const (&given)[32], uint32_t mask) {
  RequireWholeWarp(mask, "a matrix load or store");
  for (int matrix = 0; matrix < kMatrices; ++matrix) {
    for (int row = 0; row < 8; ++row) {
      unsigned char* bytes =
          ReachRow(*static_cast<MatrixAccess*>(given[8 * matrix + row]), kStore ? Touch::kWrite : Touch::kRead);
      for (int column = 0; column < 8; ++column) {
        const int i = kTransposed ? column : row;
        const int j = kTransposed ? row : column;
        uint32_t& word = static_cast<MatrixAccess*>(given[4 * i + j / 2])->registers[matrix];
        const int shift = 16 * (j % 2);
        uint16_t element;
        if constexpr (kStore) {
          element = static_cast<uint16_t>(word >> shift);
          std::memcpy(bytes + 2 * column, &element, 2);
        } else {
          std::memcpy(&element, bytes + 2 * column, 2);
          word = (word & ~(0xffffu << shift)) | static_cast<uint32_t>(element) << shift;
        }
      }
    }
  }
}

template <int kMatrices, bool kTransposed, bool kStore>
void MoveMatrices(const char* kind, SharedAddress row, uint32_t* registers) {
  MatrixAccess mine{Machine::self(), row, registers};
  MeetWarp(kEveryLane, kind, &mine, MoveMatrices<kMatrices, kTransposed, kStore>, Location::current());
}

// --- Products
// ------------------------------------------------------------------------------------------------------------

struct Product {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
};

enum class Element { kF16, kBf16, kTf32 };

template <Element kElement>
double ValueOf(uint32_t word, int half) {
  if constexpr (kElement == Element::kTf32) return std::bit_cast<float>(word & 0xffffe000);
  const auto bits = static_cast<uint16_t>(word >> (16 * half));
  return kElement == Element::kF16 ? HalfBitsToFloat(bits) : emulation::BfloatBitsToFloat(bits);
}

// The sum in F64, rounded once. The order of lanes' elements is that of mma.cuh.
template <Element kElement, int kK>
void Multiply(void* const (&given)[32], uint32_t mask) {
  RequireWholeWarp(mask, "a matrix product");
  constexpr bool kWide = kElement == Element::kTf32;
  double a[16][kK], b[kK][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& of = *static_cast<Product*>(given[lane]);
    const int group = lane / 4;
    constexpr int kRegisters = kWide ? 2 : kK / 8;  // along k
    for (int i = 0; i < kRegisters; ++i) {
      for (int half = 0; half < (kWide ? 1 : 2); ++half) {
        const int k = kWide ? 4 * i + lane % 4 : 8 * i + 2 * (lane % 4) + half;
        a[group][k] = ValueOf<kElement>(of.a[2 * i], half);
        a[group + 8][k] = ValueOf<kElement>(of.a[2 * i + 1], half);
        b[k][group] = ValueOf<kElement>(of.b[i], half);
      }
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const auto& of = *static_cast<Product*>(given[lane]);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      double sum = of.d[i];
      for (int k = 0; k < kK; ++k) sum += a[row][k] * b[k][column];
      of.d[i] = static_cast<float>(sum);
    }
  }
}

template <Element kElement, int kK>
void Multiply(const char* kind, float* d, const uint32_t* a, const uint32_t* b) {
  Product mine{d, a, b};
  MeetWarp(kEveryLane, kind, &mine, Multiply<kElement, kK>, Location::current());
}

}  // namespace

void LoadMatrix4(uint32_t (&registers)[4], SharedAddress row) {
  MoveMatrices<4, false, false>("LoadMatrix4", row, registers);
}
void LoadMatrix2(uint32_t (&registers)[2], SharedAddress row) {
  MoveMatrices<2, false, false>("LoadMatrix2", row, registers);
}
void LoadMatrix4Transposed(uint32_t (&registers)[4], SharedAddress row) {
  MoveMatrices<4, true, false>("LoadMatrix4Transposed", row, registers);
}
void LoadMatrix2Transposed(uint32_t (&registers)[2], SharedAddress row) {
  MoveMatrices<2, true, false>("LoadMatrix2Transposed", row, registers);
}
void StoreMatrix4Transposed(SharedAddress row, const uint32_t (&registers)[4]) {
  MoveMatrices<4, true, true>("StoreMatrix4Transposed", row, const_cast<uint32_t*>(registers));
}
void StoreMatrix2Transposed(SharedAddress row, const uint32_t (&registers)[2]) {
  MoveMatrices<2, true, true>("StoreMatrix2Transposed", row, const_cast<uint32_t*>(registers));
}

void MultiplyF16K8(float (&d)[4], const uint32_t (&a)[2], uint32_t b) {
  Multiply<Element::kF16, 8>("MultiplyF16K8", d, a, &b);
}
void MultiplyF16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  Multiply<Element::kF16, 16>("MultiplyF16", d, a, b);
}
void MultiplyBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  Multiply<Element::kBf16, 16>("MultiplyBf16", d, a, b);
}
void MultiplyTf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  Multiply<Element::kTf32, 8>("MultiplyTf32", d, a, b);
}

uint32_t RoundToTf32(uint32_t bits) {
  // Neither rounds: what is left of a NaN may be an infinity.
  if ((bits & 0x7f800000) == 0x7f800000) return bits & 0xffffe000;
  return (bits + 0x1000) & 0xffffe000;
}

}  // namespace coldstart::cuda
