// Who holds the keys and values of which tokens: a radix tree over token sequences, each starting at position 0. Pure.
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

  struct Match {
    uint32_t length = 0;
    std::vector<Holder> holders;  // who has these tokens; empty when the length is 0
  };

  PrefixTree();
  ~PrefixTree();

  // Adds tokens to the end of a holder's sequence; an unknown holder starts with none.
  void Append(Holder holder, std::span<const Token> tokens);

  // Cuts a holder's sequence to its first `length` tokens. An empty one stays a holder.
  void Truncate(Holder holder, uint32_t length);

  void Erase(Holder holder);

  // The longest common prefix of `tokens` and any holder's sequence.
  Match Longest(std::span<const Token> tokens) const;

  // The longest whole sequence of a holder that `tokens` starts with.
  Match LongestWhole(std::span<const Token> tokens) const;

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

  std::unique_ptr<Node> root_;
  std::unordered_map<Holder, Node*> ends_;  // where each holder's sequence ends
  uint64_t size_ = 0;
};

}  // namespace coldstart
