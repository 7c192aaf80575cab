#include "engine/grammar.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>
#include <utility>
#include <vector>

#include "engine/grammar_parser.h"

namespace coldstart {

namespace {

constexpr size_t kMaxBytes = 1 << 20;
// llama.cpp's search for left recursion calls itself for each rule that another may begin with, again for each place
// where it does.
constexpr uint64_t kMaxChain = 10'000;
constexpr uint64_t kMaxVisits = 100'000'000;  // of elements

// That a rule may begin with another.
struct Edge {
  size_t to;
  bool seen;  // by llama.cpp, which takes for empty only rules that have an alternative of nothing
  bool rest;  // something comes after it: llama.cpp would put that aside without end
};
using Edges = std::vector<std::vector<Edge>>;

template <typename OnAlternative>
void ForEachAlternative(const std::vector<Element>& elements, const OnAlternative& on_alternative) {
  auto begin = elements.begin();
  while (true) {
    const auto end = std::find(begin, elements.end(), kOr);
    on_alternative(std::span<const Element>(begin, end));
    if (end == elements.end()) return;
    begin = end + 1;
  }
}

// Which rules can be nothing at all.
std::vector<bool> Nullable(const std::vector<Symbol>& symbols) {
  struct Alternative {
    size_t rule;
    size_t missing;  // elements that are not known to be nullable
  };
  std::vector<Alternative> alternatives;
  std::vector<std::vector<size_t>> uses(symbols.size());  // by alternatives without characters
  std::vector<bool> nullable(symbols.size());
  std::vector<size_t> fresh;
  const auto found = [&](size_t rule) {
    if (nullable[rule]) return;
    nullable[rule] = true;
    fresh.push_back(rule);
  };
  for (size_t rule = 0; rule < symbols.size(); ++rule) {
    ForEachAlternative(symbols[rule].elements, [&](std::span<const Element> elements) {
      if (elements.empty()) found(rule);
      if (std::find(elements.begin(), elements.end(), kCharacter) != elements.end()) return;
      for (const Element element : elements) uses[static_cast<size_t>(element)].push_back(alternatives.size());
      alternatives.push_back({rule, elements.size()});
    });
  }
  while (!fresh.empty()) {
    const size_t rule = fresh.back();
    fresh.pop_back();
    for (const size_t use : uses[rule]) {
      if (--alternatives[use].missing == 0) found(alternatives[use].rule);
    }
  }
  return nullable;
}

Edges Beginnings(const std::vector<Symbol>& symbols) {
  const std::vector<bool> nullable = Nullable(symbols);
  std::vector<bool> plainly(symbols.size());  // nullable as far as llama.cpp sees it
  for (size_t rule = 0; rule < symbols.size(); ++rule) {
    ForEachAlternative(symbols[rule].elements, [&](std::span<const Element> elements) {
      if (elements.empty()) plainly[rule] = true;
    });
  }
  Edges edges(symbols.size());
  for (size_t rule = 0; rule < symbols.size(); ++rule) {
    ForEachAlternative(symbols[rule].elements, [&](std::span<const Element> elements) {
      bool seen = true;
      for (size_t i = 0; i < elements.size() && elements[i] != kCharacter; ++i) {
        const auto to = static_cast<size_t>(elements[i]);
        edges[rule].push_back({to, seen, i + 1 < elements.size()});
        if (!nullable[to]) break;
        seen = seen && plainly[to];
      }
    });
  }
  return edges;
}

// Goes through all rules, depth first and without calling itself. `on_back(path)`: the last rule of the path is on it
// already. `on_done(path)`: all that its last rule leads to are done.
template <typename Follow, typename OnBack, typename OnDone>
void Search(const Edges& edges, const Follow& follow, const OnBack& on_back, const OnDone& on_done) {
  enum class State : uint8_t { kNew, kOnPath, kDone };
  std::vector<State> state(edges.size(), State::kNew);
  std::vector<size_t> path;
  std::vector<size_t> next;  // edge of each rule of the path
  for (size_t start = 0; start < edges.size(); ++start) {
    if (state[start] != State::kNew) continue;
    path = {start};
    next = {0};
    state[start] = State::kOnPath;
    while (!path.empty()) {
      const size_t rule = path.back();
      if (next.back() == edges[rule].size()) {
        state[rule] = State::kDone;
        on_done(path);
        path.pop_back();
        next.pop_back();
        continue;
      }
      const Edge& edge = edges[rule][next.back()++];
      if (!follow(edge) || state[edge.to] == State::kDone) continue;
      path.push_back(edge.to);
      if (state[edge.to] == State::kOnPath) {
        on_back(path);
        path.pop_back();
        continue;
      }
      next.push_back(0);
      state[edge.to] = State::kOnPath;
    }
  }
}

// Says that the first rule of a circle begins with itself; the last is the first again.
[[noreturn]] void RefuseCircle(std::string_view grammar, const std::vector<Symbol>& symbols,
                               std::span<const size_t> circle) {
  const auto is_named = [&](size_t rule) { return symbols[rule].named; };
  const auto first = std::find_if(circle.begin(), circle.end(), is_named);
  if (first == circle.end())
    RefuseGrammarAt(grammar, symbols[circle.front()].at, "what is repeated here can be nothing at all");
  std::vector<size_t> named;
  std::copy_if(first, circle.end(), std::back_inserter(named), is_named);
  std::copy_if(circle.begin() + 1, first + 1, std::back_inserter(named), is_named);
  named.erase(std::unique(named.begin(), named.end()), named.end());
  if (named.size() == 1) named.push_back(named.front());
  std::string chain = symbols[named.front()].name;
  for (size_t i = 1; i < named.size(); ++i) {
    chain += (i == 1 ? " begins with " : ", which begins with ") + symbols[named[i]].name;
  }
  RefuseGrammarAt(grammar, symbols[named.front()].at, "the rule " + chain + ": no rule can begin with itself");
}

void CheckRecursion(std::string_view grammar, const std::vector<Symbol>& symbols) {
  const Edges edges = Beginnings(symbols);
  const auto refuse_back = [&](const std::vector<size_t>& path) {
    const auto first = std::find(path.begin(), path.end(), path.back());
    RefuseCircle(grammar, symbols, std::span<const size_t>(first, path.end()));
  };

  // What llama.cpp's search does: how deep it goes, and how many rules it looks at.
  std::vector<uint64_t> visits(edges.size());
  std::vector<uint64_t> chain(edges.size());
  uint64_t total = 0;
  const auto count = [&](const std::vector<size_t>& path) {
    const size_t rule = path.back();
    visits[rule] = 1 + symbols[rule].elements.size();
    for (const Edge& edge : edges[rule]) {
      if (!edge.seen) continue;
      visits[rule] = std::min(visits[rule] + visits[edge.to], kMaxVisits + 1);
      chain[rule] = std::max(chain[rule], chain[edge.to] + 1);
    }
    if (path.size() == 1) total += visits[rule];
    if (visits[rule] > kMaxVisits || total > kMaxVisits || chain[rule] > kMaxChain) {
      RefuseGrammarSize("there are too many ways in which rules begin with rules");
    }
  };
  Search(
      edges, [](const Edge& edge) { return edge.seen; }, refuse_back, count);

  // Circles that it does not see; those without anything to put aside come to an end. Of the other circles, one is
  // found by going back from a rule to those that lead to it: strongly connected components, by Kosaraju.
  std::vector<size_t> order;
  Search(
      edges, [](const Edge&) { return true; }, [](const auto&) {},
      [&](const std::vector<size_t>& path) { order.push_back(path.back()); });
  Edges back(edges.size());
  for (size_t rule = 0; rule < edges.size(); ++rule) {
    for (const Edge& edge : edges[rule]) back[edge.to].push_back({rule, edge.seen, edge.rest});
  }
  std::vector<size_t> component(edges.size(), SIZE_MAX);
  for (auto root = order.rbegin(); root != order.rend(); ++root) {
    std::vector<size_t> todo = {*root};
    while (!todo.empty()) {
      const size_t rule = todo.back();
      todo.pop_back();
      if (component[rule] != SIZE_MAX) continue;
      component[rule] = *root;
      for (const Edge& edge : back[rule]) todo.push_back(edge.to);
    }
  }
  for (size_t rule = 0; rule < edges.size(); ++rule) {
    for (const Edge& edge : edges[rule]) {
      if (edge.rest && component[edge.to] == component[rule]) {
        const size_t circle[] = {rule, edge.to, rule};
        RefuseCircle(grammar, symbols, edge.to == rule ? std::span(circle).first(2) : std::span(circle));
      }
    }
  }
}

}  // namespace

void CheckGrammar(std::string_view grammar, const GrammarVocabulary& vocabulary) {
  if (grammar.size() > kMaxBytes) {
    RefuseGrammarSize("it has " + std::to_string(grammar.size()) + " bytes, and at most " + std::to_string(kMaxBytes) +
                      " are taken");
  }
  CheckRecursion(grammar, ParseGrammar(grammar, vocabulary));
}

}  // namespace coldstart
