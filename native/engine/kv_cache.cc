#include "engine/kv_cache.h"

#include <algorithm>
#include <utility>

#include "media/media_tokens.h"

namespace coldstart {

namespace {

constexpr uint32_t kMaxSequences = 256;  // LLAMA_MAX_SEQ

// In a unified cache, the sequence that states are saved through: llama.cpp writes only those below the context's
// n_seq_max.
constexpr llama_seq_id kScratch = 0;

// Tokens that a state from outside must save computing, beyond what the cache itself knows.
constexpr uint32_t kWorthRestoring = 32;
// Tokens that copying the whole pool of another sequence must save computing.
constexpr uint32_t kWorthCopying = 64;

}  // namespace

bool CanCut(const llama_model* model) {
  return !llama_model_is_recurrent(model) && !llama_model_is_hybrid(model) && llama_model_n_swa(model) == 0;
}

KvCache::KvCache(llama_context* context, const KvCacheOptions& options)
    : context_(context),
      memory_(llama_get_memory(context)),
      options_(options),
      capacity_(options.unified ? llama_n_ctx(context) : llama_n_ctx_seq(context) * options.parallel),
      sequences_(shares() ? kMaxSequences : options.parallel),
      states_(options.spill_bytes, options.spill_directory) {
  if (shares()) sequences_[kScratch].use = Use::kAtWork;
}

uint32_t KvCache::used() const {
  if (shares()) return static_cast<uint32_t>(tree_.size());
  uint32_t cells = 0;
  for (const Sequence& sequence : sequences_) cells += static_cast<uint32_t>(sequence.tokens.size());
  return cells;
}

uint32_t KvCache::at_work() const {
  if (shares()) return static_cast<uint32_t>(at_work_.size());
  uint32_t cells = 0;
  for (const Sequence& sequence : sequences_) {
    if (sequence.use == Use::kAtWork) cells += static_cast<uint32_t>(sequence.tokens.size());
  }
  return cells;
}

uint32_t KvCache::Usable(std::span<const llama_token> tokens, uint32_t length) const {
  return WithoutCutPiece(tokens, length / options_.reuse_multiple * options_.reuse_multiple);
}

llama_pos KvCache::PositionAfter(llama_seq_id sequence, uint32_t length) const {
  const std::vector<llama_token>& tokens = sequences_[static_cast<size_t>(sequence)].tokens;
  return static_cast<llama_pos>(coldstart::PositionAfter(tokens, length));
}

uint32_t KvCache::Known(Root root, std::span<const llama_token> tokens, uint32_t at_most) const {
  tokens = tokens.first(std::min<size_t>(tokens.size(), at_most));
  if (!options_.reuse) return 0;
  const uint32_t resident = options_.cuttable ? tree_.Longest(tokens, root).length : 0;
  return Usable(tokens, std::max(resident, states_.Longest(root, tokens, !options_.cuttable).length));
}

std::optional<KvCache::Lease> KvCache::Acquire(Root root, std::span<const llama_token> tokens, uint32_t at_most) {
  const auto busy = std::count_if(sequences_.begin(), sequences_.end(),
                                  [](const Sequence& sequence) { return sequence.use == Use::kAtWork; });
  if (busy >= options_.parallel + (shares() ? 1 : 0)) return std::nullopt;

  tokens = tokens.first(options_.reuse ? std::min<size_t>(tokens.size(), at_most) : 0);
  const PrefixTree::Match resident = options_.cuttable ? tree_.Longest(tokens, root) : PrefixTree::Match{};
  const PrefixTree::Match stored = states_.Longest(root, tokens, !options_.cuttable);
  uint32_t length = Usable(tokens, resident.length);
  const uint32_t stored_length = Usable(tokens, stored.length);

  llama_seq_id sequence = -1;
  if (stored_length > length + (options_.cuttable ? kWorthRestoring : 0)) {
    sequence = FreeSequence();
    if (Restore(stored.holders.front(), root, sequence, stored_length)) {
      length = stored_length;
    } else {
      sequence = -1;
    }
  }
  if (sequence == -1) {
    // Restoring may have driven out what was resident.
    const PrefixTree::Match match = options_.cuttable ? tree_.Longest(tokens, root) : PrefixTree::Match{};
    sequence = Place(match, Usable(tokens, match.length));
    length = static_cast<uint32_t>(sequences_[static_cast<size_t>(sequence)].tokens.size());
  }

  Sequence& taken = sequences_[static_cast<size_t>(sequence)];
  taken.use = Use::kAtWork;
  taken.last_used = ++clock_;
  taken.root = root;
  at_work_.Append(sequence, taken.tokens, root);
  return Lease{sequence, length};
}

// A sequence with the first `length` tokens of a match: the one that has them, or one that gets them from it.
llama_seq_id KvCache::Place(const PrefixTree::Match& match, uint32_t length) {
  const auto of = [this](llama_seq_id sequence) -> Sequence& { return sequences_[static_cast<size_t>(sequence)]; };
  if (length == 0) return FreeSequence();

  for (const llama_seq_id holder : match.holders) {
    if (of(holder).use != Use::kKept) continue;
    const bool whole = of(holder).tokens.size() == length;
    // What it has beyond could be of use, too. It stays where sharing is free, and is given up, after a copy of it was
    // put aside, where sharing means copying.
    if (!whole && (shares() || length < kWorthCopying)) continue;
    if (!whole) CopyOut(holder);
    Cut(holder, length);
    return holder;
  }

  if (!shares() && length < kWorthCopying) return FreeSequence();
  const llama_seq_id holder = match.holders.front();
  // It is not the one to go now, and not used as a whole either.
  const uint64_t last_used = std::exchange(of(holder).last_used, UINT64_MAX);
  const llama_seq_id sequence = FreeSequence();
  of(holder).last_used = last_used;
  if (shares()) {
    llama_memory_seq_cp(memory_, holder, sequence, 0, PositionAfter(holder, length));
  } else {
    // Between pools llama.cpp can only copy everything (it asserts that), and does so later, with the next step, when
    // either pool may hold something else. A state is read and written at once.
    const std::vector<uint8_t> state = Save(holder);
    if (llama_state_seq_set_data(context_, state.data(), state.size(), sequence) == 0) {
      llama_memory_seq_rm(memory_, sequence, -1, -1);
      return sequence;
    }
    llama_memory_seq_rm(memory_, sequence, PositionAfter(holder, length), -1);
  }
  Sequence& copy = of(sequence);
  const auto& tokens = of(holder).tokens;
  copy.tokens.assign(tokens.begin(), tokens.begin() + length);
  copy.root = of(holder).root;
  tree_.Append(sequence, copy.tokens, copy.root);
  return sequence;
}

llama_seq_id KvCache::FreeSequence() {
  const auto free = std::find_if(sequences_.begin(), sequences_.end(),
                                 [](const Sequence& sequence) { return sequence.use == Use::kFree; });
  if (free != sequences_.end()) return static_cast<llama_seq_id>(free - sequences_.begin());
  const llama_seq_id oldest = *OldestKept();
  Evict(oldest);
  return oldest;
}

std::optional<llama_seq_id> KvCache::OldestKept() const {
  std::optional<llama_seq_id> oldest;
  for (size_t i = 0; i < sequences_.size(); ++i) {
    if (sequences_[i].use != Use::kKept) continue;
    if (!oldest || sequences_[i].last_used < sequences_[static_cast<size_t>(*oldest)].last_used)
      oldest = static_cast<llama_seq_id>(i);
  }
  return oldest;
}

bool KvCache::Restore(PrefixTree::Holder state, Root root, llama_seq_id sequence, uint32_t length) {
  const std::vector<llama_token> tokens = states_.Tokens(state);
  std::vector<uint8_t> bytes;
  try {
    bytes = states_.Use(state);
  } catch (const Error& error) {
    spill_error_ = error;
    states_.Erase(state);
    return false;
  }
  // Making room may drive the state out of the store; the bytes are a copy.
  if (!MakeRoom(static_cast<uint32_t>(tokens.size()))) return false;
  if (llama_state_seq_set_data(context_, bytes.data(), bytes.size(), sequence) == 0) {
    llama_memory_seq_rm(memory_, sequence, -1, -1);
    states_.Erase(state);
    return false;
  }
  Sequence& restored = sequences_[static_cast<size_t>(sequence)];
  restored.root = root;
  restored.tokens = tokens;
  Register(sequence, 0);
  Cut(sequence, length);
  return true;
}

bool KvCache::CouldMakeRoom(uint32_t cells) const {
  return !options_.unified || at_work() + uint64_t{cells} <= capacity_;
}

bool KvCache::MakeRoom(uint32_t cells) {
  if (!options_.unified) return true;
  while (used() + uint64_t{cells} > capacity_) {
    const std::optional<llama_seq_id> oldest = OldestKept();
    if (!oldest) return false;
    Evict(*oldest);
  }
  return true;
}

void KvCache::Append(llama_seq_id sequence, std::span<const llama_token> tokens, bool reusable) {
  Sequence& grown = sequences_[static_cast<size_t>(sequence)];
  const auto begin = static_cast<uint32_t>(grown.tokens.size());
  grown.tokens.insert(grown.tokens.end(), tokens.begin(), tokens.end());
  grown.last_used = ++clock_;
  if (!reusable) return;
  at_work_.Append(sequence, tokens, grown.root);
  Register(sequence, begin);
}

// Puts the tokens from `begin` on into the tree. The first of them that another sequence has too, after the same ones,
// are taken from there and the own cells freed: so the cells in use are the tokens in the tree.
void KvCache::Register(llama_seq_id sequence, uint32_t begin) {
  const Root root = sequences_[static_cast<size_t>(sequence)].root;
  const std::span<const llama_token> tokens(sequences_[static_cast<size_t>(sequence)].tokens);
  const std::span<const llama_token> fresh = tokens.subspan(begin);
  const uint64_t before = tree_.size();
  tree_.Append(sequence, fresh, root);
  const auto known = static_cast<uint32_t>(fresh.size() - (tree_.size() - before));
  if (!shares() || known == 0) return;
  const uint32_t end = begin + known;
  for (const llama_seq_id holder : tree_.Longest(tokens.first(end), root).holders) {
    if (holder == sequence) continue;
    const llama_pos from = PositionAfter(sequence, begin);
    const llama_pos to = PositionAfter(sequence, end);
    llama_memory_seq_rm(memory_, sequence, from, to);
    llama_memory_seq_cp(memory_, holder, sequence, from, to);
    return;
  }
}

bool KvCache::DropRest(llama_seq_id sequence) {
  const auto length = static_cast<uint32_t>(sequences_[static_cast<size_t>(sequence)].tokens.size());
  return llama_memory_seq_rm(memory_, sequence, PositionAfter(sequence, length), -1);
}

void KvCache::Spoil(llama_seq_id sequence) {
  llama_memory_seq_rm(memory_, sequence, -1, -1);
  sequences_[static_cast<size_t>(sequence)].tokens.clear();
  tree_.Truncate(sequence, 0);
  at_work_.Truncate(sequence, 0);
}

void KvCache::Release(llama_seq_id sequence, bool keep, uint32_t length) {
  Sequence& done = sequences_[static_cast<size_t>(sequence)];
  at_work_.Erase(sequence);
  if (!options_.cuttable) {
    if (keep && !done.tokens.empty()) Checkpoint(sequence);
    return Free(sequence);
  }
  Cut(sequence, Usable(done.tokens, std::min<uint32_t>(length, static_cast<uint32_t>(done.tokens.size()))));
  if (!keep || !options_.reuse || done.tokens.empty()) return Free(sequence);
  done.use = Use::kKept;
  done.last_used = ++clock_;
  if (!shares() || tree_.Exclusive(sequence) > 0) return;
  // It is the beginning of another, or equal to it: that one was used, and this one has nothing of its own to keep.
  for (const llama_seq_id holder : tree_.Longest(done.tokens, done.root).holders) {
    if (holder == sequence) continue;
    sequences_[static_cast<size_t>(holder)].last_used = done.last_used;
    break;
  }
  Free(sequence);
}

void KvCache::Checkpoint(llama_seq_id sequence) {
  if (!options_.reuse || states_.max_bytes() == 0) return;
  const Sequence& kept = sequences_[static_cast<size_t>(sequence)];
  PutAside(kept.root, kept.tokens, Save(sequence), false);
}

std::vector<uint8_t> KvCache::Save(llama_seq_id sequence) {
  const llama_seq_id source = shares() ? kScratch : sequence;
  if (shares()) llama_memory_seq_cp(memory_, sequence, kScratch, -1, -1);
  std::vector<uint8_t> state(llama_state_seq_get_size(context_, source));
  state.resize(llama_state_seq_get_data(context_, state.data(), state.size(), source));
  if (shares()) llama_memory_seq_rm(memory_, kScratch, -1, -1);
  return state;
}

void KvCache::Load(Root root, std::vector<llama_token> tokens, std::vector<uint8_t> state) {
  if (options_.reuse) PutAside(root, std::move(tokens), std::move(state), /*always=*/true);
}

// A full disk costs computing something again, and no request.
void KvCache::PutAside(Root root, std::vector<llama_token> tokens, std::vector<uint8_t> state, bool always) {
  try {
    states_.Put(root, std::move(tokens), std::move(state), always);
  } catch (const Error& error) {
    spill_error_ = error;
  }
}

void KvCache::Clear() {
  for (size_t i = 0; i < sequences_.size(); ++i) {
    if (sequences_[i].use == Use::kKept) Free(static_cast<llama_seq_id>(i));
  }
  states_.Clear();
}

void KvCache::Clear(Root root) {
  for (size_t i = 0; i < sequences_.size(); ++i) {
    if (sequences_[i].use == Use::kKept && sequences_[i].root == root) Free(static_cast<llama_seq_id>(i));
  }
  states_.EraseAll(root);
}

void KvCache::Cut(llama_seq_id sequence, uint32_t length) {
  Sequence& cut = sequences_[static_cast<size_t>(sequence)];
  if (cut.tokens.size() <= length) return;
  llama_memory_seq_rm(memory_, sequence, PositionAfter(sequence, length), -1);
  cut.tokens.resize(length);
  tree_.Truncate(sequence, length);
}

// Gives up a kept sequence; its state goes to outside if there is room.
void KvCache::Evict(llama_seq_id sequence) {
  CopyOut(sequence);
  Free(sequence);
}

void KvCache::CopyOut(llama_seq_id sequence) {
  const Sequence& old = sequences_[static_cast<size_t>(sequence)];
  const bool worth = options_.spill_bytes > 0 && old.tokens.size() >= kWorthRestoring &&
                     states_.Longest(old.root, old.tokens, false).length < old.tokens.size();
  if (worth) PutAside(old.root, old.tokens, Save(sequence), false);
}

void KvCache::Free(llama_seq_id sequence) {
  llama_memory_seq_rm(memory_, sequence, -1, -1);
  tree_.Erase(sequence);
  sequences_[static_cast<size_t>(sequence)] = {};
}

}  // namespace coldstart
