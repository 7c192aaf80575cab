#include "engine/prefix_tree.h"

#include <algorithm>

namespace coldstart {

// An edge from the parent and what it leads to. Only roots have no tokens; every leaf is some holder's end.
struct PrefixTree::Node {
  std::vector<Token> tokens;
  Root root = 0;       // of a root: its own
  uint32_t depth = 0;  // tokens from the root to the end of this node
  Node* parent = nullptr;
  std::map<Token, std::unique_ptr<Node>> children;  // by their first token
  std::vector<Holder> holders;                      // whose sequence ends here

  uint32_t start() const { return depth - static_cast<uint32_t>(tokens.size()); }
  bool IsNeeded() const { return !holders.empty() || !children.empty(); }

  // The holders at this node and below.
  void Collect(std::vector<Holder>& all) const {
    all.insert(all.end(), holders.begin(), holders.end());
    for (const auto& [token, child] : children) child->Collect(all);
  }
};

PrefixTree::PrefixTree() = default;
PrefixTree::~PrefixTree() = default;

void PrefixTree::Append(Holder holder, std::span<const Token> tokens, Root root) {
  const auto found = ends_.find(holder);
  Node* node = nullptr;
  if (found == ends_.end()) {
    std::unique_ptr<Node>& start = roots_[root];
    if (start == nullptr) {
      start = std::make_unique<Node>();
      start->root = root;
    }
    node = start.get();
  } else {
    node = found->second;
  }
  // The common case, a token of a running generation: the holder alone is at the end of a branch, which grows.
  const bool alone =
      node->parent != nullptr && node->children.empty() && node->holders.size() == 1 && node->holders.front() == holder;
  if (alone) {
    node->tokens.insert(node->tokens.end(), tokens.begin(), tokens.end());
    node->depth += static_cast<uint32_t>(tokens.size());
    size_ += tokens.size();
    return;
  }

  Node* const before = node;
  std::erase(before->holders, holder);
  while (!tokens.empty()) {
    const auto child = node->children.find(tokens.front());
    if (child == node->children.end()) {
      auto fresh = std::make_unique<Node>();
      fresh->tokens.assign(tokens.begin(), tokens.end());
      fresh->depth = node->depth + static_cast<uint32_t>(tokens.size());
      fresh->parent = node;
      size_ += tokens.size();
      Node* next = fresh.get();
      node->children.emplace(tokens.front(), std::move(fresh));
      node = next;
      break;
    }
    Node* next = child->second.get();
    const auto [mine, theirs] = std::mismatch(tokens.begin(), tokens.end(), next->tokens.begin(), next->tokens.end());
    const auto common = static_cast<uint32_t>(mine - tokens.begin());
    if (theirs != next->tokens.end()) next = Split(next, common);
    tokens = tokens.subspan(common);
    node = next;
  }
  node->holders.push_back(holder);
  ends_[holder] = node;
  if (before != node) Prune(before);
}

// Cuts a node after `length` of its tokens and returns the upper part.
PrefixTree::Node* PrefixTree::Split(Node* node, uint32_t length) {
  Node* parent = node->parent;
  auto upper = std::make_unique<Node>();
  upper->tokens.assign(node->tokens.begin(), node->tokens.begin() + length);
  upper->depth = node->start() + length;
  upper->parent = parent;
  auto& slot = parent->children.at(node->tokens.front());
  std::unique_ptr<Node> lower = std::move(slot);
  lower->tokens.erase(lower->tokens.begin(), lower->tokens.begin() + length);
  lower->parent = upper.get();
  Node* result = upper.get();
  upper->children.emplace(lower->tokens.front(), std::move(lower));
  slot = std::move(upper);
  return result;
}

void PrefixTree::Truncate(Holder holder, uint32_t length) {
  const auto found = ends_.find(holder);
  if (found == ends_.end() || found->second->depth <= length) return;
  Node* node = found->second;
  std::erase(node->holders, holder);
  Node* end = node;
  while (end->parent != nullptr && end->start() >= length) end = end->parent;
  if (end->depth > length) end = Split(end, length - end->start());
  end->holders.push_back(holder);
  found->second = end;
  Prune(node);
}

void PrefixTree::Erase(Holder holder) {
  const auto found = ends_.find(holder);
  if (found == ends_.end()) return;
  Node* node = found->second;
  std::erase(node->holders, holder);
  ends_.erase(found);
  Prune(node);
}

// Removes nodes that lead to no holder, and joins what need not be apart any more.
void PrefixTree::Prune(Node* node) {
  while (!node->IsNeeded()) {
    Node* parent = node->parent;
    if (parent == nullptr) {
      roots_.erase(node->root);
      return;
    }
    size_ -= node->tokens.size();
    parent->children.erase(node->tokens.front());
    node = parent;
  }
  if (node->parent == nullptr || !node->holders.empty() || node->children.size() != 1) return;
  const std::unique_ptr<Node> child = std::move(node->children.begin()->second);
  node->tokens.insert(node->tokens.end(), child->tokens.begin(), child->tokens.end());
  node->depth = child->depth;
  node->holders = std::move(child->holders);
  node->children = std::move(child->children);
  for (auto& [token, grandchild] : node->children) grandchild->parent = node;
  for (const Holder holder : node->holders) ends_[holder] = node;
}

PrefixTree::Match PrefixTree::Longest(std::span<const Token> tokens, Root root) const {
  const auto start = roots_.find(root);
  if (start == roots_.end()) return {};
  const Node* node = start->second.get();
  uint32_t length = 0;
  while (!tokens.empty()) {
    const auto child = node->children.find(tokens.front());
    if (child == node->children.end()) break;
    node = child->second.get();
    const auto [mine, theirs] = std::mismatch(tokens.begin(), tokens.end(), node->tokens.begin(), node->tokens.end());
    const auto common = static_cast<uint32_t>(mine - tokens.begin());
    length += common;
    tokens = tokens.subspan(common);
    if (theirs != node->tokens.end()) break;
  }
  Match match{length, {}};
  if (length > 0) node->Collect(match.holders);
  return match;
}

PrefixTree::Match PrefixTree::LongestWhole(std::span<const Token> tokens, Root root) const {
  const auto start = roots_.find(root);
  if (start == roots_.end()) return {};
  const Node* node = start->second.get();
  Match best;
  while (!tokens.empty()) {
    const auto child = node->children.find(tokens.front());
    if (child == node->children.end()) break;
    node = child->second.get();
    if (node->tokens.size() > tokens.size() || !std::equal(node->tokens.begin(), node->tokens.end(), tokens.begin()))
      break;
    tokens = tokens.subspan(node->tokens.size());
    if (!node->holders.empty()) best = {node->depth, node->holders};
  }
  return best;
}

uint32_t PrefixTree::Length(Holder holder) const {
  const auto found = ends_.find(holder);
  return found == ends_.end() ? 0 : found->second->depth;
}

uint32_t PrefixTree::Exclusive(Holder holder) const {
  const auto found = ends_.find(holder);
  if (found == ends_.end()) return 0;
  const Node* node = found->second;
  if (!node->children.empty() || node->holders.size() > 1) return 0;
  const uint32_t depth = node->depth;
  while (node->parent != nullptr && node->parent->children.size() == 1 && node->parent->holders.empty())
    node = node->parent;
  return depth - node->start();
}

}  // namespace coldstart
