// A CUDA device that is not there: counts bytes and hands out ascending addresses that nobody ever touches.
//
// Here stand the functions of the runtime, the driver and NVML whose answers the caching allocator looks at. The
// others that libc10_cuda.so imports are added by the build: they succeed and do nothing.

#include "cuda.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <unordered_map>

namespace {

constexpr uintptr_t kPage = 2 << 20;  // the least that a device hands out

const size_t total_bytes = strtoull(getenv("ORACLE_TOTAL_BYTES"), nullptr, 10);
size_t used_bytes = 0;

bool take(size_t size) {
  if (size > total_bytes - used_bytes) return false;
  used_bytes += size;
  return true;
}

uintptr_t reserve_addresses(size_t size) {
  static uintptr_t next = uintptr_t{1} << 32;
  const uintptr_t address = next;
  next += (size + kPage - 1) / kPage * kPage;
  return address;
}

std::unordered_map<void*, size_t> segments;  // bytes of what cudaMalloc gave

}  // namespace

extern "C" {

// The runtime.

cudaError_t cudaMalloc(void** pointer, size_t size) {
  if (!take(size)) return cudaErrorMemoryAllocation;
  *pointer = reinterpret_cast<void*>(reserve_addresses(size));
  segments[*pointer] = size;
  return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  used_bytes -= segments.at(pointer);
  segments.erase(pointer);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = total_bytes - used_bytes;
  *total = total_bytes;
  return cudaSuccess;
}

struct DeviceProperties {  // cudaDeviceProp begins like this
  char name[256], uuid[16], luid[8];
  unsigned int luid_device_node_mask;
  size_t total_global_mem;
};

cudaError_t cudaGetDeviceProperties(DeviceProperties* properties, int) {
  properties->total_global_mem = total_bytes;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus* status, ...) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

const char* cudaGetErrorName(cudaError_t) { return "cudaError"; }
const char* cudaGetErrorString(cudaError_t) { return "an error of the simulated device"; }

// The driver, for expandable segments. A handle to physical memory is its size.

int cuMemAddressReserve(uintptr_t* address, size_t size, size_t, uintptr_t, unsigned long long) {
  *address = reserve_addresses(size);
  return cudaSuccess;
}

int cuMemCreate(size_t* handle, size_t size, const void*, unsigned long long) {
  *handle = size;
  return take(size) ? cudaSuccess : cudaErrorMemoryAllocation;
}

int cuMemRelease(size_t handle) {
  used_bytes -= handle;
  return cudaSuccess;
}

int cuMemGetAllocationGranularity(size_t* granularity, const void*, int) {
  *granularity = kPage;
  return cudaSuccess;
}

int cuDeviceGetAttribute(int* value, int, int) {
  *value = 0;
  return cudaSuccess;
}

int cuGetErrorString(cudaError_t error, const char** text) {
  *text = cudaGetErrorString(error);
  return cudaSuccess;
}

int succeed() { return cudaSuccess; }

cudaError_t cudaGetDriverEntryPointByVersion(
    const char* name, void** function, unsigned, unsigned long long, int* status) {
  const struct { const char* name; void* function; } known[] = {
      {"cuMemAddressReserve", (void*)cuMemAddressReserve},
      {"cuMemCreate", (void*)cuMemCreate},
      {"cuMemRelease", (void*)cuMemRelease},
      {"cuMemGetAllocationGranularity", (void*)cuMemGetAllocationGranularity},
      {"cuDeviceGetAttribute", (void*)cuDeviceGetAttribute},
      {"cuGetErrorString", (void*)cuGetErrorString},
  };
  *function = (void*)succeed;
  for (const auto& entry : known)
    if (strcmp(entry.name, name) == 0) *function = entry.function;
  if (status) *status = 0;
  return cudaSuccess;
}

// NVML: it knows no device, hence no fabric and no processes on it.

int nvmlInit_v2() { return 0; }
int nvmlDeviceGetHandleByPciBusId_v2() { return 0; }
int nvmlDeviceGetNvLinkRemoteDeviceType() { return 0; }
int nvmlDeviceGetNvLinkRemotePciInfo_v2() { return 0; }
int nvmlSystemGetCudaDriverVersion_v2() { return 0; }
int nvmlDeviceGetComputeRunningProcesses(void*, unsigned* count, void*) {
  *count = 0;
  return 0;
}

}  // extern "C"
