/*
 * What the CUDA plugin offers besides ggml's backend: quantizing weights, and moving cells of the KV cache. Found by
 * dlsym in the library of the plugin that is loaded; plain C, so that the two may be built by different compilers.
 *
 * Every structure begins with its own size, which the caller sets: fields are only ever added at the end. Functions
 * that return int return 0 or an error, whose text coldstart_cuda_last_error() has for the thread that called. Types
 * have ggml's numbers.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define COLDSTART_CUDA_API __declspec(dllexport)
#else
#define COLDSTART_CUDA_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when what a function does changes. A caller takes no version but the one it was written for. */
#define COLDSTART_CUDA_API_VERSION 1

enum coldstart_cuda_error {
  COLDSTART_CUDA_OK = 0,
  COLDSTART_CUDA_INVALID = 1, /* an argument makes no sense */
  COLDSTART_CUDA_NO_ROOM = 2, /* not enough memory on the device, or pinned memory */
  COLDSTART_CUDA_FAILED = 3,  /* the device or its driver */
};

/* Bits of what was refused. The data that came out are then not to be used. */
enum coldstart_cuda_refusal {
  COLDSTART_CUDA_REFUSED_VALUE = 1, /* a NaN, an infinity, or a magnitude of 2^32 or more */
  COLDSTART_CUDA_REFUSED_SCALE = 2, /* a scale that is not finite as F16 */
};

COLDSTART_CUDA_API uint32_t coldstart_cuda_api_version(void);
/* Of the last call of this thread that returned an error. Valid until its next call. */
COLDSTART_CUDA_API const char* coldstart_cuda_last_error(void);
/* CUDA's number of the device with this PCI bus id ("0000:01:00.0", as ggml says it), or -1. */
COLDSTART_CUDA_API int coldstart_cuda_device_of(const char* pci_bus_id);

/* --- Quantizing: rows through the GPU as a stream. The blocks are those of ggml_quantize_chunk() without importance,
 * to the bit. */

typedef struct coldstart_cuda_quantizer coldstart_cuda_quantizer;

typedef struct {
  size_t size;
  int32_t device;
  int32_t slots;      /* chunks that may be on their way; 3 are enough for one thread */
  size_t chunk_bytes; /* room for what comes in, and for what goes out; 4 to 32 MB are best */
} coldstart_cuda_quantize_options;

typedef struct {
  size_t size;
  int32_t slot; /* -1: none */
  uint32_t refusals;
  uint64_t tag;
  const void* data; /* the blocks, until the slot is released */
  size_t bytes;
} coldstart_cuda_quantize_result;

typedef struct {
  size_t size;
  /* Seconds that each part of the way was busy, and from the first submission to the last result. */
  double copy_in;
  double quantize;
  double copy_out;
  double total;
  uint64_t bytes_in;
  uint64_t bytes_out;
  const char* bound; /* "copying in", "quantizing", "copying out" or "the source" */
} coldstart_cuda_quantize_times;

COLDSTART_CUDA_API int coldstart_cuda_quantize_supports(int32_t source_type, int32_t target_type);
COLDSTART_CUDA_API int coldstart_cuda_quantize_create(const coldstart_cuda_quantize_options* options,
                                                      coldstart_cuda_quantizer** quantizer);
COLDSTART_CUDA_API void coldstart_cuda_quantize_destroy(coldstart_cuda_quantizer* quantizer);
/*
 * Any thread may call these. acquire: a slot and its pinned buffer; -1 when none is free, or with `wait` after another
 * thread has released one. submit: the buffer has `values` values, whole blocks of the target's type (F32, F16, BF16 to
 * Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL, Q4_K, Q5_K, Q6_K). collect: waits for this slot's chunk, or with -1 for the one
 * that was submitted first of those that nobody collects. release: the slot is free again, after its result was used,
 * or unused.
 */
COLDSTART_CUDA_API int coldstart_cuda_quantize_acquire(coldstart_cuda_quantizer* quantizer, int wait, void** buffer);
COLDSTART_CUDA_API int coldstart_cuda_quantize_submit(coldstart_cuda_quantizer* quantizer, int slot,
                                                      int32_t source_type, int32_t target_type, int64_t values,
                                                      uint64_t tag);
COLDSTART_CUDA_API int coldstart_cuda_quantize_collect(coldstart_cuda_quantizer* quantizer, int slot,
                                                       coldstart_cuda_quantize_result* result);
COLDSTART_CUDA_API void coldstart_cuda_quantize_release(coldstart_cuda_quantizer* quantizer, int slot);
COLDSTART_CUDA_API void coldstart_cuda_quantize_measure(coldstart_cuda_quantizer* quantizer,
                                                        coldstart_cuda_quantize_times* times);

/* --- The KV cache: cells of a sequence out of all layers at once, and back. */

typedef struct coldstart_cuda_kv coldstart_cuda_kv;

enum coldstart_cuda_kv_encoding {
  COLDSTART_CUDA_KV_AS_IS = 0,
  COLDSTART_CUDA_KV_Q8_0 =
      1, /* rows of F16 become blocks when they are taken out, and F16 again when they are put back */
  COLDSTART_CUDA_KV_Q4_0 = 2,
};

/* A tensor of keys or values, of one layer and stream. An array of these has no sizes: its layout is that of the
 * version. */
typedef struct {
  void* data;        /* device memory: ggml's tensor->data */
  uint64_t stride;   /* bytes; of rows from one cell to the next, of transposed values from one element to the next */
  uint32_t row_size; /* of rows: bytes of one; of transposed values: elements */
  uint32_t element_bytes; /* of transposed values: of one; 0: rows */
  uint32_t encoding;
  uint32_t reserved; /* 0 */
} coldstart_cuda_kv_tensor;

COLDSTART_CUDA_API int coldstart_cuda_kv_create(int32_t device, size_t staging_bytes, coldstart_cuda_kv** kv);
COLDSTART_CUDA_API void coldstart_cuda_kv_destroy(coldstart_cuda_kv* kv);
/* What `cell_count` cells take when they are taken out: tensors one after another, each from a multiple of 16 bytes on.
 */
COLDSTART_CUDA_API uint64_t coldstart_cuda_kv_bytes(const coldstart_cuda_kv_tensor* tensors, size_t count,
                                                    uint32_t cell_count);
/*
 * Cells in the order in which they are named. What computes on the cache has to be finished before, and may go on after
 * these return. Memory of coldstart_cuda_host_allocate is copied to without a detour. One thread at a time for each
 * coldstart_cuda_kv.
 */
COLDSTART_CUDA_API int coldstart_cuda_kv_gather(coldstart_cuda_kv* kv, const coldstart_cuda_kv_tensor* tensors,
                                                size_t count, const uint32_t* cells, uint32_t cell_count, void* out,
                                                uint64_t bytes, uint32_t* refusals);
COLDSTART_CUDA_API int coldstart_cuda_kv_scatter(coldstart_cuda_kv* kv, const coldstart_cuda_kv_tensor* tensors,
                                                 size_t count, const uint32_t* cells, uint32_t cell_count,
                                                 const void* in, uint64_t bytes);

/* Pinned memory. NULL if it cannot be had. */
COLDSTART_CUDA_API void* coldstart_cuda_host_allocate(size_t bytes);
COLDSTART_CUDA_API void coldstart_cuda_host_free(void* memory);

#ifdef __cplusplus
}
#endif
