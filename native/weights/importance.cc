#include "weights/importance.h"

#include <cmath>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "ggml.h"
#include "loading/gguf.h"

namespace coldstart {

namespace {

constexpr std::string_view kSums = ".in_sum2";
constexpr std::string_view kCounts = ".counts";
constexpr uint64_t kMostDatasets = 1000;

[[noreturn]] void Refuse(const std::string& path, const std::string& what) {
  throw Error(ErrorCode::kInvalidGguf, path + " is no importance matrix: " + what + ".",
              "Make one with llama-imatrix, in its GGUF format.", {{"path", path}});
}

class Reader {
 public:
  explicit Reader(const std::string& path)
      : path_(path), header_(ReadGguf(*OpenFile(path), {.array_elements = kMostDatasets})), file_(File::Open(path)) {
    if (!file_) Refuse(path_, File::LastError());
  }

  Importance Read() {
    if (header_.String("general.type") != "imatrix") Refuse(path_, "its general.type is not imatrix");
    Importance importance;
    importance.chunks = header_.Unsigned("imatrix.chunk_count", 0);
    if (const GgufArray* datasets = header_.Array("imatrix.datasets")) {
      for (const GgufScalar& name : datasets->elements) {
        if (const auto* text = std::get_if<std::string>(&name)) importance.datasets.push_back(*text);
      }
    }
    std::unordered_map<std::string_view, const GgufTensor*> counts;
    for (const GgufTensor& tensor : header_.tensors) {
      if (std::string_view(tensor.name).ends_with(kCounts)) {
        counts.emplace(std::string_view(tensor.name).substr(0, tensor.name.size() - kCounts.size()), &tensor);
      }
    }
    for (const GgufTensor& tensor : header_.tensors) {
      if (!std::string_view(tensor.name).ends_with(kSums)) continue;
      const std::string name = tensor.name.substr(0, tensor.name.size() - kSums.size());
      const auto count = counts.find(name);
      if (count == counts.end()) Refuse(path_, "there are sums of " + name + ", and no counts");
      importance.matrices.emplace(name, Means(name, Values(tensor), Values(*count->second)));
    }
    if (importance.matrices.empty()) Refuse(path_, "it has no sums");
    return importance;
  }

 private:
  std::vector<float> Values(const GgufTensor& tensor) {
    if (tensor.type_id != GGML_TYPE_F32) Refuse(path_, tensor.name + " is " + tensor.type + " and not f32");
    std::vector<float> values(tensor.bytes / sizeof(float));
    const auto read = file_->ReadAt(values.data(), tensor.bytes, header_.data_offset + tensor.offset);
    if (read != tensor.bytes) Refuse(path_, tensor.name + " cannot be read");
    return values;
  }

  // As llama-quantize takes them.
  std::vector<float> Means(const std::string& name, std::vector<float> sums, const std::vector<float>& counts) {
    if (counts.empty() || sums.size() % counts.size() != 0)
      Refuse(path_, "counts and sums of " + name + " do not match");
    const size_t columns = sums.size() / counts.size();
    for (size_t i = 0; i < sums.size(); ++i) {
      const float count = counts[i / columns];
      // Of an expert that was never chosen nothing is known.
      sums[i] = count > 0 ? sums[i] / count : 1;
      if (!std::isfinite(sums[i])) Refuse(path_, "a sum of " + name + " is NaN or infinite");
    }
    return sums;
  }

  std::string path_;
  GgufFile header_;
  std::optional<File> file_;
};

}  // namespace

Importance ReadImportance(const std::string& path) { return Reader(path).Read(); }

}  // namespace coldstart
