#include "backends/nvml.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <utility>

#include "backends/dynamic_library.h"

namespace coldstart {

namespace {

// --- What is used of nvml.h, as NVIDIA's header of API version 13 has it -------------------------------------------

using Return = int;  // nvmlReturn_t
constexpr Return kSuccess = 0;
constexpr Return kInsufficientSize = 7;

using Handle = struct nvmlDevice_st*;

// Of nvmlClockType_t, nvmlTemperatureSensors_t, nvmlMemoryErrorType_t, nvmlEccCounterType_t.
constexpr int kClockSm = 1;
constexpr int kClockMemory = 2;
constexpr int kTemperatureGpu = 0;
constexpr int kErrorCorrected = 0;
constexpr int kErrorUncorrected = 1;
constexpr int kEccVolatile = 0;

constexpr size_t kNameBytes = 96;     // NVML_DEVICE_NAME_V2_BUFFER_SIZE
constexpr size_t kUuidBytes = 96;     // NVML_DEVICE_UUID_V2_BUFFER_SIZE
constexpr size_t kVersionBytes = 80;  // NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE

struct Memory {              // nvmlMemory_t
  unsigned long long total;  // NOLINT(runtime/int): the header's own type
  unsigned long long free;   // NOLINT(runtime/int)
  unsigned long long used;   // NOLINT(runtime/int)
};
static_assert(sizeof(Memory) == 24);

struct Utilization {  // nvmlUtilization_t
  unsigned int gpu;
  unsigned int memory;
};
static_assert(sizeof(Utilization) == 8);

// nvmlPciInfo_t of nvmlDeviceGetPciInfo_v3. The structures of older versions are shorter and begin alike.
struct PciInfo {
  char legacy_bus_id[16];
  unsigned int domain;
  unsigned int bus;
  unsigned int device;
  unsigned int device_id;
  unsigned int subsystem_id;
  char bus_id[32];
};
static_assert(sizeof(PciInfo) == 68);

// nvmlTemperature_v1_t
struct Temperature {
  unsigned int version;
  int sensor;
  int degrees;
};
static_assert(sizeof(Temperature) == 12);
constexpr unsigned int kTemperatureVersion1 = sizeof(Temperature) | (1U << 24U);

// nvmlProcessInfo_v1_t
struct ProcessV1 {
  unsigned int pid;
  unsigned long long memory;  // NOLINT(runtime/int)
};
static_assert(sizeof(ProcessV1) == 16);

// nvmlProcessInfo_v2_t
struct ProcessV2 {
  unsigned int pid;
  unsigned long long memory;  // NOLINT(runtime/int)
  unsigned int gpu_instance;
  unsigned int compute_instance;
};
static_assert(sizeof(ProcessV2) == 24);

constexpr uint64_t kNotAvailable = UINT64_MAX;  // NVML_VALUE_NOT_AVAILABLE

// --------------------------------------------------------------------------------------------------------------------

// The functions that a library has; null are those that it lacks. Newer versions of a function come first.
struct Api {
 private:
  const DynamicLibrary& library_;  // first: the others are found in it

 public:
  using UnsignedOf = Return(Handle, unsigned int*);
  using UnsignedOfKind = Return(Handle, int, unsigned int*);
  using CountOf = Return(Handle, unsigned long long*);                 // NOLINT(runtime/int)
  using CountOfKinds = Return(Handle, int, int, unsigned long long*);  // NOLINT(runtime/int)
  using TextOf = Return(Handle, char*, unsigned int);

  explicit Api(const DynamicLibrary& library) : library_(library) {}

  Return (*init)() = First<Return()>("nvmlInit_v2", "nvmlInit");
  Return (*shutdown)() = First<Return()>("nvmlShutdown");
  const char* (*error_string)(Return) = First<const char*(Return)>("nvmlErrorString");
  Return (*driver_version)(char*, unsigned int) = First<Return(char*, unsigned int)>("nvmlSystemGetDriverVersion");
  Return (*cuda_version)(int*) = First<Return(int*)>("nvmlSystemGetCudaDriverVersion_v2",
                                                     "nvmlSystemGetCudaDriverVersion");
  Return (*count)(unsigned int*) = First<Return(unsigned int*)>("nvmlDeviceGetCount_v2", "nvmlDeviceGetCount");
  Return (*handle)(unsigned int, Handle*) = First<Return(unsigned int, Handle*)>("nvmlDeviceGetHandleByIndex_v2",
                                                                                 "nvmlDeviceGetHandleByIndex");

  TextOf* name = First<TextOf>("nvmlDeviceGetName");
  TextOf* uuid = First<TextOf>("nvmlDeviceGetUUID");
  Return (*pci)(Handle, PciInfo*) = First<Return(Handle, PciInfo*)>("nvmlDeviceGetPciInfo_v3",
                                                                    "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo");
  Return (*compute_capability)(Handle, int*,
                               int*) = First<Return(Handle, int*, int*)>("nvmlDeviceGetCudaComputeCapability");
  Return (*memory)(Handle, Memory*) = First<Return(Handle, Memory*)>("nvmlDeviceGetMemoryInfo");
  Return (*utilization)(Handle, Utilization*) = First<Return(Handle, Utilization*)>("nvmlDeviceGetUtilizationRates");
  UnsignedOf* power = First<UnsignedOf>("nvmlDeviceGetPowerUsage");
  UnsignedOf* power_limit = First<UnsignedOf>("nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimit");
  UnsignedOfKind* temperature = First<UnsignedOfKind>("nvmlDeviceGetTemperature");  // deprecated since version 13
  Return (*temperature_v)(Handle, Temperature*) = First<Return(Handle, Temperature*)>("nvmlDeviceGetTemperatureV");
  UnsignedOfKind* clock = First<UnsignedOfKind>("nvmlDeviceGetClockInfo");
  UnsignedOfKind* max_clock = First<UnsignedOfKind>("nvmlDeviceGetMaxClockInfo");
  UnsignedOf* memory_bus_width = First<UnsignedOf>("nvmlDeviceGetMemoryBusWidth");
  CountOf* throttle_reasons =
      First<CountOf>("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons");
  CountOfKinds* ecc_errors = First<CountOfKinds>("nvmlDeviceGetTotalEccErrors");
  UnsignedOf* pcie_generation = First<UnsignedOf>("nvmlDeviceGetCurrPcieLinkGeneration");
  UnsignedOf* pcie_width = First<UnsignedOf>("nvmlDeviceGetCurrPcieLinkWidth");
  UnsignedOf* max_pcie_generation = First<UnsignedOf>("nvmlDeviceGetMaxPcieLinkGeneration");
  UnsignedOf* max_pcie_width = First<UnsignedOf>("nvmlDeviceGetMaxPcieLinkWidth");
  UnsignedOf* persistence_mode = First<UnsignedOf>("nvmlDeviceGetPersistenceMode");
  Return (*mig_mode)(Handle, unsigned int*,
                     unsigned int*) = First<Return(Handle, unsigned int*, unsigned int*)>("nvmlDeviceGetMigMode");
  // Version 2 before 3: they answer alike here, and some drivers of release 535 have longer entries in version 3.
  Return (*processes)(Handle, unsigned int*, ProcessV2*) = First<Return(Handle, unsigned int*, ProcessV2*)>(
      "nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses_v3");
  Return (*processes_v1)(Handle, unsigned int*, ProcessV1*) =
      First<Return(Handle, unsigned int*, ProcessV1*)>("nvmlDeviceGetComputeRunningProcesses");

 private:
  template <typename Function, typename... Names>
  Function* First(Names... names) const {
    Function* found = nullptr;
    ((found = found == nullptr ? library_.Find<Function>(names) : found), ...);
    return found;
  }
};

// What `function` tells of `arguments`; nothing where the library lacks it or it fails.
template <typename T, typename Function, typename... Arguments>
std::optional<T> Ask(Function* function, Arguments... arguments) {
  T value{};
  if (function == nullptr || function(arguments..., &value) != kSuccess) return std::nullopt;
  return value;
}

template <size_t kBytes, typename Function, typename... Arguments>
std::optional<std::string> AskText(Function* function, Arguments... arguments) {
  std::array<char, kBytes + 1> text{};  // ends with a zero whatever the library writes
  if (function == nullptr || function(arguments..., text.data(), static_cast<unsigned int>(kBytes)) != kSuccess) {
    return std::nullopt;
  }
  return std::string(text.data());
}

std::optional<bool> ToFlag(std::optional<unsigned int> state) {
  if (!state) return std::nullopt;
  return *state != 0;
}

// `function` fills what it is given, or says that it needs more.
template <typename Entry, typename Function>
std::optional<std::vector<NvidiaProcess>> AskProcesses(Function* function, Handle handle) {
  if (function == nullptr) return std::nullopt;
  std::vector<Entry> entries(32);
  for (int attempt = 0; attempt < 4; ++attempt) {
    // Says less than there is: some drivers write longer entries than they should.
    auto count = static_cast<unsigned int>(entries.size() / 2);
    const Return result = function(handle, &count, entries.data());
    if (result == kInsufficientSize) {
      entries.resize(std::max<size_t>(entries.size() * 2, size_t{count} * 4));  // they may become more meanwhile
      continue;
    }
    if (result != kSuccess) return std::nullopt;
    std::vector<NvidiaProcess> processes;
    for (size_t i = 0; i < std::min<size_t>(count, entries.size() / 2); ++i) {
      const uint64_t memory = entries[i].memory;
      processes.push_back({entries[i].pid, memory == kNotAvailable ? std::nullopt : std::optional(memory)});
    }
    return processes;
  }
  return std::nullopt;
}

// The library, initialized. Its functions may be called from several threads.
class Nvml {
 public:
  // Null when there is no usable library at `path`; then `report` says why.
  static std::shared_ptr<const Nvml> Open(const std::string& path, NvmlReport& report) {
    auto nvml = std::make_shared<Nvml>(Token(), path);
    if (!nvml->library_) {
      report.error = nvml->library_.Error();
      return nullptr;
    }
    report.library = path;
    const Api& api = nvml->api_;
    if (api.init == nullptr || api.count == nullptr || api.handle == nullptr) {
      report.error = path + " is not NVML: it lacks nvmlInit, nvmlDeviceGetCount or nvmlDeviceGetHandleByIndex";
      return nullptr;
    }
    const Return result = api.init();
    if (result != kSuccess) {
      report.error = nvml->ErrorText(result);
      return nullptr;
    }
    nvml->initialized_ = true;
    return nvml;
  }

 private:
  struct Token {};  // only Open makes one

 public:
  Nvml(Token /*token*/, const std::string& path) : path_(path), library_(path), api_(MakeApi()) {}
  ~Nvml() {
    if (initialized_ && api_.shutdown != nullptr) api_.shutdown();
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  const std::string& path() const { return path_; }

  NvmlReport Query() const {
    NvmlReport report;
    report.library = path_;
    report.driver_version = AskText<kVersionBytes>(api_.driver_version);
    report.cuda_version = Ask<int>(api_.cuda_version);
    unsigned int count = 0;
    if (const Return result = api_.count(&count); result != kSuccess) {
      report.error = ErrorText(result);
      return report;
    }
    for (unsigned int i = 0; i < count; ++i) {
      Handle handle = nullptr;
      const Return result = api_.handle(i, &handle);
      NvidiaGpu gpu;
      if (result == kSuccess) gpu = Query(handle);
      if (result != kSuccess) gpu.error = ErrorText(result);
      gpu.index = i;
      report.gpus.push_back(std::move(gpu));
    }
    return report;
  }

 private:
  Api MakeApi() const { return Api(library_); }

  std::string ErrorText(Return result) const {
    const char* text = api_.error_string == nullptr ? nullptr : api_.error_string(result);
    return text == nullptr ? "NVML error " + std::to_string(result) : text;
  }

  NvidiaGpu Query(Handle handle) const {
    NvidiaGpu gpu;
    gpu.name = AskText<kNameBytes>(api_.name, handle);
    gpu.uuid = AskText<kUuidBytes>(api_.uuid, handle);
    if (const auto pci = Ask<PciInfo>(api_.pci, handle)) {
      std::array<char, 32> text{};
      std::snprintf(text.data(), text.size(), "%04x:%02x:%02x.0", pci->domain, pci->bus, pci->device);
      gpu.pci_id = text.data();
    }
    int major = 0;
    if (const auto minor = Ask<int>(api_.compute_capability, handle, &major)) {
      gpu.compute_capability = std::to_string(major) + "." + std::to_string(*minor);
    }
    if (const auto memory = Ask<Memory>(api_.memory, handle)) {
      gpu.memory_total = memory->total;
      gpu.memory_free = memory->free;
      gpu.memory_used = memory->used;
    }
    if (const auto utilization = Ask<Utilization>(api_.utilization, handle)) {
      gpu.utilization = utilization->gpu;
      gpu.memory_utilization = utilization->memory;
    }
    gpu.power = Ask<unsigned int>(api_.power, handle);
    gpu.power_limit = Ask<unsigned int>(api_.power_limit, handle);
    gpu.temperature = Ask<unsigned int>(api_.temperature, handle, kTemperatureGpu);
    if (!gpu.temperature && api_.temperature_v != nullptr) {
      Temperature temperature{kTemperatureVersion1, kTemperatureGpu, 0};
      if (api_.temperature_v(handle, &temperature) == kSuccess) gpu.temperature = temperature.degrees;
    }
    gpu.clock = Ask<unsigned int>(api_.clock, handle, kClockSm);
    gpu.max_clock = Ask<unsigned int>(api_.max_clock, handle, kClockSm);
    gpu.memory_clock = Ask<unsigned int>(api_.clock, handle, kClockMemory);
    gpu.max_memory_clock = Ask<unsigned int>(api_.max_clock, handle, kClockMemory);
    gpu.memory_bus_width = Ask<unsigned int>(api_.memory_bus_width, handle);
    using Count = unsigned long long;  // NOLINT(runtime/int)
    gpu.throttle_reasons = Ask<Count>(api_.throttle_reasons, handle);
    gpu.ecc_corrected = Ask<Count>(api_.ecc_errors, handle, kErrorCorrected, kEccVolatile);
    gpu.ecc_uncorrected = Ask<Count>(api_.ecc_errors, handle, kErrorUncorrected, kEccVolatile);
    gpu.pcie_generation = Ask<unsigned int>(api_.pcie_generation, handle);
    gpu.pcie_width = Ask<unsigned int>(api_.pcie_width, handle);
    gpu.max_pcie_generation = Ask<unsigned int>(api_.max_pcie_generation, handle);
    gpu.max_pcie_width = Ask<unsigned int>(api_.max_pcie_width, handle);
    gpu.persistence_mode = ToFlag(Ask<unsigned int>(api_.persistence_mode, handle));
    unsigned int mig = 0;
    if (Ask<unsigned int>(api_.mig_mode, handle, &mig)) gpu.mig_mode = mig != 0;
    gpu.processes = AskProcesses<ProcessV2>(api_.processes, handle);
    if (api_.processes == nullptr) gpu.processes = AskProcesses<ProcessV1>(api_.processes_v1, handle);
    return gpu;
  }

  std::string path_;
  DynamicLibrary library_;
  Api api_;
  bool initialized_ = false;
};

// Where drivers put it.
std::vector<std::string> UsualPaths() {
#ifdef _WIN32
  std::vector<std::string> paths{"nvml.dll"};
  const char* programs = std::getenv("ProgramW6432");  // drivers before 2019
  if (programs != nullptr) paths.push_back(std::string(programs) + "\\NVIDIA Corporation\\NVSMI\\nvml.dll");
  return paths;
#else
  // The others are where WSL and NixOS have the driver, which the dynamic linker is not always told.
  return {"libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1", "/run/opengl-driver/lib/libnvidia-ml.so.1"};
#endif
}

}  // namespace

NvmlReport QueryNvml(const std::string& path) {
  // Whoever asks holds the library too, so that no other thread closes it meanwhile.
  struct Kept {
    std::mutex mutex;
    std::shared_ptr<const Nvml> nvml;
  };
  // Never destroyed: at the end of the process the library may have been taken down before us.
  static auto& [mutex, kept] = *new Kept();
  const std::vector<std::string> paths = path.empty() ? UsualPaths() : std::vector<std::string>{path};
  std::shared_ptr<const Nvml> nvml;
  NvmlReport failed;
  {
    const std::lock_guard lock(mutex);
    if (kept != nullptr && std::find(paths.begin(), paths.end(), kept->path()) == paths.end()) kept.reset();
    for (size_t i = 0; kept == nullptr && i < paths.size(); ++i) {
      NvmlReport report;
      kept = Nvml::Open(paths[i], report);
      // The first is where it should be; what is elsewhere counts only when it is there.
      if (kept == nullptr && (i == 0 || !report.library.empty())) failed = report;
      if (!report.library.empty()) break;
    }
    nvml = kept;
  }
  return nvml == nullptr ? failed : nvml->Query();
}

}  // namespace coldstart
