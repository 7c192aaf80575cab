// Who holds the keys and values of which tokens: radix trees over token sequences, each starting at position 0.
// Sequences of different roots have nothing in common. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

namespace coldstart {

class PrefixTree {
 public:
  using Token = int32_t;
  using Holder = int32_t;
  using Root = uint32_t;

  struct Match {
    uint32_t length = 0;
    std::vector<Holder> holders;  // who has these tokens; empty when the length is 0
  };

  PrefixTree();
  ~PrefixTree();

  // Adds tokens to the end of a holder's sequence; an unknown holder starts with none, at `root`.
  void Append(Holder holder, std::span<const Token> tokens, Root root = 0);

  // Cuts a holder's sequence to its first `length` tokens. An empty one stays a holder.
  void Truncate(Holder holder, uint32_t length);

  void Erase(Holder holder);

  // The longest common prefix of `tokens` and any holder's sequence of this root.
  Match Longest(std::span<const Token> tokens, Root root = 0) const;

  // The longest whole sequence of a holder of this root that `tokens` starts with.
  Match LongestWhole(std::span<const Token> tokens, Root root = 0) const;

  uint32_t Length(Holder holder) const;  // 0 when unknown

  // Tokens in all the sequences together, shared prefixes counted once.
  uint64_t size() const { return size_; }

  // Tokens that only this holder has: what erasing it would free.
  uint32_t Exclusive(Holder holder) const;

 private:
  struct Node;

  Node* Split(Node* node, uint32_t length);
  void Detach(Holder holder);
  void Prune(Node* node);

  std::map<Root, std::unique_ptr<Node>> roots_;  // those with holders
  std::unordered_map<Holder, Node*> ends_;       // where each holder's sequence ends
  uint64_t size_ = 0;
};

}  // namespace coldstart
