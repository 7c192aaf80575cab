// Regular expressions (ECMAScript, as JSON Schema has them: about whole code points) as GBNF. Pure.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace coldstart {

// What is wrong with a pattern, or cannot be said by a grammar, to go on from "the pattern X has ".
class UnfollowablePattern : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

// Expressions for the right side of a rule. Both throw UnfollowablePattern.

// Of all texts that the pattern matches as a whole.
std::string ExpressionOfWhole(std::string_view pattern);

// Of all JSON strings, quotation marks included, in whose value the pattern matches something; but for some of the ways
// to escape a character.
std::string ExpressionOfJsonString(std::string_view pattern);

}  // namespace coldstart
