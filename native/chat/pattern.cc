#include "chat/pattern.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <utility>
#include <vector>

namespace coldstart {

namespace {

// Groups within groups: the parser calls itself for each.
constexpr int kMaxGroups = 100;
// More than llama.cpp's grammars repeat.
constexpr uint32_t kMaxTimes = 2000;
constexpr uint32_t kLastCodePoint = 0x10FFFF;

// What JSON writes as a backslash and a letter.
constexpr std::array<std::pair<uint32_t, char>, 7> kShortEscapes = {
    {{'"', '"'}, {'\\', '\\'}, {'\b', 'b'}, {'\f', 'f'}, {'\n', 'n'}, {'\r', 'r'}, {'\t', 't'}}};

// A set of code points, as ranges that do not touch, in order.
class CodePoints {
 public:
  struct Range {
    uint32_t first;
    uint32_t last;
  };

  CodePoints() = default;
  CodePoints(std::initializer_list<Range> ranges) {
    for (const Range& range : ranges) Add(range.first, range.last);
  }

  void Add(uint32_t first, uint32_t last) {
    std::vector<Range> merged;
    for (const Range& range : ranges_) {
      if (range.last + 1 < first || last + 1 < range.first) {
        merged.push_back(range);
      } else {
        first = std::min(first, range.first);
        last = std::max(last, range.last);
      }
    }
    merged.push_back({first, last});
    std::sort(merged.begin(), merged.end(), [](const Range& a, const Range& b) { return a.first < b.first; });
    ranges_ = std::move(merged);
  }

  void Add(const CodePoints& others) {
    for (const Range& range : others.ranges_) Add(range.first, range.last);
  }

  CodePoints Complement() const {
    CodePoints others;
    uint32_t next = 0;
    for (const Range& range : ranges_) {
      if (range.first > next) others.Add(next, range.first - 1);
      next = range.last + 1;
    }
    if (next <= kLastCodePoint) others.Add(next, kLastCodePoint);
    return others;
  }

  CodePoints Without(const CodePoints& others) const {
    CodePoints all = Complement();
    all.Add(others);
    return all.Complement();
  }

  bool Has(uint32_t point) const {
    return std::any_of(ranges_.begin(), ranges_.end(),
                       [point](const Range& range) { return range.first <= point && point <= range.last; });
  }

  bool empty() const { return ranges_.empty(); }
  const std::vector<Range>& ranges() const { return ranges_; }

 private:
  std::vector<Range> ranges_;
};

const CodePoints kDigits = {{'0', '9'}};
const CodePoints kWordCharacters = {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}, {'_', '_'}};
const CodePoints kSpaces = {{'\t', '\r'},     {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
                            {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const CodePoints kLineEnds = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
// No characters of a text. Grammars end at NUL.
const CodePoints kSurrogates = {{0xD800, 0xDFFF}};
const CodePoints kNul = {{0, 0}};
// What stands for itself in a JSON string is none of these.
const CodePoints kEscapedInJson = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}};

void AppendUtf8(uint32_t point, std::string& text) {
  if (point < 0x80) {
    text.push_back(static_cast<char>(point));
  } else if (point < 0x800) {
    text.push_back(static_cast<char>(0xC0 | point >> 6));
    text.push_back(static_cast<char>(0x80 | (point & 0x3F)));
  } else if (point < 0x10000) {
    text.push_back(static_cast<char>(0xE0 | point >> 12));
    text.push_back(static_cast<char>(0x80 | (point >> 6 & 0x3F)));
    text.push_back(static_cast<char>(0x80 | (point & 0x3F)));
  } else {
    text.push_back(static_cast<char>(0xF0 | point >> 18));
    text.push_back(static_cast<char>(0x80 | (point >> 12 & 0x3F)));
    text.push_back(static_cast<char>(0x80 | (point >> 6 & 0x3F)));
    text.push_back(static_cast<char>(0x80 | (point & 0x3F)));
  }
}

// A text between quotation marks of GBNF.
std::string Literal(const std::string& text) {
  std::string literal = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      literal.push_back('\\');
      literal.push_back(c);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\x%02X", static_cast<unsigned>(c));
      literal += escape;
    } else {
      literal.push_back(c);
    }
  }
  literal.push_back('"');
  return literal;
}

std::string InClass(uint32_t point) {
  const bool plain = (point >= '0' && point <= '9') || (point >= 'a' && point <= 'z') || (point >= 'A' && point <= 'Z');
  if (plain) return std::string(1, static_cast<char>(point));
  char escape[16];
  std::snprintf(escape, sizeof escape, point < 0x100 ? "\\x%02X" : "\\U%08X", static_cast<unsigned>(point));
  return escape;
}

std::string Class(const CodePoints& points) {
  std::string text = "[";
  for (const CodePoints::Range& range : points.ranges()) {
    text += InClass(range.first);
    if (range.last > range.first) text.append("-").append(InClass(range.last));
  }
  return text + "]";
}

std::string LongEscape(uint32_t control) {
  char escape[8];
  std::snprintf(escape, sizeof escape, "\\u%04X", static_cast<unsigned>(control));
  return escape;
}

class Parser {
 public:
  Parser(std::string_view pattern, bool json) : rest_(pattern), json_(json) {}

  // With `searches`, the pattern may match a part of the text.
  std::string Parse(bool searches) {
    std::string alternatives;
    while (true) {
      const bool from_start = Take('^');
      std::vector<Item> items = Sequence(0);
      const bool to_end = Take('$');
      if (!rest_.empty() && rest_.front() == ')') Fail("a ) too many");
      if (!rest_.empty() && rest_.front() != '|') Fail("an anchor within");
      const std::string body = Join(items);
      std::vector<std::string> parts;
      if (searches && !from_start) parts.push_back(AnyText());
      if (!body.empty()) parts.push_back(body);
      if (searches && !to_end && (from_start || !body.empty())) parts.push_back(AnyText());
      for (size_t i = 0; i < parts.size(); ++i) alternatives.append(i == 0 ? "" : " ").append(parts[i]);
      if (!Take('|')) return alternatives;
      alternatives += " | ";
    }
  }

 private:
  // A part of a sequence: a text of its own, or an expression that may be repeated.
  struct Item {
    std::string literal;
    std::string expression;
    bool nullable = false;
  };

  [[noreturn]] static void Fail(const std::string& what) { throw UnfollowablePattern(what); }

  std::string AnyText() const { return OfSet(kSurrogates.Complement()) + "*"; }

  bool Take(char c) {
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }

  bool TakeText(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }

  uint32_t TakeCodePoint() {
    if (rest_.empty()) Fail("no end");
    const auto first = static_cast<unsigned char>(rest_.front());
    const size_t length = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (length > rest_.size()) Fail("bytes that are no UTF-8");
    uint32_t point = length == 1 ? first : first & (0xFFu >> (length + 1));
    for (size_t i = 1; i < length; ++i) point = point << 6 | (static_cast<unsigned char>(rest_[i]) & 0x3Fu);
    rest_.remove_prefix(length);
    return point;
  }

  static std::string Join(const std::vector<Item>& items) {
    std::string text;
    std::string literal;
    const auto append = [&text](const std::string& part) { text.append(text.empty() ? "" : " ").append(part); };
    const auto flush = [&] {
      if (!literal.empty()) append(Literal(literal));
      literal.clear();
    };
    for (const Item& item : items) {
      literal += item.literal;
      if (item.expression.empty()) continue;
      flush();
      append(item.expression);
    }
    flush();
    return text;
  }

  static bool IsNullable(const std::vector<Item>& items) {
    return std::all_of(items.begin(), items.end(), [](const Item& item) { return item.nullable; });
  }

  // Up to what ends it: | or ) or an anchor.
  std::vector<Item> Sequence(int depth) {
    std::vector<Item> items;
    while (!rest_.empty() && rest_.front() != '|' && rest_.front() != ')' && rest_.front() != '$' &&
           rest_.front() != '^') {
      items.push_back(Repeated(Atom(depth)));
    }
    return items;
  }

  Item Atom(int depth) {
    if (Take('(')) return Group(depth + 1);
    if (Take('[')) return OfPoints(BracketClass());
    if (Take('.')) return OfPoints(kLineEnds.Complement());
    for (const char c : {'*', '+', '?', '{', '}', ']'})
      if (rest_.front() == c) Fail(std::string("a ") + c + " that belongs to nothing");
    if (!Take('\\')) return OfPoint(TakeCodePoint());
    if (const std::optional<CodePoints> points = TakeClassEscape()) return OfPoints(*points);
    if (rest_.starts_with('b') || rest_.starts_with('B')) Fail("a word boundary");
    return OfPoint(CharacterEscape());
  }

  Item Group(int depth) {
    if (depth > kMaxGroups) Fail("more than " + std::to_string(kMaxGroups) + " groups within groups");
    if (TakeText("?<") && !rest_.starts_with('=') && !rest_.starts_with('!')) {
      const size_t end = rest_.find('>');
      if (end == std::string_view::npos) Fail("a group without end");
      rest_.remove_prefix(end + 1);
    } else if (!TakeText("?:") && (rest_.starts_with('?') || rest_.starts_with('=') || rest_.starts_with('!'))) {
      Fail("a group of a kind that cannot be followed, such as a lookahead");
    }
    Item group;
    group.expression.push_back('(');
    bool anything = false;
    while (true) {
      const std::vector<Item> items = Sequence(depth);
      if (rest_.empty()) Fail("a group without end");
      if (rest_.front() == '^' || rest_.front() == '$') Fail("an anchor within");
      const std::string body = Join(items);
      anything = anything || !body.empty();
      group.expression += body;
      group.nullable = group.nullable || IsNullable(items);
      if (Take(')')) break;
      Take('|');
      group.expression += " | ";
    }
    group.expression += ")";
    if (!anything) group.expression.clear();
    return group;
  }

  Item Repeated(Item item) {
    uint32_t least = 1;
    std::optional<uint32_t> most = 1;
    std::string_view before = rest_;
    if (Take('*')) {
      least = 0;
      most.reset();
    } else if (Take('+')) {
      most.reset();
    } else if (Take('?')) {
      least = 0;
    } else if (Take('{')) {
      least = Number();
      most = least;
      if (Take(',')) most = rest_.starts_with('}') ? std::nullopt : std::optional(Number());
      if (!Take('}')) Fail("a { that begins no quantity");
      if (most && *most < least) Fail("a quantity from more to less");
    } else {
      return item;
    }
    const std::string quantity(before.substr(0, before.size() - rest_.size()));
    Take('?');  // it would match less of a text, but of the same ones
    if (!rest_.empty() && std::string_view("*+?{").find(rest_.front()) != std::string_view::npos)
      Fail("a quantity of a quantity");
    if (item.expression.empty() && item.literal.empty()) return item;
    if (item.nullable && !most) Fail("repetitions without end of what may be empty");
    if (most == 0u) return {.literal = "", .expression = "", .nullable = true};
    Item repeated;
    repeated.nullable = least == 0 || item.nullable;
    repeated.expression = (item.expression.empty() ? Literal(item.literal) : item.expression) + quantity;
    return repeated;
  }

  uint32_t Number() {
    if (rest_.empty() || rest_.front() < '0' || rest_.front() > '9') Fail("a { that begins no quantity");
    uint32_t number = 0;
    while (!rest_.empty() && rest_.front() >= '0' && rest_.front() <= '9') {
      number = number * 10 + static_cast<uint32_t>(rest_.front() - '0');
      if (number > kMaxTimes) Fail("more than " + std::to_string(kMaxTimes) + " repetitions");
      rest_.remove_prefix(1);
    }
    return number;
  }

  CodePoints BracketClass() {
    const bool excludes = Take('^');
    CodePoints points;
    while (!Take(']')) {
      if (rest_.empty()) Fail("a class without end");
      const std::optional<CodePoints> several = TakeSeveral();
      const uint32_t first = several ? 0 : ClassPoint();
      const bool range = rest_.size() > 1 && rest_.front() == '-' && rest_[1] != ']';
      if (several) {
        if (range) Fail("a range from several characters");
        points.Add(*several);
      } else if (range) {
        Take('-');
        if (TakeSeveral()) Fail("a range to several characters");
        const uint32_t last = ClassPoint();
        if (last < first) Fail("a range from a later to an earlier character");
        points.Add(first, last);
      } else {
        points.Add(first, first);
      }
    }
    return excludes ? points.Complement() : points;
  }

  std::optional<CodePoints> TakeSeveral() {
    if (rest_.size() < 2 || rest_.front() != '\\') return std::nullopt;
    rest_.remove_prefix(1);
    std::optional<CodePoints> several = TakeClassEscape();
    if (!several) rest_ = std::string_view(rest_.data() - 1, rest_.size() + 1);
    return several;
  }

  uint32_t ClassPoint() {
    if (!Take('\\')) return TakeCodePoint();
    if (Take('b')) return '\b';
    return CharacterEscape();
  }

  std::optional<CodePoints> TakeClassEscape() {
    if (Take('d')) return kDigits;
    if (Take('D')) return kDigits.Complement();
    if (Take('w')) return kWordCharacters;
    if (Take('W')) return kWordCharacters.Complement();
    if (Take('s')) return kSpaces;
    if (Take('S')) return kSpaces.Complement();
    if (rest_.starts_with('p') || rest_.starts_with('P')) Fail("a property of Unicode");
    return std::nullopt;
  }

  // After the backslash.
  uint32_t CharacterEscape() {
    const uint32_t c = TakeCodePoint();
    switch (c) {
      case 't': return '\t';
      case 'n': return '\n';
      case 'v': return '\v';
      case 'f': return '\f';
      case 'r': return '\r';
      case '0': return 0;
      case 'x': return Hexadecimal(2);
      case 'u': return UnicodeEscape();
      case 'c': return TakeCodePoint() % 32;
      default: break;
    }
    if (c >= '1' && c <= '9') Fail("a reference back");
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (letter) Fail(std::string("the unknown escape \\") + static_cast<char>(c));
    return c;
  }

  uint32_t UnicodeEscape() {
    if (Take('{')) {
      const size_t end = rest_.find('}');
      if (end == std::string_view::npos || end == 0 || end > 8) Fail("a \\u{ that is none");
      const uint32_t point = Hexadecimal(end);
      Take('}');
      if (point > kLastCodePoint) Fail("a \\u{ of no character");
      return point;
    }
    const uint32_t high = Hexadecimal(4);
    if (high < 0xD800 || high > 0xDBFF || !rest_.starts_with("\\u")) return high;
    rest_.remove_prefix(2);
    const uint32_t low = Hexadecimal(4);
    if (low < 0xDC00 || low > 0xDFFF) Fail("half a character");
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
  }

  uint32_t Hexadecimal(size_t digits) {
    uint32_t number = 0;
    for (size_t i = 0; i < digits; ++i) {
      const char c = rest_.empty() ? ' ' : rest_.front();
      const bool decimal = c >= '0' && c <= '9';
      const char lower = static_cast<char>(c | 0x20);
      if (!decimal && (lower < 'a' || lower > 'f')) Fail("an escape without its hexadecimal digits");
      number = number << 4 | static_cast<uint32_t>(decimal ? c - '0' : lower - 'a' + 10);
      rest_.remove_prefix(1);
    }
    return number;
  }

  Item OfPoint(uint32_t point) {
    if (kSurrogates.Has(point)) Fail("half a character");
    if (point == 0 && !json_) Fail("a NUL character");
    Item item;
    if (json_ && kEscapedInJson.Has(point)) {
      const auto* found = std::find_if(kShortEscapes.begin(), kShortEscapes.end(),
                                       [point](const auto& escape) { return escape.first == point; });
      item.literal = found == kShortEscapes.end() ? LongEscape(point) : std::string("\\") + found->second;
    } else {
      AppendUtf8(point, item.literal);
    }
    return item;
  }

  Item OfPoints(const CodePoints& points) { return {.literal = "", .expression = OfSet(points), .nullable = false}; }

  std::string OfSet(const CodePoints& all) const {
    const CodePoints points = all.Without(kSurrogates).Without(json_ ? CodePoints() : kNul);
    if (points.empty()) Fail("a class of no characters");
    if (!json_) return Class(points);
    const CodePoints plain = points.Without(kEscapedInJson);
    CodePoints escapes;
    for (const auto& [point, letter] : kShortEscapes)
      if (points.Has(point)) escapes.Add(static_cast<uint32_t>(letter), static_cast<uint32_t>(letter));
    std::vector<std::string> alternatives;
    if (!plain.empty()) alternatives.push_back(Class(plain));
    if (!escapes.empty()) alternatives.push_back("\"\\\\\" " + Class(escapes));
    if (alternatives.empty()) {
      for (uint32_t control = 0; control < 0x20; ++control)
        if (points.Has(control)) alternatives.push_back(Literal(LongEscape(control)));
    }
    if (alternatives.size() == 1 && !plain.empty()) return alternatives.front();
    std::string expression = "(";
    for (const std::string& alternative : alternatives)
      expression.append(expression.size() > 1 ? " | " : "").append(alternative);
    return expression + ")";
  }

  std::string_view rest_;
  bool json_;
};

}  // namespace

std::string ExpressionOfWhole(std::string_view pattern) {
  return Parser(pattern, /*json=*/false).Parse(/*searches=*/false);
}

std::string ExpressionOfJsonString(std::string_view pattern) {
  return "\"\\\"\" (" + Parser(pattern, /*json=*/true).Parse(/*searches=*/true) + ") \"\\\"\"";
}

}  // namespace coldstart
