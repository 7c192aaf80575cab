#include "engine/mtp_memory.h"

#include <algorithm>
#include <optional>

namespace coldstart {

namespace {

constexpr size_t kSequences = 256;  // LLAMA_MAX_SEQ
// Tokens that are worth to be kept.
constexpr uint32_t kWorthKeeping = 16;

}  // namespace

MtpMemory::MtpMemory(llama_memory_t memory, uint32_t slots) : memory_(memory), slots_(slots), sequences_(kSequences) {}

uint32_t MtpMemory::Common(uint32_t slot, std::span<const llama_token> tokens) const {
  const auto& own = sequences_[slot].tokens;
  return static_cast<uint32_t>(std::mismatch(own.begin(), own.end(), tokens.begin(), tokens.end()).first - own.begin());
}

void MtpMemory::Start(uint32_t slot, std::span<const llama_token> computed) {
  const auto length = static_cast<uint32_t>(computed.size());
  // Positions of a sequence have no gaps: only who has seen all up to there is of use.
  std::optional<uint32_t> source;
  for (uint32_t i = 0; i < kSequences; ++i) {
    const Sequence& other = sequences_[i];
    if (other.first >= length || Common(i, computed) < length) continue;
    const bool better = !source || other.first < sequences_[*source].first;
    if (better || (i == slot && other.first == sequences_[*source].first)) source = i;
  }

  Sequence& own = sequences_[slot];
  if (source == slot) {
    if (own.tokens.size() >= length + kWorthKeeping) Keep(slot);
    Cut(slot, length);
  } else {
    if (own.tokens.size() >= own.first + kWorthKeeping) Keep(slot);
    Forget(slot);
    own.tokens.assign(computed.begin(), computed.end());
    own.first = length;
    if (source) {
      Sequence& other = sequences_[*source];
      llama_memory_seq_cp(memory_, static_cast<llama_seq_id>(*source), static_cast<llama_seq_id>(slot), 0,
                          static_cast<llama_pos>(length));
      own.first = other.first;
      other.last_used = ++clock_;
    }
  }
  own.at_work = true;
  own.last_used = ++clock_;
}

void MtpMemory::Append(uint32_t slot, std::span<const llama_token> tokens) {
  Sequence& own = sequences_[slot];
  own.tokens.insert(own.tokens.end(), tokens.begin(), tokens.end());
}

void MtpMemory::Cut(uint32_t slot, uint32_t length) {
  Sequence& own = sequences_[slot];
  llama_memory_seq_rm(memory_, static_cast<llama_seq_id>(slot), static_cast<llama_pos>(length), -1);
  if (own.tokens.size() > length) own.tokens.resize(length);
  own.first = std::min(own.first, length);
}

void MtpMemory::End(uint32_t slot) {
  sequences_[slot].at_work = false;
  sequences_[slot].last_used = ++clock_;
}

bool MtpMemory::ForgetOldest() {
  std::optional<size_t> oldest;
  for (size_t i = 0; i < kSequences; ++i) {
    if (sequences_[i].at_work || empty(sequences_[i])) continue;
    if (!oldest || sequences_[i].last_used < sequences_[*oldest].last_used) oldest = i;
  }
  if (!oldest) return false;
  Forget(*oldest);
  return true;
}

void MtpMemory::ForgetAll() {
  for (size_t i = 0; i < kSequences; ++i) {
    Sequence& sequence = sequences_[i];
    if (!sequence.at_work) {
      Forget(i);
      continue;
    }
    llama_memory_seq_rm(memory_, static_cast<llama_seq_id>(i), -1, -1);
    sequence.first = static_cast<uint32_t>(sequence.tokens.size());
  }
}

// Puts a copy of what a slot knows beyond the slots.
void MtpMemory::Keep(uint32_t slot) {
  const auto begin = sequences_.begin() + slots_;
  const auto place = std::min_element(begin, sequences_.end(),
                                      [](const Sequence& a, const Sequence& b) { return a.last_used < b.last_used; });
  if (place == sequences_.end()) return;
  const auto sequence = static_cast<size_t>(place - sequences_.begin());
  Forget(sequence);
  llama_memory_seq_cp(memory_, static_cast<llama_seq_id>(slot), static_cast<llama_seq_id>(sequence), -1, -1);
  place->tokens = sequences_[slot].tokens;
  place->first = sequences_[slot].first;
  place->last_used = sequences_[slot].last_used;
}

void MtpMemory::Forget(size_t sequence) {
  llama_memory_seq_rm(memory_, static_cast<llama_seq_id>(sequence), -1, -1);
  sequences_[sequence] = {};
}

}  // namespace coldstart
