#include "engine/grammar_parser.h"

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/error.h"

namespace coldstart {

namespace {

// llama.cpp's parser calls itself for each level of parentheses.
constexpr int kMaxDepth = 200;
constexpr size_t kMaxRules = 10'000;
// What repetitions are written out to.
constexpr uint64_t kMaxElements = 4'000'000;
// Of llama.cpp (MAX_REPETITION_THRESHOLD).
constexpr uint64_t kMaxRepetitions = 2000;

constexpr uint64_t kNoMaximum = UINT64_MAX;

[[noreturn]] void Refuse(const std::string& reason, std::vector<ErrorDetail> details, const std::string& where = "") {
  details.emplace_back("reason", reason);
  throw Error(
      ErrorCode::kInvalidGrammar,
      (where.empty() ? "The grammar is not valid: " : "The grammar is not valid at " + where + ": ") + reason + ".",
      "llama.cpp's grammars/README.md describes the notation.", std::move(details));
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsWord(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || IsDigit(c); }
bool IsHex(char c) { return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

// Reads a grammar as llama.cpp's parser does: the same is taken, and written out to the same rules.
class Parser {
 public:
  Parser(std::string_view text, const GrammarVocabulary& vocabulary) : text_(text), vocabulary_(vocabulary) {}

  std::vector<Symbol> Parse() {
    const size_t zero = text_.find('\0');
    if (zero != std::string_view::npos) Fail(zero, "there is a NUL character");
    SkipSpace(true);
    while (!AtEnd()) Rule();
    for (const Symbol& symbol : symbols_) {
      if (!symbol.defined) Fail(symbol.at, "there is no rule named " + symbol.name);
    }
    if (!ids_.contains("root")) Refuse("there is no rule named root, where a text starts", {});
    return std::move(symbols_);
  }

 private:
  [[noreturn]] void Fail(size_t at, const std::string& reason) const { RefuseGrammarAt(text_, at, reason); }

  bool AtEnd() const { return at_ >= text_.size(); }
  // The character `ahead` of here; NUL beyond the end.
  char Peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }

  // The character at `at`, to be named in a message.
  std::string Shown(size_t at) const {
    if (at >= text_.size()) return "the end";
    if (text_[at] == '\n' || text_[at] == '\r') return "the end of the line";
    size_t end = at + 1;
    while (end < text_.size() && (text_[end] & 0xC0) == 0x80) ++end;
    return std::string(text_.substr(at, end - at));
  }

  void SkipSpace(bool lines) {
    while (Peek() == ' ' || Peek() == '\t' || Peek() == '#' || (lines && (Peek() == '\r' || Peek() == '\n'))) {
      if (Peek() == '#') {
        while (!AtEnd() && Peek() != '\r' && Peek() != '\n') ++at_;
      } else {
        ++at_;
      }
    }
  }

  std::string_view Word() {
    const size_t begin = at_;
    while (IsWord(Peek())) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  std::string_view Digits() {
    const size_t begin = at_;
    while (IsDigit(Peek())) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  Element Named(std::string_view name, size_t at) {
    const auto [found, is_new] = ids_.emplace(name, static_cast<Element>(symbols_.size()));
    if (is_new) symbols_.push_back({std::string(name), at, true, false, {}});
    return found->second;
  }

  Element Made(const std::string& rule, size_t at) {
    symbols_.push_back({rule, at, false, false, {}});
    return static_cast<Element>(symbols_.size() - 1);
  }

  void Define(Element id, std::vector<Element> elements) {
    Symbol& symbol = symbols_[static_cast<size_t>(id)];
    symbol.elements = std::move(elements);
    symbol.defined = true;
  }

  // Before so many elements are added.
  void Count(uint64_t elements) {
    elements_ += elements;
    if (elements_ > kMaxElements) {
      RefuseGrammarSize("its repetitions make more than " + std::to_string(kMaxElements) +
                        " characters and rules of it");
    }
  }

  void Rule() {
    const size_t begin = at_;
    const std::string name(Word());
    if (name.empty()) {
      Fail(at_, Peek() == '|' ? "a line begins with |: a rule goes on in the next line only within ( ) or after a |"
                              : "the name of a rule was expected, not " + Shown(at_));
    }
    SkipSpace(false);
    const Element id = Named(name, begin);
    symbols_[static_cast<size_t>(id)].at = begin;
    if (text_.substr(at_, 3) != "::=") {
      Fail(at_, Peek() == '_' ? "the name of a rule has letters, digits and -, but no _"
                              : "::= was expected after the name " + name + ", not " + Shown(at_));
    }
    if (++rules_ > kMaxRules) RefuseGrammarSize("it has more than " + std::to_string(kMaxRules) + " rules");
    at_ += 3;
    SkipSpace(true);
    Alternatives(name, id, 0);
    if (Peek() == '\r') {
      at_ += Peek(1) == '\n' ? 2 : 1;
    } else if (Peek() == '\n') {
      ++at_;
    } else if (!AtEnd()) {
      Fail(at_, Peek() == ')'   ? "there is no ( for this )"
                : Peek() == '_' ? "the name of a rule has letters, digits and -, but no _"
                                : "unexpected " + Shown(at_));
    }
    SkipSpace(true);
  }

  void Alternatives(const std::string& rule, Element id, int depth) {
    std::vector<Element> elements;
    Sequence(rule, elements, depth);
    while (Peek() == '|') {
      Count(1);
      elements.push_back(kOr);
      ++at_;
      SkipSpace(true);
      Sequence(rule, elements, depth);
    }
    Define(id, std::move(elements));
  }

  void Sequence(const std::string& rule, std::vector<Element>& elements, int depth) {
    const bool nested = depth > 0;
    size_t last = elements.size();  // where what can be repeated begins
    uint64_t made = 1;              // rules that it was made to, repetitions multiplied
    const auto begin_item = [&] {
      last = elements.size();
      made = 1;
    };
    const auto add = [&](Element element) {
      Count(1);
      elements.push_back(element);
    };
    while (!AtEnd()) {
      const size_t begin = at_;
      const char c = Peek();
      if (c == '"') {
        begin_item();
        ++at_;
        while (Peek() != '"') {
          if (AtEnd()) Fail(begin, "the string that begins here is not closed");
          Character(begin, "string");
          add(kCharacter);
        }
        ++at_;
      } else if (c == '[') {
        begin_item();
        ++at_;
        if (Peek() == '^') ++at_;
        while (Peek() != ']') {
          if (AtEnd()) Fail(begin, "the [ that begins here is not closed");
          Character(begin, "[");
          add(kCharacter);
          if (Peek() != '-' || Peek(1) == ']') continue;
          ++at_;
          Character(begin, "[");
          add(kCharacter);
        }
        ++at_;
      } else if (c == '<' || c == '!') {
        if (c == '!') ++at_;
        Token();
        begin_item();
        add(kCharacter);
      } else if (IsWord(c)) {
        begin_item();
        add(Named(Word(), begin));
      } else if (c == '(') {
        if (depth == kMaxDepth)
          RefuseGrammarSize("its parentheses are more than " + std::to_string(kMaxDepth) + " deep");
        ++at_;
        SkipSpace(true);
        const size_t before = symbols_.size();
        const Element group = Made(rule, begin);
        Alternatives(rule, group, depth + 1);
        if (Peek() != ')') {
          // Within parentheses the next line is no end: what comes is the ::= of the next rule.
          const bool next_rule = AtEnd() || Peek() == ':';
          Fail(next_rule ? begin : at_, next_rule       ? "the ( that begins here is not closed"
                                        : Peek() == '_' ? "the name of a rule has letters, digits and -, but no _"
                                                        : "unexpected " + Shown(at_));
        }
        ++at_;
        begin_item();
        made = symbols_.size() - before;
        add(group);
      } else if (c == '.') {
        begin_item();
        add(kCharacter);
        ++at_;
      } else if (c == '*' || c == '+' || c == '?' || c == '{') {
        const auto [least, most] = c == '{' ? Bounds(nested) : Sign(c);
        if (last == elements.size()) Fail(begin, std::string("there is nothing before ") + c + " to repeat");
        made = Repeat(rule, elements, last, least, most, made, begin);
      } else {
        return;
      }
      SkipSpace(nested);
    }
  }

  std::pair<uint64_t, uint64_t> Sign(char sign) {
    ++at_;
    return {sign == '+' ? 1 : 0, sign == '?' ? 1 : kNoMaximum};
  }

  // {n}, {n,} or {n,m}; as llama.cpp, with no maximum where it is above the threshold.
  std::pair<uint64_t, uint64_t> Bounds(bool nested) {
    const size_t begin = at_;
    ++at_;
    SkipSpace(nested);
    if (!IsDigit(Peek())) Fail(at_, "a number was expected after {, not " + Shown(at_));
    const std::optional<uint64_t> least = Number();
    SkipSpace(nested);
    std::optional<uint64_t> most = least;
    if (Peek() == ',') {
      ++at_;
      SkipSpace(nested);
      most = kNoMaximum;
      if (IsDigit(Peek())) most = Number();
      SkipSpace(nested);
      if (Peek() != '}') Fail(at_, "} was expected, not " + Shown(at_));
    } else if (Peek() != '}') {
      Fail(at_, ", or } was expected, not " + Shown(at_));
    }
    ++at_;
    if (!least || *least > kMaxRepetitions || !most) {
      Fail(begin, "at most " + std::to_string(kMaxRepetitions) + " repetitions can be asked for");
    }
    // llama.cpp would count from here to the largest number there is.
    if (*most < *least) Fail(begin, "the most repetitions are fewer than the least");
    return {*least, *most > kMaxRepetitions ? kNoMaximum : *most};
  }

  // None for one that has no room in 64 bits.
  std::optional<uint64_t> Number() {
    uint64_t number = 0;
    for (const char digit : Digits()) {
      const auto value = static_cast<uint64_t>(digit - '0');
      if (number > (UINT64_MAX - value) / 10) return std::nullopt;
      number = number * 10 + value;
    }
    return number;
  }

  // Writes a repetition of elements[last, …) out. Returns how many rules the item was made to.
  uint64_t Repeat(const std::string& rule, std::vector<Element>& elements, size_t last, uint64_t least, uint64_t most,
                  uint64_t made, size_t at) {
    const bool endless = most == kNoMaximum;
    const uint64_t times = !endless && most > 0 ? most : least > 0 ? least : 1;
    if (made * times > kMaxRepetitions) {
      Fail(at, "repeated, this becomes more than " + std::to_string(kMaxRepetitions) + " rules");
    }
    const std::vector<Element> item(elements.begin() + static_cast<std::ptrdiff_t>(last), elements.end());
    const uint64_t optional = endless ? 1 : most - least;
    Count((least + optional) * (item.size() + 3));
    if (least == 0) elements.resize(last);
    for (uint64_t i = 1; i < least; ++i) elements.insert(elements.end(), item.begin(), item.end());
    // S{0,2}: S2 ::= S S1 |    S1 ::= S |       S*: S1 ::= S S1 |
    std::optional<Element> next;
    for (uint64_t i = 0; i < optional; ++i) {
      const Element id = Made(rule, at);
      std::vector<Element> copy = item;
      if (endless) next = id;
      if (next) copy.push_back(*next);
      copy.push_back(kOr);
      Define(id, std::move(copy));
      next = id;
    }
    if (next) elements.push_back(*next);
    return made * times;
  }

  // One character, perhaps escaped, of a string or of [ ].
  void Character(size_t begin, const std::string& of) {
    if (AtEnd()) Fail(begin, "the " + of + " that begins here is not closed");
    const size_t at = at_;
    if (Peek() != '\\') {
      // As llama.cpp: by the first byte, and as far as there are more.
      constexpr size_t kLengths[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
      at_ = std::min(at_ + kLengths[static_cast<unsigned char>(Peek()) >> 4], text_.size());
      return;
    }
    const char kind = Peek(1);
    const size_t digits = kind == 'x' ? 2 : kind == 'u' ? 4 : kind == 'U' ? 8 : 0;
    if (digits == 0 && (kind == '\0' || std::string_view("trn\\\"[]-").find(kind) == std::string_view::npos)) {
      if (at + 1 >= text_.size()) Fail(begin, "the " + of + " that begins here is not closed");
      Fail(at, std::string(1, '\\') + Shown(at + 1) +
                   " is no escape: there are \\n \\r \\t \\\\ \\\" \\[ \\] \\- \\xHH \\uHHHH \\UHHHHHHHH");
    }
    at_ += 2;
    for (size_t i = 0; i < digits; ++i, ++at_) {
      if (!IsHex(Peek())) {
        Fail(at, std::string("\\") + kind + " needs " + std::to_string(digits) + " hexadecimal digits");
      }
    }
  }

  // <[123]> or <text of a token>
  void Token() {
    const size_t begin = at_;
    if (Peek() != '<') Fail(at_, "a token in < > was expected after !, not " + Shown(at_));
    ++at_;
    if (Peek() == '[') {
      ++at_;
      const size_t at = at_;
      if (!IsDigit(Peek())) Fail(at_, "the number of a token was expected after <[, not " + Shown(at_));
      const std::optional<uint64_t> id = Number();
      if (Peek() != ']' || Peek(1) != '>') Fail(at_, "]> was expected after the number of a token, not " + Shown(at_));
      if (!id || *id >= static_cast<uint64_t>(vocabulary_.tokens)) {
        Fail(at, "there is no such token: the model has " + std::to_string(vocabulary_.tokens));
      }
      at_ += 2;
      return;
    }
    at_ = std::min(text_.find('>', at_), text_.size());
    if (AtEnd()) Fail(begin, "the < that begins here is not closed");
    ++at_;
    const std::string_view token = text_.substr(begin, at_ - begin);
    if (!vocabulary_.is_one(token)) Fail(begin, std::string(token) + " is not one token of this model");
  }

  std::string_view text_;
  const GrammarVocabulary& vocabulary_;
  size_t at_ = 0;
  std::vector<Symbol> symbols_;
  std::unordered_map<std::string, Element> ids_;  // of those that have names
  size_t rules_ = 0;
  uint64_t elements_ = 0;
};

}  // namespace

std::vector<Symbol> ParseGrammar(std::string_view text, const GrammarVocabulary& vocabulary) {
  return Parser(text, vocabulary).Parse();
}

void RefuseGrammarAt(std::string_view text, size_t at, const std::string& reason) {
  const size_t before = at == 0 ? std::string_view::npos : text.rfind('\n', at - 1);
  const size_t begin = before == std::string_view::npos ? 0 : before + 1;
  const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(begin), '\n');
  // Characters, not bytes.
  const std::string_view left = text.substr(begin, at - begin);
  const auto column = 1 + std::count_if(left.begin(), left.end(), [](char c) { return (c & 0xC0) != 0x80; });
  // The line, or what is near of one that is long, in whole characters.
  constexpr size_t kNear = 60;
  const auto is_inside = [&](size_t i) { return i < text.size() && (text[i] & 0xC0) == 0x80; };
  size_t from = at - std::min(at - begin, kNear);
  size_t to = std::min({text.find_first_of("\r\n", at), text.size(), at + kNear});
  while (is_inside(from)) ++from;
  while (is_inside(to)) ++to;
  Refuse(reason,
         {{"line", static_cast<double>(line)},
          {"column", static_cast<double>(column)},
          {"excerpt", std::string(text.substr(from, to - from))}},
         "line " + std::to_string(line) + ", column " + std::to_string(column));
}

void RefuseGrammarSize(const std::string& what) {
  throw Error(ErrorCode::kInvalidGrammar, "The grammar is too large: " + what + ".",
              "Give parts that are nested or repeated rules of their own, and repeat them less often.",
              {{"reason", "it is too large: " + what}});
}

}  // namespace coldstart
