#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstring>

#include "cuda/testing/gemm_case.h"

namespace coldstart::cuda {

namespace {

size_t SizeOf(cudaDataType type) { return type == CUDA_R_32F ? 4 : 2; }

const char* NameOf(cudaDataType type) { return type == CUDA_R_32F ? "f32" : (type == CUDA_R_16F ? "f16" : "bf16"); }

struct View {
  const char* data;
  cudaDataType type;
  long long row, column, member;  // elements from one to the next
  int share;

  __device__ double At(int i, int j, int batch) const {
    const long long at = i * row + j * column + batch / share * member;
    if (type == CUDA_R_32F) return reinterpret_cast<const float*>(data)[at];
    if (type == CUDA_R_16F) return __half2float(reinterpret_cast<const __half*>(data)[at]);
    return __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(data)[at]);
  }
};

// Everything but elements is NaN: where a kernel reads more than the matrix, it shows.
__global__ void Spread(char* to, const char* from, int bytes, int rows, int columns, int batch, long long ld,
                       long long stride) {
  const long long count = static_cast<long long>(rows) * columns * batch;
  for (long long i = blockIdx.x * 256ll + threadIdx.x; i < count; i += gridDim.x * 256ll) {
    const long long at = i % rows + i / rows % columns * ld + i / rows / columns * stride;
    if (bytes == 4) {
      reinterpret_cast<uint32_t*>(to)[at] = reinterpret_cast<const uint32_t*>(from)[i];
    } else {
      reinterpret_cast<uint16_t*>(to)[at] = reinterpret_cast<const uint16_t*>(from)[i];
    }
  }
}

__global__ void SetElement(char* to, cudaDataType type, float value) {
  if (type == CUDA_R_32F) *reinterpret_cast<float*>(to) = value;
  if (type == CUDA_R_16F) *reinterpret_cast<__half*>(to) = __float2half(value);
  if (type == CUDA_R_16BF) *reinterpret_cast<__nv_bfloat16*>(to) = __float2bfloat16(value);
}

// alpha * the sum over k, + beta * what was in C, and the sum of magnitudes, which bounds the error.
__global__ void Sums(View a, View b, View before, double* sums, double* magnitudes, int m, int n, int k, int batch,
                     double alpha, double beta) {
  const long long count = static_cast<long long>(m) * n * batch;
  for (long long i = blockIdx.x * 256ll + threadIdx.x; i < count; i += gridDim.x * 256ll) {
    const int row = static_cast<int>(i % m);
    const int column = static_cast<int>(i / m % n);
    const int member = static_cast<int>(i / m / n);
    double sum = 0;
    double magnitude = 0;
    for (int j = 0; j < k; ++j) {
      const double product = a.At(row, j, member) * b.At(j, column, member);
      sum += product;
      magnitude += fabs(product);
    }
    sum *= alpha;
    magnitude *= fabs(alpha);
    if (beta != 0) {
      const double old = before.At(row, column, member);
      sum += beta * old;
      magnitude += fabs(beta * old);
    }
    sums[i] = sum;
    magnitudes[i] = magnitude;
  }
}

struct Verdict {
  unsigned long long wrong;
  unsigned long long first;    // index of a wrong element, the least
  unsigned long long touched;  // bytes outside the matrix that changed
  unsigned int worst;          // error / allowed, as the bits of a F32
};

__global__ void Judge(View c, const double* sums, const double* magnitudes, int m, int n, int batch, double relative,
                      double of_magnitude, double largest, Verdict* verdict) {
  const long long count = static_cast<long long>(m) * n * batch;
  for (long long i = blockIdx.x * 256ll + threadIdx.x; i < count; i += gridDim.x * 256ll) {
    const double got = c.At(static_cast<int>(i % m), static_cast<int>(i / m % n), static_cast<int>(i / m / n));
    const double want = sums[i];
    const double allowed = relative * fabs(want) + of_magnitude * magnitudes[i] + 1e-7;
    bool right;
    if (isnan(want)) {
      right = isnan(got);
    } else if (isinf(want)) {
      right = got == want;
    } else if (fabs(want) - allowed > largest) {
      right = isinf(got) && (got > 0) == (want > 0);
    } else if (fabs(want) + allowed >= largest) {
      right = !isnan(got);
    } else {
      right = fabs(got - want) <= allowed;
      atomicMax(&verdict->worst, __float_as_uint(static_cast<float>(fabs(got - want) / allowed)));
    }
    if (!right) {
      atomicAdd(&verdict->wrong, 1ull);
      atomicMin(&verdict->first, static_cast<unsigned long long>(i));
    }
  }
}

// Whether what is no element of C is as it was.
__global__ void FindTouched(const unsigned char* now, const unsigned char* before, long long bytes, long long begin,
                            long long column_bytes, long long ld_bytes, int columns, long long stride_bytes, int batch,
                            Verdict* verdict) {
  for (long long i = blockIdx.x * 256ll + threadIdx.x; i < bytes; i += gridDim.x * 256ll) {
    if (now[i] == before[i]) continue;
    const long long at = i - begin;
    bool inside = false;
    for (int member = 0; member < batch && !inside; ++member) {
      const long long in = at - member * stride_bytes;
      inside = in >= 0 && in / ld_bytes < columns && in % ld_bytes < column_bytes;
    }
    if (!inside) atomicAdd(&verdict->touched, 1ull);
  }
}

}  // namespace

std::string GemmCase::Name() const {
  char text[400];
  std::snprintf(text, sizeof(text),
                "%s%s %dx%dx%d %s>%s compute %d math %d%s%s batch %d%s%s pad %d,%d,%d skip %d,%d,%d alpha %g beta %g%s",
                transpose_a ? "T" : "N", transpose_b ? "T" : "N", m, n, k, NameOf(type), NameOf(type_c), compute, math,
                sgemm ? " sgemm" : "",
                batching == Batching::kNone ? "" : (batching == Batching::kStrided ? " strided" : " pointers"), batch,
                share_a > 1 ? " shared" : "", broadcast_b ? " broadcast" : (interleaved ? " interleaved" : ""), pad_a,
                pad_b, pad_c, skip_a, skip_b, skip_c, alpha, beta,
                values == Values::kNan
                    ? " nan"
                    : (values == Values::kInfinity ? " inf" : (values == Values::kFloats ? " floats" : "")));
  return text;
}

GemmFixture::GemmFixture(const GemmCase& c, uint64_t seed, cudaStream_t stream)
    : case_(c), seed_(seed), stream_(stream) {
  const auto positive = [](int value) { return value > 0 ? value : 1; };
  rows_a_ = c.transpose_a ? c.k : c.m;
  columns_a_ = c.transpose_a ? c.m : c.k;
  rows_b_ = c.transpose_b ? c.n : c.k;
  columns_b_ = c.transpose_b ? c.k : c.n;
  lda_ = positive(rows_a_) + c.pad_a;
  ldb_ = positive(rows_b_) + c.pad_b;
  ldc_ = positive(c.m) + c.pad_c;
  // Strides keep the alignment of columns and leave a gap.
  stride_a_ = static_cast<long long>(lda_) * (columns_a_ + 1);
  stride_b_ = c.broadcast_b ? 0 : static_cast<long long>(ldb_) * (columns_b_ + 1);
  stride_c_ = static_cast<long long>(ldc_) * (c.n + 1);
  if (c.interleaved) {
    // The gap is the padding of each column then.
    stride_a_ = lda_;
    stride_b_ = ldb_;
    lda_ *= c.batch;
    ldb_ *= c.batch;
  }
  const int members_a = (c.batch + c.share_a - 1) / c.share_a;
  const int members_b = c.broadcast_b ? 1 : c.batch;
  const auto make = [&](std::unique_ptr<DeviceBytes>* memory, size_t* elements, long long stride, long long ld,
                        int columns, int members, int skip, cudaDataType type) {
    *elements = static_cast<size_t>(stride) * (members > 0 ? members - 1 : 0) +
                static_cast<size_t>(ld) * (columns + 1) + skip + 512;
    *memory = std::make_unique<DeviceBytes>(*elements * SizeOf(type));
    COLDSTART_NEED(cudaMemsetAsync((*memory)->data(), 0xff, (*memory)->size(), stream));
    return (*memory)->data() + (256 + skip) * SizeOf(type);
  };
  first_a_ = make(&a_, &elements_a_, stride_a_, lda_, columns_a_, members_a, c.skip_a, c.type);
  first_b_ = make(&b_, &elements_b_, stride_b_, ldb_, columns_b_, members_b, c.skip_b, c.type);
  first_c_ = make(&c_, &elements_c_, stride_c_, ldc_, c.n, c.batch, c.skip_c, c.type_c);
  make(&c_before_, &elements_c_, stride_c_, ldc_, c.n, c.batch, c.skip_c, c.type_c);

  const auto fill = [&](char* first, cudaDataType type, int rows, int columns, int members, long long ld,
                        long long stride, uint64_t salt) {
    const size_t count = static_cast<size_t>(rows) * columns * members;
    if (count == 0) return;
    const DeviceBytes packed(count * SizeOf(type));
    if (c.values == Values::kFloats && type == CUDA_R_32F) {
      FillRandomFloats(reinterpret_cast<float*>(packed.data()), count, seed * 4 + salt, stream);
    } else {
      FillRandom(packed.data(), type, count, seed * 4 + salt, stream);
    }
    Spread<<<1056, 256, 0, stream>>>(first, packed.data(), static_cast<int>(SizeOf(type)), rows, columns, members, ld,
                                     stride);
    COLDSTART_NEED(cudaStreamSynchronize(stream));
  };
  fill(first_a_, c.type, rows_a_, columns_a_, members_a, lda_, stride_a_, 0);
  fill(first_b_, c.type, rows_b_, columns_b_, members_b, ldb_, stride_b_, 1);
  if (c.beta != 0)
    fill(c_before_->data() + (256 + c.skip_c) * SizeOf(c.type_c), c.type_c, c.m, c.n, c.batch, ldc_, stride_c_, 2);
  if (c.values == Values::kNan || c.values == Values::kInfinity) {
    // One element of each factor.
    const float value = c.values == Values::kNan ? NAN : INFINITY;
    const long long in_a = seed % rows_a_ + seed / 7 % columns_a_ * lda_;
    const long long in_b = seed / 3 % rows_b_ + seed / 11 % columns_b_ * ldb_;
    SetElement<<<1, 1, 0, stream>>>(first_a_ + in_a * SizeOf(c.type), c.type, value);
    SetElement<<<1, 1, 0, stream>>>(first_b_ + in_b * SizeOf(c.type), c.type, -value);
  }
  verdict_ = std::make_unique<DeviceBytes>(sizeof(Verdict));
  if (c.batching == Batching::kPointers) {
    std::vector<const void*> all;
    for (int i = 0; i < c.batch; ++i) all.push_back(first_a_ + i / c.share_a * stride_a_ * SizeOf(c.type));
    for (int i = 0; i < c.batch; ++i) all.push_back(first_b_ + i * stride_b_ * SizeOf(c.type));
    for (int i = 0; i < c.batch; ++i) all.push_back(first_c_ + i * stride_c_ * SizeOf(c.type_c));
    pointers_ = std::make_unique<DeviceBytes>(all.size() * sizeof(void*) + 8);
    COLDSTART_NEED(cudaMemcpy(pointers_->data(), all.data(), all.size() * sizeof(void*), cudaMemcpyHostToDevice));
  }
  ResetC();
}

void GemmFixture::ResetC() {
  COLDSTART_NEED(cudaMemcpyAsync(c_->data(), c_before_->data(), c_->size(), cudaMemcpyDeviceToDevice, stream_));
}

cublasStatus_t GemmFixture::Run(const Blas& blas, cublasHandle_t handle) {
  const GemmCase& c = case_;
  blas.set_math_mode(handle, c.math);
  const cublasOperation_t op_a = c.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t op_b = c.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  const __half half_alpha = __float2half(c.alpha);
  const __half half_beta = __float2half(c.beta);
  const bool half = c.compute == CUBLAS_COMPUTE_16F;
  const void* alpha = half ? static_cast<const void*>(&half_alpha) : &c.alpha;
  const void* beta = half ? static_cast<const void*>(&half_beta) : &c.beta;
  const auto pointers = [&](int which) { return reinterpret_cast<void**>(pointers_->data()) + which * c.batch; };
  if (c.sgemm) {
    const auto* a = reinterpret_cast<const float*>(first_a_);
    const auto* b = reinterpret_cast<const float*>(first_b_);
    auto* to = reinterpret_cast<float*>(first_c_);
    switch (c.batching) {
      case Batching::kNone:
        return blas.sgemm(handle, op_a, op_b, c.m, c.n, c.k, &c.alpha, a, lda_, b, ldb_, &c.beta, to, ldc_);
      case Batching::kStrided:
        return blas.sgemm_strided(handle, op_a, op_b, c.m, c.n, c.k, &c.alpha, a, lda_, stride_a_, b, ldb_, stride_b_,
                                  &c.beta, to, ldc_, stride_c_, c.batch);
      case Batching::kPointers:
        return blas.sgemm_pointers(handle, op_a, op_b, c.m, c.n, c.k, &c.alpha, reinterpret_cast<float**>(pointers(0)),
                                   lda_, reinterpret_cast<float**>(pointers(1)), ldb_, &c.beta,
                                   reinterpret_cast<float**>(pointers(2)), ldc_, c.batch);
    }
  }
  switch (c.batching) {
    case Batching::kNone:
      return blas.gemm(handle, op_a, op_b, c.m, c.n, c.k, alpha, first_a_, c.type, lda_, first_b_, c.type, ldb_, beta,
                       first_c_, c.type_c, ldc_, c.compute, CUBLAS_GEMM_DEFAULT_TENSOR_OP);
    case Batching::kStrided:
      return blas.gemm_strided(handle, op_a, op_b, c.m, c.n, c.k, alpha, first_a_, c.type, lda_, stride_a_, first_b_,
                               c.type, ldb_, stride_b_, beta, first_c_, c.type_c, ldc_, stride_c_, c.batch, c.compute,
                               CUBLAS_GEMM_DEFAULT_TENSOR_OP);
    case Batching::kPointers:
      return blas.gemm_pointers(handle, op_a, op_b, c.m, c.n, c.k, alpha, pointers(0), c.type, lda_, pointers(1),
                                c.type, ldb_, beta, pointers(2), c.type_c, ldc_, c.batch, c.compute,
                                CUBLAS_GEMM_DEFAULT_TENSOR_OP);
  }
  return CUBLAS_STATUS_INTERNAL_ERROR;
}

GemmProblem GemmFixture::Problem() const {
  const GemmCase& c = case_;
  const auto element = [](cudaDataType type) {
    return type == CUDA_R_32F ? Element::kF32 : (type == CUDA_R_16F ? Element::kF16 : Element::kBf16);
  };
  GemmProblem problem;
  problem.transpose_a = c.transpose_a;
  problem.transpose_b = c.transpose_b;
  problem.m = c.m;
  problem.n = c.n;
  problem.k = c.k;
  problem.batch = c.batch;
  problem.alpha = c.alpha;
  problem.beta = c.beta;
  problem.type_ab = element(c.type);
  problem.type_c = element(c.type_c);
  problem.tf32 = c.type == CUDA_R_32F && c.math == CUBLAS_TF32_TENSOR_OP_MATH;
  problem.a.ld = lda_;
  problem.b.ld = ldb_;
  problem.c.ld = ldc_;
  if (c.batching == Batching::kPointers) {
    const auto* all = reinterpret_cast<const void* const*>(pointers_->data());
    problem.a.pointers = all;
    problem.b.pointers = all + c.batch;
    problem.c.pointers = all + 2 * c.batch;
  } else {
    problem.a.base = first_a_;
    problem.b.base = first_b_;
    problem.c.base = first_c_;
    problem.a.stride = c.batching == Batching::kNone ? 0 : stride_a_;
    problem.b.stride = c.batching == Batching::kNone ? 0 : stride_b_;
    problem.c.stride = c.batching == Batching::kNone ? 0 : stride_c_;
  }
  return problem;
}

void GemmFixture::ComputeSums() {
  const GemmCase& c = case_;
  const size_t count = static_cast<size_t>(c.m) * c.n * c.batch;
  sums_ = std::make_unique<DeviceBytes>(count * 8 + 8);
  magnitudes_ = std::make_unique<DeviceBytes>(count * 8 + 8);
  const View a{first_a_, c.type, c.transpose_a ? lda_ : 1ll, c.transpose_a ? 1ll : lda_, stride_a_, c.share_a};
  const View b{first_b_, c.type, c.transpose_b ? ldb_ : 1ll, c.transpose_b ? 1ll : ldb_, stride_b_, 1};
  const View before{c_before_->data() + (256 + c.skip_c) * SizeOf(c.type_c), c.type_c, 1, ldc_, stride_c_, 1};
  Sums<<<1056, 256, 0, stream_>>>(a, b, before, reinterpret_cast<double*>(sums_->data()),
                                  reinterpret_cast<double*>(magnitudes_->data()), c.m, c.n, c.k, c.batch, c.alpha,
                                  c.beta);
  COLDSTART_NEED(cudaGetLastError());
}

std::string GemmFixture::Compare(double* worst) {
  const GemmCase& c = case_;
  if (sums_ == nullptr) ComputeSums();
  Verdict verdict{0, ~0ull, 0, 0};
  COLDSTART_NEED(cudaMemcpyAsync(verdict_->data(), &verdict, sizeof(verdict), cudaMemcpyHostToDevice, stream_));
  auto* on_device = reinterpret_cast<Verdict*>(verdict_->data());
  // One rounding of the result, and the sum's own: a few units in the last place of F32 for each 64 along k. Factors
  // with all the bits of F32 lose 13 of them as TF32, each.
  double relative = c.type_c == CUDA_R_32F ? std::ldexp(1, -23)
                                           : (c.type_c == CUDA_R_16F ? std::ldexp(1.0, -11) : std::ldexp(1.0, -8));
  double of_magnitude = std::ldexp(1.0, -22) * (4 + c.k / 64.0);
  if (c.values == Values::kFloats && c.type == CUDA_R_32F && c.math == CUBLAS_TF32_TENSOR_OP_MATH) {
    of_magnitude += std::ldexp(2.2, -10);
  }
  relative *= 1.01;
  const double largest = c.type_c == CUDA_R_16F ? 65520.0 : 3e38;
  const View result{first_c_, c.type_c, 1, ldc_, stride_c_, 1};
  Judge<<<1056, 256, 0, stream_>>>(result, reinterpret_cast<double*>(sums_->data()),
                                   reinterpret_cast<double*>(magnitudes_->data()), c.m, c.n, c.batch, relative,
                                   of_magnitude, largest, on_device);
  const long long size = static_cast<long long>(SizeOf(c.type_c));
  FindTouched<<<1056, 256, 0, stream_>>>(reinterpret_cast<unsigned char*>(c_->data()),
                                         reinterpret_cast<unsigned char*>(c_before_->data()),
                                         static_cast<long long>(c_->size()), first_c_ - c_->data(), c.m * size,
                                         ldc_ * size, c.n, stride_c_ * size, c.batch, on_device);
  COLDSTART_NEED(cudaGetLastError());
  COLDSTART_NEED(cudaMemcpyAsync(&verdict, on_device, sizeof(verdict), cudaMemcpyDeviceToHost, stream_));
  COLDSTART_NEED(cudaStreamSynchronize(stream_));
  float share;
  std::memcpy(&share, &verdict.worst, sizeof(share));
  *worst = share;
  char text[300];
  if (verdict.wrong != 0) {
    const auto at = static_cast<long long>(verdict.first);
    std::snprintf(text, sizeof(text), "%llu of %lld elements are wrong, first row %lld column %lld member %lld",
                  verdict.wrong, static_cast<long long>(c.m) * c.n * c.batch, at % c.m, at / c.m % c.n, at / c.m / c.n);
    return text;
  }
  if (verdict.touched != 0) {
    std::snprintf(text, sizeof(text), "%llu bytes outside of C were written", verdict.touched);
    return text;
  }
  return "";
}

std::vector<unsigned char> GemmFixture::BytesOfC() const {
  std::vector<unsigned char> bytes(c_->size());
  COLDSTART_NEED(cudaMemcpyAsync(bytes.data(), c_->data(), bytes.size(), cudaMemcpyDeviceToHost, stream_));
  COLDSTART_NEED(cudaStreamSynchronize(stream_));
  return bytes;
}

}  // namespace coldstart::cuda
