#include "engine/adapters.h"

#include <algorithm>

#include "base/error.h"

namespace coldstart {

namespace {

// The sum of a mix's control vectors; empty when it has none.
std::vector<float> SumOfDirections(const AdapterMix& mix) {
  std::vector<float> sum;
  for (const auto& [adapter, scale] : mix.parts) {
    const std::vector<float>& directions = adapter->directions();
    sum.resize(std::max(sum.size(), directions.size()));
    for (size_t i = 0; i < directions.size(); ++i) sum[i] += scale * directions[i];
  }
  return sum;
}

void SetDirections(llama_context* context, std::vector<float> directions) {
  const llama_model* model = llama_get_model(context);
  const int32_t width = llama_model_n_embd(model);
  const int32_t layers = llama_model_n_layer(model);
  // All layers: one that is left out would keep what was set before.
  if (!directions.empty()) directions.resize(static_cast<size_t>(width) * static_cast<size_t>(layers - 1));
  const int32_t status = llama_set_adapter_cvec(context, directions.empty() ? nullptr : directions.data(),
                                                directions.size(), width, 1, layers);
  if (status == 0) return;
  throw Error(ErrorCode::kOutOfMemory, "There was no memory for a control vector.",
              "Use fewer gpuLayers or a shorter contextLength.");
}

}  // namespace

Adapters::Adapters(llama_model* model, GgufFile header) : model_(model), header_(std::move(header)) {
  mixes_[{}] = std::make_shared<AdapterMix>(AdapterMix{.number = 0, .parts = {}});
}

const Adapter& Adapters::Load(uint32_t id, const std::string& path) {
  const GgufFile header = CheckAdapter(path, header_);
  return *(loaded_[id] = std::make_shared<Adapter>(model_, path, header));
}

std::vector<AdapterMixPtr> Adapters::Unload(uint32_t id) {
  std::vector<AdapterMixPtr> gone;
  std::erase_if(mixes_, [&](const auto& mix) {
    const auto& [uses, object] = mix;
    const bool has = std::any_of(uses.begin(), uses.end(), [id](const AdapterUse& use) { return use.id == id; });
    if (has) gone.push_back(object);
    return has;
  });
  loaded_.erase(id);
  return gone;
}

AdapterMixPtr Adapters::Mix(std::span<const AdapterUse> uses) {
  std::vector<AdapterUse> key;
  for (const AdapterUse& use : uses) {
    if (use.scale != 0) key.push_back(use);
  }
  std::sort(key.begin(), key.end());
  const auto known = mixes_.find(key);
  if (known != mixes_.end()) return known->second;
  AdapterMix mix{.number = next_number_, .parts = {}};
  for (const AdapterUse& use : key) {
    const auto found = loaded_.find(use.id);
    if (found == loaded_.end()) {
      throw Error(ErrorCode::kInvalidOption, "An adapter that was asked for is not loaded.", "Load it again.",
                  {{"option", std::string("adapters")}});
    }
    mix.parts.push_back({found->second, use.scale});
  }
  ++next_number_;
  return mixes_[key] = std::make_shared<AdapterMix>(std::move(mix));
}

void ActiveAdapters::Use(llama_context* context, const AdapterMixPtr& mix) {
  if (mix_ == mix && complete_) return;
  std::vector<llama_adapter_lora*> loras;
  std::vector<float> scales;
  std::vector<float> directions;
  if (mix != nullptr) {
    for (const auto& [adapter, scale] : mix->parts) {
      if (adapter->is_control_vector()) continue;
      loras.push_back(adapter->lora());
      scales.push_back(scale);
    }
    directions = SumOfDirections(*mix);
  }
  // Kept whatever fails, as the context holds pointers into it; and the one before, until it holds them no more.
  const AdapterMixPtr before = std::exchange(mix_, mix);
  complete_ = false;
  llama_set_adapters_lora(context, loras.data(), loras.size(), scales.data());
  if (has_directions_ || !directions.empty()) {
    has_directions_ = true;
    const bool none = directions.empty();
    SetDirections(context, std::move(directions));
    has_directions_ = !none;
  }
  complete_ = true;
}

void ActiveAdapters::LetGo(llama_context* context, std::span<const AdapterMixPtr> mixes) {
  if (std::find(mixes.begin(), mixes.end(), mix_) != mixes.end()) Use(context, nullptr);
}

}  // namespace coldstart
