// How fast this machine reads: what loading and decoding cannot be faster than. Each takes around a second.
#pragma once

#include <cstdint>
#include <string>

namespace coldstart {

// Bytes a second that the disk under `path` delivers, past the page cache, with the number of requests at a time that
// suits it best. Of a file, the file itself is read; in a directory, one is made and removed again. What a virtual
// machine's host keeps in its memory counts as its disk.
// Throws kModelNotFound, and kLoadFailed where the file system has no direct I/O or the device fails.
double MeasureDiskBandwidth(const std::string& path);

// Bytes a second that `threads` threads read from main memory together.
// Throws kOutOfMemory.
double MeasureMemoryBandwidth(uint32_t threads);

}  // namespace coldstart
