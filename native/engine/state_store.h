// States of sequences outside of the KV cache, by the root and the tokens they belong to (see PrefixTree), with a bound
// on their bytes: the ones used longest ago go first.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/prefix_tree.h"
#include "engine/spilled_state.h"

namespace coldstart {

class StateStore {
 public:
  using Token = PrefixTree::Token;
  using Root = PrefixTree::Root;

  // `directory`: where files for the states are made; empty: they stay in main memory.
  StateStore(uint64_t max_bytes, std::string directory) : max_bytes_(max_bytes), directory_(std::move(directory)) {}

  // Keeps a state, in the place of one of the same tokens. One that alone is larger than the bound is not kept, unless
  // `always`: then it stays until another one is put. Throws kSpillFailed.
  void Put(Root root, std::vector<Token> tokens, std::vector<uint8_t> state, bool always = false);

  // The state with the most tokens in common with `tokens`; with `whole`, one that has no tokens beyond those.
  PrefixTree::Match Longest(Root root, std::span<const Token> tokens, bool whole) const;

  // The state behind a holder of a match; it counts as used now. Throws kSpillFailed.
  std::vector<uint8_t> Use(PrefixTree::Holder holder);
  const std::vector<Token>& Tokens(PrefixTree::Holder holder) const;

  void Erase(PrefixTree::Holder holder);
  void EraseAll(Root root);
  void Clear();

  uint64_t bytes() const { return bytes_; }
  uint64_t max_bytes() const { return max_bytes_; }

 private:
  struct Entry {
    Root root;
    std::vector<Token> tokens;
    SpilledState state;
    std::list<PrefixTree::Holder>::iterator order;
  };

  static uint64_t BytesOf(const Entry& entry) { return entry.state.size() + entry.tokens.size() * sizeof(Token); }

  uint64_t max_bytes_;
  std::string directory_;
  uint64_t bytes_ = 0;
  PrefixTree::Holder next_ = 0;
  PrefixTree tree_;
  std::unordered_map<PrefixTree::Holder, Entry> entries_;
  std::list<PrefixTree::Holder> order_;  // used longest ago first
};

}  // namespace coldstart
