#include "backends/dynamic_library.h"

#ifdef _WIN32
#include <windows.h>

#include <system_error>
#else
#include <dlfcn.h>
#endif

#include <filesystem>

namespace coldstart {

#ifdef _WIN32

namespace {

std::wstring Wide(const std::string& text) {
  const int bytes = static_cast<int>(text.size());
  std::wstring wide(static_cast<size_t>(MultiByteToWideChar(CP_UTF8, 0, text.data(), bytes, nullptr, 0)), L'\0');
  MultiByteToWideChar(CP_UTF8, 0, text.data(), bytes, wide.data(), static_cast<int>(wide.size()));
  return wide;
}

}  // namespace

DynamicLibrary::DynamicLibrary(const std::string& path) {
  // A bare name only from the system's own folder: never from the working directory.
  const bool bare = path.find_first_of("/\\") == std::string::npos;
  handle_ = LoadLibraryExW(Wide(path).c_str(), nullptr, bare ? LOAD_LIBRARY_SEARCH_SYSTEM32 : 0);
  if (handle_ == nullptr) {
    error_ = path + ": " + std::system_category().message(static_cast<int>(GetLastError()));
  }
}

DynamicLibrary::~DynamicLibrary() {
  if (handle_ != nullptr) FreeLibrary(static_cast<HMODULE>(handle_));
}

void* DynamicLibrary::FindAddress(const char* name) const {
  return handle_ == nullptr ? nullptr : reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(handle_), name));
}

std::string OwnFolder() {
  HMODULE own = nullptr;
  constexpr DWORD kFlags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
  if (!GetModuleHandleExW(kFlags, reinterpret_cast<LPCWSTR>(&OwnFolder), &own)) return "";
  std::wstring path(32768, L'\0');  // the longest there is
  path.resize(GetModuleFileNameW(own, path.data(), static_cast<DWORD>(path.size())));
  const std::u8string folder = std::filesystem::path(path).parent_path().u8string();
  return {folder.begin(), folder.end()};
}

#else

DynamicLibrary::DynamicLibrary(const std::string& path) : handle_(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
  if (handle_ == nullptr) {
    const char* error = dlerror();
    error_ = error == nullptr ? path + ": it cannot be opened" : error;
  }
}

DynamicLibrary::~DynamicLibrary() {
  if (handle_ != nullptr) dlclose(handle_);
}

void* DynamicLibrary::FindAddress(const char* name) const {
  // Without a handle dlsym() would look in the whole process.
  return handle_ == nullptr ? nullptr : dlsym(handle_, name);
}

std::string OwnFolder() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&OwnFolder), &info) == 0 || info.dli_fname == nullptr) return "";
  return std::filesystem::absolute(info.dli_fname).parent_path().string();
}

#endif

}  // namespace coldstart
