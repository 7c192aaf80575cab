// A part of a matrix on its way to the tensor cores: from global to shared memory, and from there to fragments of mma
// instructions.
//
// A tile has kRows rows (of op(A), or columns of op(B)) and 64 bytes of each along k: 32 elements of 16 bits, or 16 of
// F32. In global memory the elements along k are contiguous (kAlongK), or those across it are. Shared memory keeps that
// order, so that all copies are of 16 bytes, which are called pieces; pieces are permuted within their line so that the
// eight that a matrix load reads at a time lie in different banks.
#pragma once

#include "cuda/device/async_copy.cuh"
#include "cuda/device/mma.cuh"
#include "cuda/device/platform.cuh"
#include "cuda/device/shared.cuh"
#include "cuda/gemm/problem.h"

namespace coldstart::cuda {

template <Element kType, bool kAlongK, int kRows, int kThreads>
struct MmaOperand {
  static constexpr int kElementBytes = kType == Element::kF32 ? 4 : 2;
  static constexpr int kStep = 64 / kElementBytes;      // elements along k
  static constexpr int kPerPiece = 16 / kElementBytes;  // elements of 16 bytes
  static constexpr int kBytes = kRows * 64;
  static constexpr int kPiecesOfLine = kAlongK ? 4 : kRows / kPerPiece;
  static constexpr int kPieces = kBytes / 16;
  static constexpr int kPiecesOfThread = (kPieces + kThreads - 1) / kThreads;

  // Where a piece lies: a line is a row of the tile when it runs along k, and one k otherwise.
  static __device__ uint32_t OffsetOf(int line, int piece) {
    int swap;
    if (kAlongK) {
      swap = line / 2 % 4;
    } else if (kType == Element::kF32) {
      swap = 2 * (line % 4);
    } else {
      swap = line % 8;
    }
    return (line * kPiecesOfLine + (piece ^ (swap & (kPiecesOfLine - 1)))) * 16;
  }

  // The matrix, what is left of it from the tile's first row on, and the end along k.
  struct Source {
    const char* base;
    int64_t line_bytes;  // from one row (kAlongK) or one k to the next
    int rows;            // of the matrix, from this tile's first on
    int k_end;
    bool aligned;  // pieces begin at multiples of 16
  };

  static __device__ Source SourceOf(const Matrices& matrices, int member, int row0, int rows, int k_end) {
    const char* base =
        static_cast<const char*>(matrices.pointers != nullptr ? matrices.pointers[member] : matrices.base);
    if (matrices.pointers == nullptr) base += member * matrices.stride * kElementBytes;
    base += row0 * (kAlongK ? matrices.ld : 1) * kElementBytes;
    const int64_t line_bytes = matrices.ld * kElementBytes;
    const bool aligned = (reinterpret_cast<uintptr_t>(base) | static_cast<uintptr_t>(line_bytes)) % 16 == 0;
    return Source{base, line_bytes, rows - row0, k_end, aligned};
  }

  // The piece that this thread moves as its i-th, for the tile that begins at k0.
  struct Piece {
    const char* from;
    uint32_t to;     // offset in the tile
    uint32_t valid;  // bytes inside the matrix
    bool exists;
  };

  static __device__ Piece PieceOf(const Source& source, int thread, int i, int k0) {
    const int index = thread + i * kThreads;
    const int line = index / kPiecesOfLine;
    const int piece = index % kPiecesOfLine;
    const int row = kAlongK ? line : piece * kPerPiece;
    const int k = k0 + (kAlongK ? piece * kPerPiece : line);
    const int left =
        kAlongK ? source.k_end - k : source.rows - row;  // elements from the piece's first to the end of the line
    const bool line_exists = kAlongK ? row < source.rows : k < source.k_end;
    Piece result;
    result.exists = kPieces % kThreads == 0 || index < kPieces;
    result.valid = line_exists && left > 0 ? (left < kPerPiece ? left * kElementBytes : 16) : 0;
    result.from = source.base;
    if (result.valid != 0) {
      result.from += (kAlongK ? row : k) * source.line_bytes + static_cast<int64_t>(kAlongK ? k : row) * kElementBytes;
    }
    result.to = OffsetOf(line, piece);
    return result;
  }

  // Starts the copies of the tile that begins at k0. Where the matrix is not aligned for them, does them at once.
  static __device__ void LoadAsync(const Source& source, int thread, int k0, SharedAddress tile) {
    if (source.aligned) {
#pragma unroll
      for (int i = 0; i < kPiecesOfThread; ++i) {
        const Piece piece = PieceOf(source, thread, i, k0);
        if (piece.exists) CopyAsync16(tile + piece.to, piece.from, piece.valid);
      }
    } else {
#pragma unroll 1
      for (int i = 0; i < kPiecesOfThread; ++i) {
        const Piece piece = PieceOf(source, thread, i, k0);
        if (piece.exists) store_shared<uint4>(tile + piece.to, ReadPiece(piece));
      }
    }
  }

  // The same into registers.
  static __device__ void Load(const Source& source, int thread, int k0, uint4 (&registers)[kPiecesOfThread]) {
#pragma unroll
    for (int i = 0; i < kPiecesOfThread; ++i) {
      const Piece piece = PieceOf(source, thread, i, k0);
      if (piece.exists) registers[i] = ReadPiece(piece);
    }
  }

  static __device__ void Store(const uint4 (&registers)[kPiecesOfThread], int thread, SharedAddress tile) {
#pragma unroll
    for (int i = 0; i < kPiecesOfThread; ++i) {
      const int index = thread + i * kThreads;
      if (kPieces % kThreads == 0 || index < kPieces) {
        store_shared<uint4>(tile + OffsetOf(index / kPiecesOfLine, index % kPiecesOfLine), registers[i]);
      }
    }
  }

  // Fragments of 32 bytes along k, those of number `half` (0 or 1), for 16 rows from `row` on.
  //
  // As the first factor of an instruction: 16 rows. As the second: two factors of eight columns each.
  static __device__ void LoadFirst(uint32_t (&fragment)[4], SharedAddress tile, int row, int half, int lane) {
    LoadFragments(fragment, tile, row + lane / 8 % 2 * 8, half * 2 + lane / 16, row, half, lane, false);
  }

  static __device__ void LoadSecond(uint32_t (&fragments)[2][2], SharedAddress tile, int row, int half, int lane) {
    uint32_t registers[4];
    LoadFragments(registers, tile, row + lane / 16 * 8, half * 2 + lane / 8 % 2, row, half, lane, true);
    fragments[0][0] = registers[0];
    fragments[0][1] = registers[1];
    fragments[1][0] = registers[2];
    fragments[1][1] = registers[3];
  }

 private:
  // From any address that elements may have.
  static __device__ uint4 ReadPiece(const Piece& piece) {
    if (piece.valid == 16 && reinterpret_cast<uintptr_t>(piece.from) % 16 == 0) {
      return *reinterpret_cast<const uint4*>(piece.from);
    }
    uint32_t words[4] = {0, 0, 0, 0};
#pragma unroll
    for (int e = 0; e < kPerPiece; ++e) {
      if (e * kElementBytes >= static_cast<int>(piece.valid)) continue;
      if constexpr (kElementBytes == 4) {
        words[e] = reinterpret_cast<const uint32_t*>(piece.from)[e];
      } else {
        words[e / 2] |= static_cast<uint32_t>(reinterpret_cast<const uint16_t*>(piece.from)[e]) << (e % 2 * 16);
      }
    }
    return uint4{words[0], words[1], words[2], words[3]};
  }

  // matrix_row: the first row of the 8x8 matrix (of 16-byte rows) whose row's address this lane gives; matrix_piece:
  // its number along k.
  static __device__ void LoadFragments(uint32_t (&r)[4], SharedAddress tile, int matrix_row, int matrix_piece, int row,
                                       int half, int lane, bool second) {
    if (kAlongK) {
      LoadMatrix4(r, tile + OffsetOf(matrix_row + lane % 8, matrix_piece));
    } else if (kType != Element::kF32) {
      LoadMatrix4Transposed(r, tile + OffsetOf(matrix_piece * 8 + lane % 8, matrix_row / 8));
    } else {
      // No instruction transposes 32-bit elements: register i has row group (+ 8), and k lane % 4 (+ 4).
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int further = second ? i / 2 : i % 2;
        const int k = half * 8 + lane % 4 + (second ? i % 2 : i / 2) * 4;
        const int at = row + lane / 4 + further * 8;
        r[i] = load_shared<uint32_t>(tile + OffsetOf(k, at / 4) + at % 4 * 4);
      }
    }
    if (kType == Element::kF32) {
#pragma unroll
      for (int i = 0; i < 4; ++i) r[i] = RoundToTf32(r[i]);
    }
  }
};

}  // namespace coldstart::cuda
