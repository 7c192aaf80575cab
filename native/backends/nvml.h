// NVML, NVIDIA's management library, opened at run time: what the driver says of the GPUs of this machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace coldstart {

struct NvidiaProcess {
  uint32_t pid;  // of the host, also in a container
  std::optional<uint64_t> memory;
};

// What this library, driver or GPU does not say is absent. Memory in bytes, clocks in MHz, power in milliwatts.
struct NvidiaGpu {
  uint32_t index = 0;  // NVML's order, by PCI address; CUDA's may be another
  std::string error;   // why the GPU cannot be asked at all; else empty
  std::optional<std::string> name;
  std::optional<std::string> uuid;
  std::optional<std::string> pci_id;  // as ggml has it: "0000:c1:00.0"
  std::optional<std::string> compute_capability;
  std::optional<uint64_t> memory_total;
  std::optional<uint64_t> memory_free;
  std::optional<uint64_t> memory_used;
  std::optional<uint32_t> utilization;         // percent of the last second or less in which a kernel ran
  std::optional<uint32_t> memory_utilization;  // likewise, in which memory was read or written
  std::optional<uint32_t> power;
  std::optional<uint32_t> power_limit;
  std::optional<int32_t> temperature;  // of the GPU itself, in degrees Celsius
  std::optional<uint32_t> clock;       // of the streaming multiprocessors
  std::optional<uint32_t> max_clock;
  std::optional<uint32_t> memory_clock;
  std::optional<uint32_t> max_memory_clock;
  std::optional<uint32_t> memory_bus_width;  // bits
  std::optional<uint64_t> throttle_reasons;  // bits of nvmlClocksEventReasons
  std::optional<uint64_t> ecc_corrected;     // errors since the driver was loaded
  std::optional<uint64_t> ecc_uncorrected;   // likewise
  std::optional<uint32_t> pcie_generation;   // as it is now: idle GPUs slow their link down
  std::optional<uint32_t> pcie_width;        // lanes
  std::optional<uint32_t> max_pcie_generation;
  std::optional<uint32_t> max_pcie_width;
  std::optional<bool> persistence_mode;
  std::optional<bool> mig_mode;
  std::optional<std::vector<NvidiaProcess>> processes;  // that compute on it
};

struct NvmlReport {
  std::string library;  // what was opened; empty when there is no NVML
  std::string error;    // why the GPUs are not known; else empty
  std::optional<std::string> driver_version;
  std::optional<int32_t> cuda_version;  // the newest that the driver supports: 1000 * major + 10 * minor
  std::vector<NvidiaGpu> gpus;
};

// Asks the library at `path`, or the driver's own when it is empty. From any thread. The library stays open for the
// next question, until another one is asked for. Never throws for what the library does or lacks: the report says it.
NvmlReport QueryNvml(const std::string& path);

}  // namespace coldstart
