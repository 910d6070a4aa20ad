/* The device: properties, streams, events, launches. */
#include "card.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WARP = 32, THREADS_PER_BLOCK = 1024, REGISTERS_PER_THREAD = 32 };
const int largest_grid[3] = {2147483647, 65535, 65535}, largest_block[3] = {THREADS_PER_BLOCK, THREADS_PER_BLOCK, 64};

/* struct cudaDeviceProp, up to the last field that is set and as long as it is. */
struct properties {
    char name[256], uuid[16], luid[8];
    unsigned luid_mask;
    size_t total_bytes, shared_bytes_per_block;
    int registers_per_block, warp;
    size_t pitch;
    int threads_per_block, block[3], grid[3];
    IN_12(int clock_khz;)
    size_t constant_bytes;
    int major, minor;
    size_t texture_alignment, texture_pitch_alignment;
    IN_12(int overlaps;)
    int multiprocessors;
    IN_12(int has_time_limit;)
    int integrated, can_map_host_memory;
    IN_12(int compute_mode, textures_by_line;)
    int textures_and_surfaces[39];
    size_t surface_alignment;
    int concurrent_kernels, ecc, pci_bus, pci_device, pci_domain, tcc, async_engines, unified_addressing;
    IN_12(int memory_clock_khz;)
    int memory_bus_bits, l2_bytes, persisting_l2_bytes, threads_per_multiprocessor, stream_priorities, l1[2];
    size_t shared_bytes_per_multiprocessor;
    int registers_per_multiprocessor, managed[8 IN_12(+ 1)], cooperative_launch;
    IN_12(int cooperative_launch_on_several;)
    size_t shared_bytes_per_block_optin;
    int page_tables[2], blocks_per_multiprocessor, access_policy_bytes;
    size_t reserved_shared_bytes_per_block;
    int rest[76];
};
_Static_assert(offsetof(struct properties, multiprocessors) == IN_12(388) IN_13(384), "as in driver_types.h");
_Static_assert(sizeof(struct properties) == IN_12(1032) IN_13(1008), "as in driver_types.h");

int cudaGetDeviceProperties(struct properties *p, int device) {
    memset(p, 0, sizeof *p);
    strcpy(p->name, card.name);
    memset(p->uuid, 1, sizeof p->uuid);
    p->total_bytes = card.total_bytes;
    p->shared_bytes_per_block = card.shared_bytes_per_block;
    p->registers_per_block = p->registers_per_multiprocessor = card.registers_per_multiprocessor;
    p->warp = WARP;
    p->pitch = 2147483647;
    p->threads_per_block = THREADS_PER_BLOCK;
    memcpy(p->block, largest_block, sizeof largest_block);
    memcpy(p->grid, largest_grid, sizeof largest_grid);
    p->constant_bytes = 65536;
    p->major = card.major;
    p->minor = card.minor;
    p->texture_alignment = p->surface_alignment = 512;
    p->texture_pitch_alignment = WARP;
    p->multiprocessors = card.multiprocessors;
    p->can_map_host_memory = p->concurrent_kernels = p->unified_addressing = p->cooperative_launch = 1;
    p->pci_bus = 1;
    p->async_engines = 2;
    p->memory_bus_bits = card.memory_bus_bits;
    p->l2_bytes = card.l2_bytes;
    p->threads_per_multiprocessor = card.threads_per_multiprocessor;
    p->stream_priorities = p->l1[0] = p->l1[1] = 1;
    p->shared_bytes_per_multiprocessor = card.shared_bytes_per_multiprocessor;
    p->shared_bytes_per_block_optin = card.shared_bytes_per_block_optin;
    p->blocks_per_multiprocessor = card.blocks_per_multiprocessor;
    p->reserved_shared_bytes_per_block = card.reserved_shared_bytes_per_block;
    return 0;
}

/* cudaDeviceAttr, the same numbers as CUdevice_attribute. */
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 1: *value = THREADS_PER_BLOCK; break;
    case 2: case 3: case 4: *value = largest_block[attribute - 2]; break;
    case 5: case 6: case 7: *value = largest_grid[attribute - 5]; break;
    case 8: *value = card.shared_bytes_per_block; break;
    case 9: *value = 65536; break;                            /* constant memory */
    case 10: *value = WARP; break;
    case 11: *value = 2147483647; break;                      /* pitch */
    case 12: case 82: *value = card.registers_per_multiprocessor; break;
    case 13: *value = card.clock_khz; break;
    case 14: *value = 512; break;                             /* alignment of textures */
    case 16: *value = card.multiprocessors; break;
    case 19: case 31: case 41: case 78: case 95: *value = 1; break; /* maps host memory, concurrent kernels, unified
                                                               addresses, stream priorities, cooperative launches */
    case 33: *value = 1; break;                               /* PCI bus */
    case 36: *value = card.memory_clock_khz; break;
    case 37: *value = card.memory_bus_bits; break;
    case 38: *value = card.l2_bytes; break;
    case 39: *value = card.threads_per_multiprocessor; break;
    case 40: *value = 2; break;                               /* copy engines */
    case 75: *value = card.major; break;
    case 76: *value = card.minor; break;
    case 81: *value = card.shared_bytes_per_multiprocessor; break;
    case 97: *value = card.shared_bytes_per_block_optin; break;
    case 102: *value = 1; break;                              /* virtual-memory calls */
    case 106: *value = card.blocks_per_multiprocessor; break;
    case 111: *value = card.reserved_shared_bytes_per_block; break;
    case 120: *value = card.major >= 9; break;                /* clusters */
    default: *value = 0;
    }
    return 0;
}

int cudaGetDeviceCount(int *count) { *count = card.total_bytes > 0; return 0; }
int cudaGetDevice(int *device) { *device = 0; return 0; }
int cudaSetDevice(int device) { return device ? INVALID_DEVICE : 0; }
int cudaDeviceCanAccessPeer(int *can, int device, int peer) { *can = 0; return 0; }
int cudaDeviceGetPCIBusId(char *text, int room, int device) { snprintf(text, room, "0000:01:00.0"); return 0; }
int cudaDriverGetVersion(int *version) { *version = CUDA_VERSION; return 0; }
int cudaRuntimeGetVersion(int *version) { *version = CUDA_VERSION; return 0; }
int cudaGetLastError(void) { return 0; }
int cudaPeekAtLastError(void) { return 0; }
const char *cudaGetErrorName(int status) {
    return status == OUT_OF_MEMORY ? "cudaErrorMemoryAllocation" : status == INVALID_DEVICE ? "cudaErrorInvalidDevice" : "virtual";
}

const char *cudaGetErrorString(int status) {
    return status == OUT_OF_MEMORY    ? "out of memory"
           : status == INVALID_DEVICE ? "invalid device ordinal"
                                      : "not supported by the virtual card";
}

/* Streams and events: everything is done at once; time is the host's. */

int cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return 0;
}

int cudaStreamGetPriority(void *stream, int *priority) { *priority = 0; return 0; }
int cudaStreamIsCapturing(void *stream, int *status) { *status = 0; return 0; }

int cudaStreamGetCaptureInfo(void *stream, int *status, unsigned long long *id, void **graph, void **dependencies,
                             IN_13(void **edges,) size_t *count) {
    *status = 0;
    if (id) *id = 0;
    if (count) *count = 0;
    return 0;
}

int cudaThreadExchangeStreamCaptureMode(int *mode) { return 0; }
int cudaStreamBeginCapture(void *stream, int mode) { return refuse("cudaStreamBeginCapture", NOT_SUPPORTED); }
int cudaLaunchHostFunc(void *stream, void (*function)(void *), void *data) { function(data); return 0; }

int cudaStreamAddCallback(void *stream, void (*function)(void *, int, void *), void *data, unsigned flags) {
    function(stream, 0, data);
    return 0;
}

int cudaEventRecord(struct timespec *event, void *stream) { clock_gettime(CLOCK_MONOTONIC, event); return 0; }
int cudaEventRecordWithFlags(void *event, void *stream, unsigned flags) { return cudaEventRecord(event, stream); }

int cudaEventElapsedTime(float *milliseconds, struct timespec *start, struct timespec *end) {
    *milliseconds = (end->tv_sec - start->tv_sec) * 1e3f + (end->tv_nsec - start->tv_nsec) / 1e6f;
    return 0;
}

/* Kernels: registered, asked about, launched; nothing runs. Those that select elements by value are remembered. */

static const char *const selections[] = {"DeviceSelect", "nonzero", "unique", "DeviceUnique"};
static const void *selecting[4096];
static int selecting_count, selections_launched;

void **__cudaRegisterFatBinary(void *binary) { static void *handle[8]; return handle; }
void __cudaRegisterFatBinaryEnd(void **handle) {}
void __cudaUnregisterFatBinary(void **handle) {}
char __cudaInitModule(void **handle) { return 0; }
void __cudaRegisterVar(void **handle, char *variable) {}

void __cudaRegisterFunction(void **handle, const char *kernel, char *function, const char *name) {
    for (size_t i = 0; i < sizeof selections / sizeof *selections; i++)
        if (strstr(name, selections[i]) && selecting_count < 4096) {
            selecting[selecting_count++] = kernel;
            return;
        }
}

int64_t virtual_card_selections(void) { return selections_launched; }

void note_launch(const void *kernel) {
    content_is_computed();
    for (int i = 0; i < selecting_count; i++)
        if (selecting[i] == kernel) selections_launched++;
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes, void *stream) { return 0; }

int __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared_bytes, void **stream) {
    *grid = *block = (dim3){1, 1, 1};
    *shared_bytes = 0;
    *stream = NULL;
    return 0;
}

int __cudaGetKernel(const void **kernel, const void *function) { *kernel = function; return 0; }
int cudaLaunchKernel(const void *kernel) { note_launch(kernel); return 0; }
int __cudaLaunchKernel(const void *kernel) { note_launch(kernel); return 0; }
int cudaLaunchCooperativeKernel(const void *kernel) { note_launch(kernel); return 0; }
int cudaLaunchKernelExC(const void *configuration, const void *kernel) { note_launch(kernel); return 0; }

/* No kernel's registers or static shared memory are read: each is taken to have 32 registers a thread. */
int cudaFuncGetAttributes(struct {
    size_t shared_bytes, constant_bytes, local_bytes;
    int threads_per_block, registers, ptx, binary, cache, dynamic_shared_bytes, rest[23];
} *attributes, const void *kernel) {
    memset(attributes, 0, sizeof *attributes);
    attributes->threads_per_block = THREADS_PER_BLOCK;
    attributes->registers = REGISTERS_PER_THREAD;
    attributes->ptx = attributes->binary = 10 * card.major + card.minor;
    attributes->dynamic_shared_bytes = card.shared_bytes_per_block;
    return 0;
}

int cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *kernel, int threads, size_t shared_bytes) {
    int64_t warps = (threads + WARP - 1) / WARP, most = card.blocks_per_multiprocessor;
    int64_t by_threads = warps ? card.threads_per_multiprocessor / (warps * WARP) : most;
    int64_t by_registers = warps ? card.registers_per_multiprocessor / (warps * WARP * REGISTERS_PER_THREAD) : most;
    int64_t shared = shared_bytes + card.reserved_shared_bytes_per_block;
    int64_t by_shared = shared ? card.shared_bytes_per_multiprocessor / shared : most;
    if (by_threads < most) most = by_threads;
    if (by_registers < most) most = by_registers;
    *blocks = by_shared < most ? by_shared : most;
    return 0;
}

int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *kernel, int threads,
                                                           size_t shared_bytes, unsigned flags) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, kernel, threads, shared_bytes);
}

/* A variable of a module: an address without content. */
int cudaGetSymbolAddress(void **address, const void *symbol) {
    static void *variable;
    if (!variable) variable = device_address(65536);
    *address = variable;
    return 0;
}
