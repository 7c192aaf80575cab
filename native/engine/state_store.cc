#include "engine/state_store.h"

#include <utility>

namespace coldstart {

namespace {

// Each may be an open file, and a process may have some thousand of these.
constexpr size_t kMaxEntries = 256;

}  // namespace

void StateStore::Put(Root root, std::vector<Token> tokens, std::vector<uint8_t> state, bool always) {
  const PrefixTree::Match same = tree_.LongestWhole(tokens, root);
  if (same.length == tokens.size() && !same.holders.empty()) Erase(same.holders.front());

  const uint64_t bytes = state.size() + tokens.size() * sizeof(Token);
  if (bytes > max_bytes_ && !always) return;
  while (!order_.empty() && (bytes_ + bytes > max_bytes_ || order_.size() >= kMaxEntries)) Erase(order_.front());
  const PrefixTree::Holder holder = next_++;
  Entry entry{root, std::move(tokens), SpilledState(std::move(state), directory_), {}};
  tree_.Append(holder, entry.tokens, root);
  entry.order = order_.insert(order_.end(), holder);
  bytes_ += bytes;
  entries_.emplace(holder, std::move(entry));
}

PrefixTree::Match StateStore::Longest(Root root, std::span<const Token> tokens, bool whole) const {
  return whole ? tree_.LongestWhole(tokens, root) : tree_.Longest(tokens, root);
}

std::vector<uint8_t> StateStore::Use(PrefixTree::Holder holder) {
  Entry& entry = entries_.at(holder);
  order_.splice(order_.end(), order_, entry.order);
  return entry.state.Read();
}

const std::vector<StateStore::Token>& StateStore::Tokens(PrefixTree::Holder holder) const {
  return entries_.at(holder).tokens;
}

void StateStore::Erase(PrefixTree::Holder holder) {
  const auto found = entries_.find(holder);
  if (found == entries_.end()) return;
  bytes_ -= BytesOf(found->second);
  order_.erase(found->second.order);
  tree_.Erase(holder);
  entries_.erase(found);
}

void StateStore::EraseAll(Root root) {
  std::vector<PrefixTree::Holder> holders;
  for (const auto& [holder, entry] : entries_) {
    if (entry.root == root) holders.push_back(holder);
  }
  for (const PrefixTree::Holder holder : holders) Erase(holder);
}

void StateStore::Clear() {
  while (!order_.empty()) Erase(order_.front());
}

}  // namespace coldstart
