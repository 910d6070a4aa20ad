/* cuBLAS, cuFFT, NCCL and NVML, where doing nothing would not do. The rest is generated (bench/virtual/symbols.py). */
#include "card.h"
#include <string.h>

/* cuBLAS. PyTorch gives it a workspace whose size it decides by itself, so that no size is asked. */

int cublasGetMathMode(void *handle, int *mode) { *mode = 0; return 0; }
int cublasGetPointerMode_v2(void *handle, int *mode) { *mode = 0; return 0; }
int cublasGetVersion_v2(void *handle, int *version) { *version = CUDA_VERSION * 10; return 0; }
size_t cublasLtGetVersion(void) { return CUDA_VERSION * 10; }

struct heuristic { uint64_t algorithm[8]; size_t workspace_bytes; int status; float waves; int rest[4]; };

int cublasLtMatmulAlgoGetHeuristic(void *handle, void *operation, void *a, void *b, void *c, void *d, void *preference,
                                   int wanted, struct heuristic *found, int *count) {
    memset(found, 0, sizeof *found);
    *count = 1;
    return 0;
}

/* What is solved in batches tells the host in `info` which argument is wrong: none. */
#define SOLVES_IN_BATCHES(type) \
    int cublas##type##geqrfBatched(void *handle, int m, int n, void *a, int lda, void *tau, int *info, int batch) \
    { content_is_computed(); *info = 0; return 0; } \
    int cublas##type##getrsBatched(void *handle, int transposed, int n, int count, void *a, int lda, void *pivots, void *b, \
                                   int ldb, int *info, int batch) \
    { content_is_computed(); *info = 0; return 0; } \
    int cublas##type##gelsBatched(void *handle, int transposed, int m, int n, int count, void *a, int lda, void *c, int ldc, \
                                  int *info, void *infos, int batch) \
    { content_is_computed(); *info = 0; return 0; }
SOLVES_IN_BATCHES(S) SOLVES_IN_BATCHES(D) SOLVES_IN_BATCHES(C) SOLVES_IN_BATCHES(Z)

/* cuFFT. The work area of a plan depends on kernels that cannot be asked without a device: it is as often as the caller
 * says the larger of input and output, of which the complex one has half of the last dimension where the other is real. */

int cufftCreate(int *plan) { static int plans; *plan = ++plans; return 0; }

enum { REAL_DOUBLE = 1, REAL_HALF = 2, COMPLEX = 4 }; /* cudaDataType_t: CUDA_R_32F is 0, CUDA_C_32F is 4, and so on */

static size_t number_bytes(int type) {
    size_t part = (type & ~COMPLEX) == REAL_DOUBLE ? 8 : (type & ~COMPLEX) == REAL_HALF ? 2 : 4;
    return type & COMPLEX ? 2 * part : part;
}

int cufftXtMakePlanMany(int plan, int rank, const long long *n, void *inembed, long long istride, long long idist, int itype,
                        void *onembed, long long ostride, long long odist, int otype, long long batch,
                        size_t *work_bytes, int execution) {
    size_t before = batch, last = n[rank - 1], half = last / 2 + 1;
    for (int i = 0; i + 1 < rank; i++) before *= n[i];
    size_t in = before * (itype & COMPLEX && !(otype & COMPLEX) ? half : last) * number_bytes(itype);
    size_t out = before * (otype & COMPLEX && !(itype & COMPLEX) ? half : last) * number_bytes(otype);
    (card.fft_work_times ? note_upper_bound : note_lower_bound)("cufftXtMakePlanMany");
    *work_bytes = card.fft_work_times * (in > out ? in : out);
    return 0;
}

/* NCCL for one process: every collective is with itself. */

int ncclGetVersion(int *version) { *version = 22807; return 0; }
int ncclGetUniqueId(char *id) { memset(id, 1, 128); return 0; }
const char *ncclGetErrorString(int status) { return "not supported by the virtual card"; }
const char *ncclGetLastError(void *communicator) { return ncclGetErrorString(0); }
int ncclCommCount(void *communicator, int *count) { *count = 1; return 0; }
int ncclCommUserRank(void *communicator, int *rank) { *rank = 0; return 0; }
int ncclCommGetAsyncError(void *communicator, int *status) { *status = 0; return 0; }

static int communicator(void **handle, int ranks, const char *function) {
    enum { INVALID_USAGE = 5 };
    if (ranks > 1) return refuse(function, INVALID_USAGE);
    *handle = new_handle();
    return 0;
}

struct unique_id { char bytes[128]; };
int ncclCommInitRank(void **handle, int ranks, struct unique_id id, int rank) {
    return communicator(handle, ranks, "ncclCommInitRank of several ranks");
}
int ncclCommInitRankConfig(void **handle, int ranks, struct unique_id id, int rank, void *configuration) {
    return communicator(handle, ranks, "ncclCommInitRankConfig of several ranks");
}

static size_t bytes_of(size_t count, int type) {
    static const char each[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1}; /* ncclDataType_t */
    return type >= 0 && type < (int)sizeof each ? count * each[type] : 0;
}

int ncclAllGather(const void *from, void *to, size_t count, int type, void *communicator, void *stream) {
    content_is_copied(to, from, bytes_of(count, type));
    return 0;
}
int ncclBroadcast(const void *from, void *to, size_t count, int type, int root, void *communicator, void *stream) {
    return ncclAllGather(from, to, count, type, communicator, stream);
}
int ncclAllReduce(const void *from, void *to, size_t count, int type, int how, void *communicator, void *stream) {
    return ncclAllGather(from, to, count, type, communicator, stream);
}

/* NVML: one device with what the card has in use. */

int nvmlInit_v2(void) { return 0; }
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int status) { return "not supported by the virtual card"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = new_handle(); return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **device) { *device = new_handle(); return 0; }
int nvmlDeviceGetHandleByUUID(const char *id, void **device) { *device = new_handle(); return 0; }
int nvmlDeviceGetName(void *device, char *name, unsigned room) { strncpy(name, card.name, room); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = CUDA_VERSION; return 0; }

int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *total_free_used) {
    total_free_used[0] = card.total_bytes;
    total_free_used[2] = used_bytes();
    total_free_used[1] = total_free_used[0] - total_free_used[2];
    return 0;
}

#define NO_PROCESSES(name) int name(void *device, unsigned *count, void *processes) { *count = 0; return 0; }
NO_PROCESSES(nvmlDeviceGetComputeRunningProcesses) NO_PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2)
NO_PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3)
int nvmlDeviceGetUtilizationRates(void *device, unsigned *kernels_memory) { kernels_memory[0] = kernels_memory[1] = 0; return 0; }
int nvmlDeviceGetClockInfo(void *device, int kind, unsigned *mhz) { *mhz = card.clock_khz / 1000; return 0; }
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius) { return 3; } /* NVML_ERROR_NOT_SUPPORTED */
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) { return 3; }
int nvmlDeviceGetNvLinkRemoteDeviceType(void) { return 3; }
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void) { return 3; }
int nvmlDeviceGetGpuFabricInfoV(void) { return 3; }
