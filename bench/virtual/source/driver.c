/* The driver, as PyTorch looks it up by name and as the real cuDNN does. */
#define _GNU_SOURCE
#include "card.h"
#include <dlfcn.h>
#include <string.h>

int cudaDeviceGetAttribute(int *value, int attribute, int device);
const char *cudaGetErrorName(int status);
const char *cudaGetErrorString(int status);

/* What is not here is not found, which PyTorch says by itself where it needs it. */
int cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version, unsigned long long flags,
                                     int *status) {
    enum { FOUND, SYMBOL_NOT_FOUND };
    *function = dlsym(RTLD_DEFAULT, name);
    if (status) *status = *function ? FOUND : SYMBOL_NOT_FOUND;
    return 0;
}

/* NVIDIA's hidden tables are left alone. These two fail, so that a statically linked runtime, as cuDNN has, finds no
 * driver and gives up; answered half, it would go on and die. */
int cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) { *function = NULL; return NOT_FOUND; }
int cuGetExportTable(const void **table, const void *id) { *table = NULL; return NOT_FOUND; }

int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
    if (status) *status = 1;
    return cuGetProcAddress(name, function, version, flags);
}

int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = CUDA_VERSION; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 0; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { return cudaDeviceGetAttribute(value, attribute, device); }
int cuDeviceGetName(char *name, int room, int device) { strncpy(name, card.name, room); return 0; }
int cuDeviceGetUuid(char *uuid, int device) { memset(uuid, 1, 16); return 0; }
int cuGetErrorName(int status, const char **text) { *text = cudaGetErrorName(status); return 0; }
int cuGetErrorString(int status, const char **text) { *text = cudaGetErrorString(status); return 0; }

/* One context, always there. */
static void *context(void) { static void *one; return one ? one : (one = new_handle()); }
int cuCtxGetCurrent(void **current) { *current = context(); return 0; }
int cuCtxSetCurrent(void *current) { return 0; }
int cuCtxPushCurrent(void *current) { return 0; }
int cuCtxPopCurrent(void **current) { if (current) *current = context(); return 0; }
int cuCtxGetDevice(int *device) { *device = 0; return 0; }
int cuStreamGetCtx(void *stream, void **current) { *current = context(); return 0; }
int cuStreamIsCapturing(void *stream, int *status) { *status = 0; return 0; }
int cuDevicePrimaryCtxRetain(void **current, int device) { *current = context(); return 0; }

int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    if (flags) *flags = 0;
    if (active) *active = 1;
    return 0;
}

/* Modules and kernels that are compiled at run time: loaded without being looked at. */
#define LOADS(name) int name(void **handle) { *handle = new_handle(); return 0; }
LOADS(cuLibraryLoadData) LOADS(cuLibraryLoadFromFile) LOADS(cuLibraryGetKernel) LOADS(cuLibraryGetModule)
LOADS(cuKernelGetFunction) LOADS(cuLinkCreate) LOADS(cuLinkCreate_v2) LOADS(cuModuleLoad) LOADS(cuModuleLoadData)
LOADS(cuModuleLoadDataEx) LOADS(cuModuleGetFunction) LOADS(cudaLibraryLoadData) LOADS(cudaLibraryGetKernel)

/* Threads per block, registers; nothing of local and shared memory. */
int cuFuncGetAttribute(int *value, int attribute, void *kernel) {
    *value = attribute == 0 ? 1024 : attribute == 4 ? 32 : 0;
    return 0;
}

int cuKernelGetAttribute(int *value, int attribute, void *kernel, int device) {
    return cuFuncGetAttribute(value, attribute, kernel);
}

int cuPointerGetAttribute(uintptr_t *value, int attribute, uintptr_t pointer) {
    enum { DEVICE_POINTER = 3 };
    if (attribute != DEVICE_POINTER) return refuse("cuPointerGetAttribute", NOT_SUPPORTED);
    *value = pointer;
    return 0;
}

int cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *kernel, int threads, size_t shared_bytes);
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *kernel, int threads, size_t shared_bytes) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, kernel, threads, shared_bytes);
}

#define DOES_NOTHING(name) int name(void) { return 0; }
#define COMPUTES(name) int name(void) { content_is_computed(); return 0; }
COMPUTES(cuLaunchKernel) COMPUTES(cuLaunchKernelEx) COMPUTES(cuLaunchCooperativeKernel) COMPUTES(cuMemsetD32Async)
DOES_NOTHING(cuFuncSetAttribute) DOES_NOTHING(cuFuncSetCacheConfig) DOES_NOTHING(cuFuncLoad)
DOES_NOTHING(cuKernelSetAttribute) DOES_NOTHING(cuLibraryUnload) DOES_NOTHING(cuModuleUnload)
DOES_NOTHING(cuLinkAddData) DOES_NOTHING(cuLinkAddData_v2) DOES_NOTHING(cuLinkComplete) DOES_NOTHING(cuLinkDestroy)
DOES_NOTHING(cuStreamSynchronize) DOES_NOTHING(cuStreamWriteValue32)
DOES_NOTHING(cuTensorMapEncodeTiled) DOES_NOTHING(cuTensorMapEncodeIm2col)
DOES_NOTHING(cuOccupancyMaxPotentialClusterSize) DOES_NOTHING(cuOccupancyMaxActiveClusters)
DOES_NOTHING(cuCtxGetId) DOES_NOTHING(cuCtxGetLimit) DOES_NOTHING(cuCtxSetLimit) DOES_NOTHING(cuCtxSynchronize)
DOES_NOTHING(cuFuncIsLoaded) DOES_NOTHING(cuMemFree) DOES_NOTHING(cuMemFree_v2) DOES_NOTHING(cuMemcpyHtoD)
DOES_NOTHING(cuMemcpyHtoD_v2) DOES_NOTHING(cuLogsRegisterCallback) DOES_NOTHING(cuLogsUnregisterCallback)

/* Found, so that PyTorch's table of the driver is whole, but not known. */
#define REFUSED(name) int name(void) { return refuse(#name, NOT_SUPPORTED); }
REFUSED(cuMemGetAddressRange) REFUSED(cuMemGetAddressRange_v2) REFUSED(cuMemExportToShareableHandle)
REFUSED(cuMemImportFromShareableHandle) REFUSED(cuMemRetainAllocationHandle)
REFUSED(cuMemGetAllocationPropertiesFromHandle) REFUSED(cuMulticastCreate) REFUSED(cuMulticastAddDevice)
REFUSED(cuMulticastBindMem) REFUSED(cuMulticastUnbind) REFUSED(cuGreenCtxCreate) REFUSED(cuGreenCtxDestroy)
REFUSED(cuGreenCtxStreamCreate) REFUSED(cuCtxFromGreenCtx) REFUSED(cuDevSmResourceSplitByCount)
REFUSED(cuDeviceGetDevResource) REFUSED(cuDevResourceGenerateDesc) REFUSED(cuModuleGetGlobal)
REFUSED(cuLibraryGetGlobal) REFUSED(cuMemAlloc) REFUSED(cuMemAlloc_v2) REFUSED(cuMemcpyDtoH) REFUSED(cuMemcpyDtoH_v2)
