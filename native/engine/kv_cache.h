// The KV cache as the engine sees it: which sequence of llama.cpp's memory holds which tokens, which prefixes can be
// used again, and what gives way when room is needed. Engine's thread only.
//
// Finished sequences stay as long as nobody needs their room: a request of the same root (see PrefixTree) that starts
// with the same tokens takes them over. How depends on the memory:
// - unified: one pool of cells. Sequences share the cells of a common prefix; it takes no copy and no room.
// - split: a pool of cells for each sequence. A prefix is used again where it lies, or it is copied.
// - uncuttable (recurrent models, sliding windows): a state belongs to exactly the tokens it has seen. Copies of states
//   are kept outside of the cache and put back.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engine/prefix_tree.h"
#include "engine/state_store.h"
#include "llama.h"

namespace coldstart {

struct KvCacheOptions {
  bool unified = true;
  bool cuttable = true;         // see CanCut()
  bool reuse = true;            // keep what is finished, or loaded
  uint32_t parallel = 1;        // sequences at work at the same time
  uint32_t reuse_multiple = 1;  // lengths that are used again are multiples of this
  uint64_t spill_bytes = 0;     // of states outside of the cache
  std::string spill_directory;  // where files for them are made; empty: in main memory
};

// Whether a sequence of this model's memory can be cut anywhere and go on from there.
bool CanCut(const llama_model* model);

class KvCache {
 public:
  struct Lease {
    llama_seq_id sequence;
    uint32_t cached;  // tokens it holds already
  };

  KvCache(llama_context* context, const KvCacheOptions& options);

  using Root = PrefixTree::Root;

  // A sequence for a request, with the first tokens of `tokens` in it as far as they are known, at most `at_most`.
  // None when all sequences are at work. What it will compute has no room yet: see MakeRoom().
  std::optional<Lease> Acquire(Root root, std::span<const llama_token> tokens, uint32_t at_most);

  // How much of the first `length` of these tokens can be used again.
  uint32_t Usable(std::span<const llama_token> tokens, uint32_t length) const;

  // How many of `tokens` could be used again, at most `at_most`.
  uint32_t Known(Root root, std::span<const llama_token> tokens, uint32_t at_most) const;

  // Lets unused prefixes go until `cells` more tokens can be computed; false when that is not enough.
  // In a split cache every sequence has its own room, and the answer is always true.
  bool MakeRoom(uint32_t cells);

  // Whether MakeRoom(cells) would be true.
  bool CouldMakeRoom(uint32_t cells) const;

  // llama.cpp has computed these tokens, at the end of the sequence. Those that are not reusable, and all after them,
  // are nobody else's business; in a cache that shares cells all must be.
  void Append(llama_seq_id sequence, std::span<const llama_token> tokens, bool reusable = true);

  // Drops what llama.cpp has computed beyond what was appended: tokens of a guess that was wrong, of a step given up.
  // False when it did not.
  bool DropRest(llama_seq_id sequence);

  // The state is no longer that of its tokens: it is empty from now on.
  void Spoil(llama_seq_id sequence);

  // The request is done with it. `keep`: its tokens may be used again, up to `length`.
  void Release(llama_seq_id sequence, bool keep, uint32_t length = UINT32_MAX);

  // Keeps a copy of an uncuttable sequence as it is now, to go on from here another time.
  void Checkpoint(llama_seq_id sequence);

  // The sequence's state, as llama.cpp writes it.
  std::vector<uint8_t> Save(llama_seq_id sequence);

  // Makes a state that Save() wrote available to requests that start with `tokens`, unless nothing is to be used again.
  // Trusted bytes only.
  void Load(Root root, std::vector<llama_token> tokens, std::vector<uint8_t> state);

  // Forgets everything that is not at work.
  void Clear();
  // Likewise, of a root.
  void Clear(Root root);

  uint32_t capacity() const { return capacity_; }  // cells
  uint32_t used() const;                           // cells, prefixes kept for later included
  uint32_t at_work() const;                        // of them, of requests
  uint64_t spilled_bytes() const { return states_.bytes(); }

  // Why a state could not be put aside, once.
  std::optional<Error> TakeSpillError() { return std::exchange(spill_error_, std::nullopt); }

 private:
  enum class Use { kFree, kKept, kAtWork };

  struct Sequence {
    Use use = Use::kFree;
    uint64_t last_used = 0;
    Root root = 0;
    std::vector<llama_token> tokens;  // that llama.cpp holds
  };

  // Sequences share cells.
  bool shares() const { return options_.unified && options_.cuttable; }

  // A sequence that holds nothing; the one kept longest goes if need be. There must be one that is not at work.
  llama_seq_id FreeSequence();
  std::optional<llama_seq_id> OldestKept() const;
  llama_seq_id Place(const PrefixTree::Match& match, uint32_t length);
  // Where in the sequence the token after the first `length` ones is.
  llama_pos PositionAfter(llama_seq_id sequence, uint32_t length) const;
  bool Restore(PrefixTree::Holder state, Root root, llama_seq_id sequence, uint32_t length);
  void Cut(llama_seq_id sequence, uint32_t length);
  void Register(llama_seq_id sequence, uint32_t begin);
  void Evict(llama_seq_id sequence);
  void CopyOut(llama_seq_id sequence);
  void PutAside(Root root, std::vector<llama_token> tokens, std::vector<uint8_t> state, bool always);
  void Free(llama_seq_id sequence);

  llama_context* context_;
  llama_memory_t memory_;
  KvCacheOptions options_;
  uint32_t capacity_;
  std::vector<Sequence> sequences_;
  PrefixTree tree_;     // holders are sequences, at work or kept
  PrefixTree at_work_;  // only those at work
  StateStore states_;
  std::optional<Error> spill_error_;
  uint64_t clock_ = 0;
};

}  // namespace coldstart
