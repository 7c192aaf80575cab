// A shared library opened at run time.
#pragma once

#include <string>

namespace coldstart {

class DynamicLibrary {
 public:
  // `path` is UTF-8; a bare name is looked for where the system looks. Not opened: false, and Error() says why.
  explicit DynamicLibrary(const std::string& path);
  ~DynamicLibrary();
  DynamicLibrary(const DynamicLibrary&) = delete;
  DynamicLibrary& operator=(const DynamicLibrary&) = delete;

  explicit operator bool() const { return handle_ != nullptr; }
  const std::string& Error() const { return error_; }

  // Null when the library has no such function.
  template <typename Function>
  Function* Find(const char* name) const {
    return reinterpret_cast<Function*>(FindAddress(name));
  }

 private:
  void* FindAddress(const char* name) const;

  void* handle_ = nullptr;
  std::string error_;
};

// The full path of the folder that this addon lies in, UTF-8; empty when the system does not say.
std::string OwnFolder();

}  // namespace coldstart
